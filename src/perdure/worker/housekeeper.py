"""What any worker does now and then: finds bands that nobody has made known, forgets workers of long ago."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

from perdure.store import calls, leases
from perdure.worker.pace import rest_seconds
from perdure.worker.service import Service

if TYPE_CHECKING:
    from perdure.store.sql import Names
    from perdure.worker.claimer import Claimer
    from perdure.worker.desk import Desk

__all__ = ["Housekeeper", "HousekeeperOwner"]

_INTERVAL_SECONDS = 10.0
_LONGEST_SECONDS = 300.0
_FORGET_EVERY_SECONDS = 600.0


class HousekeeperOwner(Protocol):
    """What the housekeeper needs of its worker."""

    names: Names
    desk: Desk
    claimer: Claimer

    def wake(self) -> None:
        """There may be due jobs."""


class Housekeeper(Service):
    """The rounds."""

    name = "housekeeper"

    def __init__(self, owner: HousekeeperOwner) -> None:
        """Prepare the rounds."""
        super().__init__()
        self._owner = owner
        self._forget_at_seconds = 0.0

    async def run_once(self) -> float:
        """Make the rounds once."""
        owner = self._owner
        healed, took_seconds = await owner.desk.look(
            lambda connection: calls.run(connection, leases.heal_bands(owner.names)), what="search for queues"
        )
        if healed:
            owner.claimer.look_everywhere()  # their jobs may have waited for long
            owner.wake()
        now_seconds = time.monotonic()
        interval_seconds = rest_seconds(took_seconds, least=_INTERVAL_SECONDS, most=_LONGEST_SECONDS)
        if now_seconds >= self._forget_at_seconds:
            await owner.desk.run(
                lambda connection: calls.run(connection, leases.forget_workers(owner.names)),
                what="removal of old workers",
            )
            self._forget_at_seconds = now_seconds + _FORGET_EVERY_SECONDS
        return interval_seconds * random.uniform(0.8, 1.2)  # noqa: S311 - so that workers don't go in step
