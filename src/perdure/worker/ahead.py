"""What was claimed ahead: jobs that wait in this process for a slot, so that none waits for a round trip."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from perdure.store.claims import Claimed

__all__ = ["Ahead", "Waiting"]

# What couldn't be started for so long goes back.
_LONGEST_SECONDS = 1.0


class Waiting(NamedTuple):
    """A job that waits here, since when, and whose lease covers it."""

    job: Claimed
    worker_id: UUID
    since_seconds: float


class Ahead:
    """The jobs that were claimed ahead, in the order of their claims."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: deque[Waiting] = deque()
        self._is_filling = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        """All that wait."""
        return iter(self._waiting)

    def add(self, job: Claimed, worker_id: UUID) -> None:
        """Let a job wait."""
        self._waiting.append(Waiting(job, worker_id, time.monotonic()))

    def begin(self, begin: Callable[[Waiting], bool | None]) -> None:
        """Offer each that waits, in their order; those for which there is no room now (False) stay at their places.

        Ends when there is no room for any (None). What ends as it begins comes by here again: to no effect.
        """
        if not self._waiting or self._is_filling:
            return
        self._is_filling = True
        passed_over: list[Waiting] = []
        try:
            while self._waiting:
                first = self._waiting.popleft()
                began = begin(first)
                if not began:
                    passed_over.append(first)
                if began is None:
                    break
        finally:
            self._waiting.extendleft(reversed(passed_over))
            self._is_filling = False

    def take_stale(self, *, everything: bool = False) -> list[Waiting]:
        """Take what couldn't be started in a second; or all of it."""
        oldest_seconds = time.monotonic() - _LONGEST_SECONDS
        stale: list[Waiting] = []
        while self._waiting and (everything or self._waiting[0].since_seconds < oldest_seconds):
            stale.append(self._waiting.popleft())
        return stale

    def take(self, job_id: int, claim: int, worker_id: UUID | None) -> Claimed | None:
        """Take a job that waits here by this claim and under this lease, if it does."""
        for waiting in self._waiting:
            if (waiting.job.id, waiting.job.claim, waiting.worker_id) == (job_id, claim, worker_id):
                self._waiting.remove(waiting)
                return waiting.job
        return None

    def drop(self, worker_id: UUID) -> list[int]:
        """Forget what waits under this lease; return which jobs these were."""
        dropped = [waiting.job.id for waiting in self._waiting if waiting.worker_id == worker_id]
        self._waiting = deque(waiting for waiting in self._waiting if waiting.worker_id != worker_id)
        return dropped
