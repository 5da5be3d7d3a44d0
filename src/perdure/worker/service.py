"""The lifecycle of a worker's loops, written once: start, stop, interval, jitter, back-off.

A service supplies `run_once`, which can be called alone, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod

import psycopg

from perdure.cancelling import cancel_and_wait
from perdure.store.refusals import for_log, is_refusal

__all__ = ["Service"]

_log = logging.getLogger("perdure.worker")
_LONGEST_BACK_OFF_SECONDS = 10.0
_MOST_DOUBLED = 10  # more is too long anyway, and in a few hours past what a float holds


class Service(ABC):
    """A loop in a task of its own."""

    name: str

    def __init__(self) -> None:
        """Prepare the loop; `start` begins it."""
        self._task: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()

    @abstractmethod
    async def run_once(self) -> float:
        """Do the work once, and return in how many seconds it is due again."""

    def start(self) -> None:
        """Begin the loop, with a first run at once."""
        self._task = asyncio.create_task(self._loop(), name=f"perdure {self.name}")

    def poke(self) -> None:
        """Let the next run come now."""
        self._poked.set()

    async def stop(self) -> None:
        """End the loop, wherever it is."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_and_wait([task])

    async def _loop(self) -> None:
        failures = 0
        while True:
            self._poked.clear()
            try:
                wait_seconds = await self.run_once()
                failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop must go on
                failures = min(failures + 1, _MOST_DOUBLED)
                jitter = random.uniform(0.5, 1.5)  # noqa: S311 - nothing is kept secret by it
                wait_seconds = min(_LONGEST_BACK_OFF_SECONDS, 0.1 * 2**failures) * jitter
                # What is wrong with the database, the lane says that this was done on.
                is_said = isinstance(error, psycopg.Error) and not is_refusal(error)
                level = logging.WARNING if failures == 1 and not is_said else logging.DEBUG
                _log.log(level, "%s: %s; trying again", self.name, for_log(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._poked.wait()
