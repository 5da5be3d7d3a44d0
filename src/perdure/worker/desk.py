"""What waits to be written: filled by attempts as they end, emptied by the lanes in batches.

No timer decides when to write: whichever lane is free takes all there is (group commit by back-pressure), so a lone
job is settled at once and a thousand share one round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import LeaseLost
from perdure.store.settles import Finish
from perdure.worker.batch import BATCH_BYTES, LEAST_BATCH_BYTES, Batch, fail_persist, fitting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from psycopg import AsyncConnection

    from perdure.store.settles import Deferral, ProgressReport, PutBack, Release
    from perdure.worker.batch import PendingPersist
    from perdure.worker.verdict import Verdict

__all__ = ["Desk", "Errand"]

T = TypeVar("T")
_id = itemgetter(0)
_STOPPED = "the worker has stopped: nothing of this attempt is written any more"
_SHORTEST_RETRY_SECONDS = 0.001
_LONGEST_RETRY_SECONDS = 0.1


@dataclass(slots=True)
class Errand:
    """Something else to do on a lane's connection, outside of any transaction.

    Attributes:
        work: Does it.
        done: What comes of it.
        what: What the log calls it.
        is_look: Whether it may step over a great many dead rows.
    """

    work: Callable[[AsyncConnection[Any]], Awaitable[Any]]
    done: asyncio.Future[Any]
    what: str
    is_look: bool


class Desk:
    """The worker's outbox.

    Attributes:
        is_closed: Whether nothing is written any more.
        is_looking: Whether a lane is away on a look that may take long: the other lanes go on with the jobs.
        blamed: The jobs against which a lapse of the present lease was counted, as writes that came too late tell.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.finishes: list[Finish] = []
        self.releases: list[Release] = []
        self.verdicts: dict[tuple[int, int], Verdict] = {}
        # Attempts whose outcome the database has refused: they are failed instead.
        self.condemned: set[tuple[int, int]] = set()
        self.blamed: set[int] = set()
        self._errands: deque[Errand] = deque()
        self._looks: deque[Errand] = deque()
        # The newest claim of each: news of an older one, which came too late, must not make it look done.
        self._settling: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._persists: deque[PendingPersist] = deque()
        self._progress: dict[int, ProgressReport] = {}
        self._put_backs: list[PutBack] = []
        self._deferrals: list[Deferral] = []
        self._delayed: dict[asyncio.TimerHandle, PendingPersist | None] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._room_bytes = BATCH_BYTES
        self.is_closed = False
        self.is_looking = False
        self._looked_last = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be written, now or after a delay."""
        return not (
            self.finishes
            or self.releases
            or self._persists
            or self._progress
            or self._put_backs
            or self._deferrals
            or self._errands
            or self._looks
            or self._delayed
        )

    @property
    def waiting_outcomes(self) -> int:
        """How many outcomes wait to be written."""
        return len(self.finishes) + len(self.releases)

    def ids(self) -> Collection[int]:
        """The jobs that wait to be settled, or to be returned."""
        return self._settling

    def settled(self, entries: Collection[Finish | Release]) -> None:
        """Forget what has been written, or is known to be somebody else's by now."""
        self._forget(entries)
        if self.verdicts or self._tries:
            for entry in entries:
                self.verdicts.pop((entry.id, entry.claim), None)
                self.condemned.discard((entry.id, entry.claim))
                self._tries.pop(entry.id, None)

    def returned(self, entries: Collection[PutBack | Deferral]) -> None:
        """Forget claims that have been returned, or are known to be somebody else's by now."""
        self._forget(entries)
        for entry in entries:
            self._tries.pop(entry.id, None)

    def _forget(self, entries: Iterable[Finish | Release | PutBack | Deferral]) -> None:
        settling = self._settling
        for entry in entries:
            if settling.get(entry.id) == entry.claim:
                del settling[entry.id]

    def finish(self, entry: Finish) -> None:
        """Settle an attempt whose decision can't change any more."""
        self.finishes.append(entry)
        self._settling[entry.id] = entry.claim
        if self._waiters:
            self.wake()

    def settle(self, verdict: Verdict) -> None:
        """Settle an attempt by a verdict, which is kept until it is known to be written."""
        entry = verdict.entry()
        self.verdicts[verdict.id, verdict.claim] = verdict
        self._settling[verdict.id] = verdict.claim
        if isinstance(entry, Finish):
            self.finishes.append(entry)
        else:
            self.releases.append(entry)
        self.wake()

    def persist(self, pending: PendingPersist) -> None:
        """Write a checkpoint."""
        if self.is_closed:
            fail_persist(pending)
            return
        self._persists.append(pending)
        self.wake()

    def report_progress(self, report: ProgressReport) -> None:
        """Write how far an attempt is; the newest report of a job wins."""
        self._progress[report.id] = report
        self.wake()

    def put_back(self, entry: PutBack) -> None:
        """Return a claim that was never started."""
        self._put_backs.append(entry)
        self._settling[entry.id] = entry.claim
        self.wake()

    def defer(self, entry: Deferral) -> None:
        """Return a claim that can't be read."""
        self._deferrals.append(entry)
        self._settling[entry.id] = entry.claim
        self.wake()

    async def run(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]], *, what: str) -> T:
        """Run something on a lane's connection, and return or raise what it does.

        Args:
            work: Does it, outside of any transaction.
            what: What the log calls it, where the database refuses it: "sweep".
        """
        return await self._run(work, what, is_look=False)

    async def look(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]], *, what: str) -> tuple[T, float]:
        """Run what may step over a great many dead rows, once no lane does such a thing; arguments as for `run`.

        Returns what it does, and how many seconds that took: without the wait for other looks.
        """
        time = asyncio.get_running_loop().time

        async def timed(connection: AsyncConnection[Any]) -> tuple[T, float]:
            began_at_seconds = time()
            result = await work(connection)
            return result, time() - began_at_seconds

        return await self._run(timed, what, is_look=True)

    async def _run(self, work: Callable[[AsyncConnection[Any]], Awaitable[T]], what: str, *, is_look: bool) -> T:
        if self.is_closed:
            raise LeaseLost(_STOPPED)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        (self._looks if is_look else self._errands).append(Errand(work, done, what, is_look))
        self.wake()
        result: T = await done
        return result

    def next_errand(self) -> Errand | None:
        """Take what is to be done beside the exchanges, if anything may be done now; a look is under way from here."""
        # By turns: jobs' questions may never end, and looks that are refused are made again and again.
        if self._looks and not self.is_looking and not (self._errands and self._looked_last):
            self.is_looking = self._looked_last = True
            return self._looks.popleft()
        self._looked_last = False
        return self._errands.popleft() if self._errands else None

    def looked(self) -> None:
        """A look has ended: let the next one begin."""
        self.is_looking = False
        if self._looks:
            self.wake()

    def take(self) -> Batch:
        """Take all there is, up to a batch; of what waits in large pieces a share of each kind."""
        batch = Batch()
        room = self._room_bytes
        if self._persists:  # first: somebody waits for them
            share = room // (1 + bool(self.releases) + bool(self.finishes))
            count, size = fitting([pending.entry for pending in self._persists], share)
            batch.persists = self._one_of_each([self._persists.popleft() for _ in range(count)])
            room -= size
        if self.releases:
            share = room // (1 + bool(self.finishes))
            count, batch.outcome_bytes = fitting(self.releases, share)
            batch.releases, self.releases = sorted(self.releases[:count], key=_id), self.releases[count:]
            room -= batch.outcome_bytes
        if self.finishes:
            count, size = fitting(self.finishes, room)
            batch.finishes, self.finishes = sorted(self.finishes[:count], key=_id), self.finishes[count:]
            batch.outcome_bytes += size
            room -= size
        batch.size_bytes = self._room_bytes - room
        if self._progress:
            batch.progress, self._progress = sorted(self._progress.values(), key=_id), {}
        if self._put_backs:
            batch.put_backs, self._put_backs = sorted(self._put_backs, key=_id), []
        if self._deferrals:
            batch.deferrals, self._deferrals = sorted(self._deferrals, key=_id), []
        return batch

    def _one_of_each(self, taken: list[PendingPersist]) -> list[PendingPersist]:
        """Leave one checkpoint of each job: an attempt that was left behind may have one beside its successor's."""
        newest: dict[int, PendingPersist] = {}
        for pending in sorted(taken, key=lambda pending: (pending.entry.id, pending.entry.claim)):
            before = newest.get(pending.entry.id)
            if before is not None and before.entry.claim == pending.entry.claim:
                self._persists.append(pending)  # for the next batch
                continue
            if before is not None:
                fail_persist(before)
            newest[pending.entry.id] = pending
        return list(newest.values())

    def got_through(self) -> None:
        """An exchange was answered: the next may carry more again."""
        if self._room_bytes < BATCH_BYTES:
            self._room_bytes = min(BATCH_BYTES, self._room_bytes + self._room_bytes // 4)

    def got_stuck(self, batch: Batch) -> None:
        """An exchange wasn't answered, maybe as it took longer than a lease: the same again would never get through."""
        self._room_bytes = max(LEAST_BATCH_BYTES, min(self._room_bytes, batch.size_bytes) // 2)

    def return_batch(self, batch: Batch) -> None:
        """Take back what wasn't written, or may not have been: writing it again is harmless."""
        self.finishes.extend(batch.finishes)
        self.releases.extend(batch.releases)
        self._persists.extendleft(reversed(batch.persists))
        self._put_backs.extend(batch.put_backs)
        self._deferrals.extend(batch.deferrals)

    def again(self, job_id: int, action: Callable[[], None], pending: PendingPersist | None = None) -> None:
        """Write something again that found its row locked: soon at first, since most locks last for an exchange.

        Args:
            job_id: Whose row it is.
            action: Brings it here again.
            pending: The checkpoint that it is, so that whoever waits for it is told if that doesn't come about.
        """
        tries = self._tries[job_id] = self._tries.get(job_id, 0) + 1
        seconds = min(_LONGEST_RETRY_SECONDS, _SHORTEST_RETRY_SECONDS * 2 ** min(tries, 10))

        def act() -> None:
            del self._delayed[handle]
            action()
            self.wake()

        handle = asyncio.get_running_loop().call_later(seconds, act)
        self._delayed[handle] = pending

    def clear(self) -> None:
        """Forget everything: the lease is lost, so nothing of it may be written any more."""
        self.finishes.clear()
        self.releases.clear()
        self.verdicts.clear()
        self.condemned.clear()
        self.blamed.clear()
        self._settling.clear()
        self._tries.clear()
        self._progress.clear()
        self._put_backs.clear()
        self._deferrals.clear()
        for handle, pending in self._delayed.items():
            handle.cancel()
            if pending is not None:
                fail_persist(pending)
        self._delayed.clear()
        while self._persists:
            fail_persist(self._persists.popleft())

    def close(self) -> None:
        """Let nobody wait for what won't be written any more: the lanes have ended."""
        self.is_closed = True
        self.clear()
        for errand in [*self._errands, *self._looks]:
            done = errand.done
            if not done.done():
                done.set_exception(LeaseLost(_STOPPED))
        self._errands.clear()
        self._looks.clear()

    def wake(self) -> None:
        """Wake one lane, if one sleeps."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """Wake every lane."""
        for _ in range(len(self._waiters)):
            self.wake()

    async def wait(self) -> None:
        """Sleep until there is something to do."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
