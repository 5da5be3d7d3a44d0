"""Looks for due jobs every `polling_delay`, whatever was notified."""

from __future__ import annotations

from typing import Protocol

from perdure.worker.service import Service

__all__ = ["Poller", "PollerOwner"]


class PollerOwner(Protocol):
    """What the poller needs of its worker."""

    polling_seconds: float

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
        self._owner.wake()
        return self._owner.polling_seconds
