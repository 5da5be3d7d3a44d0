"""Looks for due jobs every `polling_delay`, whatever was notified; and returns what was claimed ahead in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from perdure.worker.service import Service

if TYPE_CHECKING:
    from perdure.worker.executor import Executor

__all__ = ["Poller", "PollerOwner"]


class PollerOwner(Protocol):
    """What the poller needs of its worker."""

    polling_seconds: float
    executor: Executor

    def wake(self) -> None:
        """There may be due jobs."""


class Poller(Service):
    """The poll behind all notifications."""

    name = "poller"

    def __init__(self, owner: PollerOwner) -> None:
        """Prepare the polls."""
        super().__init__()
        self._owner = owner

    async def run_once(self) -> float:
        """Poll once."""
        self._owner.executor.put_back_stale()
        self._owner.wake()
        return self._owner.polling_seconds
