"""What waits to be written: filled by attempts as they end, emptied by the lanes in batches.

No timer decides when to write: whichever lane is free takes all there is (group commit by back-pressure), so a lone
job is settled at once and a thousand share one round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import LeaseLost
from perdure.store.settles import Deferral, Finish, Persist, ProgressReport, PutBack, Release

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from psycopg import AsyncConnection

    from perdure.attempt import Attempt
    from perdure.worker.verdict import Verdict

__all__ = ["Batch", "Desk", "Errand", "PendingPersist"]

T = TypeVar("T")
_BATCH = 1000
# A statement's parameters must fit into memory several times over; and into PostgreSQL's 1 GB for a message.
_BATCH_BYTES = 16 * 1024 * 1024
_ROW_BYTES = 100
_id = itemgetter(0)
_STOPPED = "the worker has stopped: nothing of this attempt is written any more"
_SHORTEST_RETRY_SECONDS = 0.001
_LONGEST_RETRY_SECONDS = 0.1


@dataclass(slots=True)
class PendingPersist:
    """A checkpoint on its way, and who waits for it."""

    entry: Persist
    attempt: Attempt
    written: asyncio.Future[None]


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


@dataclass(slots=True)
class Batch:
    """What one exchange carries. Entries are sorted by id, one of each kind a job."""

    finishes: list[Finish] = field(default_factory=list[Finish])
    releases: list[Release] = field(default_factory=list[Release])
    persists: list[PendingPersist] = field(default_factory=list[PendingPersist])
    progress: list[ProgressReport] = field(default_factory=list[ProgressReport])
    put_backs: list[PutBack] = field(default_factory=list[PutBack])
    deferrals: list[Deferral] = field(default_factory=list[Deferral])

    @property
    def returns(self) -> list[PutBack | Deferral]:
        """The claims to give back, of both kinds."""
        return [*self.put_backs, *self.deferrals]

    @property
    def settles(self) -> list[Finish | Release]:
        """The outcomes of both kinds."""
        return [*self.finishes, *self.releases]

    def singly(self) -> list[Batch]:
        """The same entries, each in a batch of its own."""
        return [
            *(Batch(persists=[pending]) for pending in self.persists),
            *(Batch(progress=[report]) for report in self.progress),
            *(Batch(finishes=[entry]) for entry in self.finishes),
            *(Batch(releases=[entry]) for entry in self.releases),
            *(Batch(put_backs=[entry]) for entry in self.put_backs),
            *(Batch(deferrals=[entry]) for entry in self.deferrals),
        ]

    def fail_persists(self) -> None:
        """Tell whoever waits for a checkpoint that it won't be written: the lease is lost."""
        for pending in self.persists:
            fail_persist(pending)

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(
            self.finishes or self.releases or self.persists or self.progress or self.put_backs or self.deferrals
        )


class Desk:
    """The worker's outbox.

    Attributes:
        is_closed: Whether nothing is written any more.
        is_looking: Whether a lane is away on a look that may take long: the other lanes go on with the jobs.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.finishes: list[Finish] = []
        self.releases: list[Release] = []
        self.verdicts: dict[tuple[int, int], Verdict] = {}
        # Attempts whose outcome the database has refused: they are failed instead.
        self.condemned: set[tuple[int, int]] = set()
        self._errands: deque[Errand] = deque()
        self._looks: deque[Errand] = deque()
        self._settling: set[int] = set()
        self._tries: dict[int, int] = {}
        self._persists: deque[PendingPersist] = deque()
        self._progress: dict[int, ProgressReport] = {}
        self._put_backs: list[PutBack] = []
        self._deferrals: list[Deferral] = []
        self._delayed: dict[asyncio.TimerHandle, PendingPersist | None] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.is_closed = False
        self.is_looking = False

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

    def ids(self) -> Collection[int]:
        """The jobs that wait to be settled, or to be returned."""
        return self._settling

    def settled(self, entries: Iterable[Finish | Release]) -> None:
        """Forget what has been written, or is known to be somebody else's by now."""
        self._settling.difference_update([entry.id for entry in entries])
        if self.verdicts or self._tries:
            for entry in entries:
                self.verdicts.pop((entry.id, entry.claim), None)
                self.condemned.discard((entry.id, entry.claim))
                self._tries.pop(entry.id, None)

    def returned(self, ids: Iterable[int]) -> None:
        """Forget claims that have been returned, or are known to be somebody else's by now."""
        for job_id in ids:
            self._settling.discard(job_id)
            self._tries.pop(job_id, None)

    def finish(self, entry: Finish) -> None:
        """Settle an attempt whose decision can't change any more."""
        self.finishes.append(entry)
        self._settling.add(entry.id)
        if self._waiters:
            self.wake()

    def settle(self, verdict: Verdict) -> None:
        """Settle an attempt by a verdict, which is kept until it is known to be written."""
        entry = verdict.entry()
        self.verdicts[verdict.id, verdict.claim] = verdict
        self._settling.add(verdict.id)
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
        self._settling.add(entry.id)
        self.wake()

    def defer(self, entry: Deferral) -> None:
        """Return a claim that can't be read."""
        self._deferrals.append(entry)
        self._settling.add(entry.id)
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
        if self._errands:
            return self._errands.popleft()
        if self._looks and not self.is_looking:
            self.is_looking = True
            return self._looks.popleft()
        return None

    def looked(self) -> None:
        """A look has ended: let the next one begin."""
        self.is_looking = False
        if self._looks:
            self.wake()

    def take(self) -> Batch:
        """Take all there is, up to a batch of each kind."""
        batch = Batch()
        room = _BATCH_BYTES
        if self.finishes:
            count, room = _fitting(self.finishes, room)
            batch.finishes, self.finishes = sorted(self.finishes[:count], key=_id), self.finishes[count:]
        if self.releases and room > 0:
            count, room = _fitting(self.releases, room)
            batch.releases, self.releases = sorted(self.releases[:count], key=_id), self.releases[count:]
        if self._persists and room > 0:
            count, room = _fitting([pending.entry for pending in self._persists], room)
            batch.persists = self._one_of_each([self._persists.popleft() for _ in range(count)])
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


def _fitting(entries: Sequence[Finish | Release | Persist], room: int) -> tuple[int, int]:
    """Return how many of the entries fit into a batch, at least one, and the room that is left."""
    count = 0
    for entry in entries[:_BATCH]:
        execution_metadata = entry.execution_metadata
        room -= _ROW_BYTES if execution_metadata is None else _ROW_BYTES + len(execution_metadata)
        if isinstance(entry, Finish) and entry.result is not None:
            room -= len(entry.result)
        elif isinstance(entry, Persist):
            room -= sum(len(result) for _, result in entry.steps)
        count += 1
        if room <= 0:
            break
    return count, room


def fail_persist(pending: PendingPersist) -> None:
    """Tell whoever waits for a checkpoint that it isn't and won't be written."""
    if not pending.written.done():
        job = pending.attempt.job
        message = (
            f"job {job.id}, attempt {job.attempt}: the lease is lost, the execution metadata wasn't persisted; another "
            "attempt goes on from what was"
        )
        pending.written.set_exception(LeaseLost(message))
        pending.written.exception()  # its waiter may have been left behind: no complaint about that
