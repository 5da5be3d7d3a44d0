"""Who may begin: a slot for each attempt, a thread for each `def` handler, and one suspect at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from perdure.attempt import Attempt
    from perdure.store.claims import Claimed
    from perdure.task import Task
    from perdure.worker.threads import Threads

__all__ = ["Slots"]


class Slots:
    """The running attempts of a worker process, and the room beside them.

    Attributes:
        running: The running attempts, by their jobs.
        keeps_one_free: Whether a suspect waits for a slot of its own, which isn't filled with anything else.
        idle: Set when no attempt runs any more; made by whoever waits for it.
    """

    def __init__(self, concurrency: int, threads: Threads, is_suspect: Callable[[Claimed], bool]) -> None:
        """Begin with all of them free; `is_suspect` says whether one more lapse would fail a job."""
        self.running: dict[int, Attempt] = {}
        self.keeps_one_free = False
        self._suspect: Attempt | None = None
        self._concurrency = concurrency
        self._threads = threads
        self._is_suspect = is_suspect
        self.idle: asyncio.Event | None = None

    @property
    def are_taken(self) -> bool:
        """Whether there is no slot for a job of the common line."""
        return len(self.running) + self.keeps_one_free >= self._concurrency

    def has_room_for_suspect(self, ahead: Iterable[Claimed]) -> bool:
        """Whether a slot is free and there is no suspect, be it running or among those claimed ahead."""
        return len(self.running) < self._concurrency and not self.has_suspect(ahead)

    def has_suspect(self, ahead: Iterable[Claimed]) -> bool:
        """Whether a suspect runs, or waits for a slot, a thread or the end of another one."""
        return self._suspect is not None or any(self._is_suspect(job) for job in ahead)

    def have_room_for(self, job: Claimed, tasks: Mapping[str, Task[Any, Any, Any, Any]]) -> bool:
        """Whether a job may begin now."""
        if len(self.running) + self.keeps_one_free >= self._concurrency:
            return False
        # However they have come here: claimed while another one waited, or by other settings than this process has.
        if self._suspect is not None and job.lapses and self._is_suspect(job):
            return False
        if self._threads.free > 0:
            return True
        task = tasks.get(job.task)
        return task is None or task.is_async

    def take(self, attempt: Attempt) -> None:
        """Give a slot to an attempt that begins."""
        job = attempt.job
        self.running[job.id] = attempt
        if job.lapses and self._is_suspect(job):
            self._suspect = attempt

    def release(self, attempt: Attempt) -> None:
        """Free the slot of an attempt that has ended."""
        if self.running.get(attempt.job.id) is attempt:
            del self.running[attempt.job.id]
        if self._suspect is attempt:
            self._suspect = None

    def tell_if_idle(self) -> None:
        """Tell whoever waits for it when no attempt runs."""
        if self.idle is not None and not self.running:
            self.idle.set()

    async def wait_until_idle(self) -> None:
        """Wait until no attempt runs."""
        if self.running:
            self.idle = asyncio.Event()
            await self.idle.wait()
