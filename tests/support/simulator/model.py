"""The model of the store: tables, row locks, transactions. Its statements are in `attempts`, `clients` and `leases`.

A statement is atomic here: it takes the locks that its SQL takes, asks the guards, and writes. In a transaction its
locks are held until that ends; what it has written is seen at once, but only rows are written whose lock keeps others
away (an event that isn't committed is seen by nobody else). What happens between a statement's snapshot and its locks
isn't in the model: `tests/faults/races` and `tests/store/test_wake_ups.py` are about that.

`broken` names guards that are left out, so that a test can show that the simulator notices.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.simulator.rows import Ended, Event, Job, Past, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "KEY_SHARE",
    "NO_KEY_UPDATE",
    "RUNNING",
    "SHARE",
    "UPDATE",
    "Blocked",
    "FenceError",
    "Landed",
    "Tables",
    "Tx",
]

RUNNING = 2
KEY_SHARE, SHARE, NO_KEY_UPDATE, UPDATE = range(4)
_CONFLICTS = (
    frozenset({UPDATE}),
    frozenset({NO_KEY_UPDATE, UPDATE}),
    frozenset({SHARE, NO_KEY_UPDATE, UPDATE}),
    frozenset({KEY_SHARE, SHARE, NO_KEY_UPDATE, UPDATE}),
)
_TICK_SECONDS = 1e-4


class Landed(NamedTuple):
    """A fenced write that has landed: what it named, and what the job's row was like just before."""

    write: str
    job_id: int
    worker: Any
    claim: int
    found_state: int
    found_worker: Any
    found_claim: int
    had_lease: bool
    by_rescue: bool


class Blocked(Exception):
    """The statement waits for a row's lock."""


class FenceError(Exception):
    """SQLSTATE PD001: the last statement of a `ctx.transaction()` found that its attempt may not write."""


class Tx:
    """An open transaction: its locks, and what undoes it."""

    __slots__ = ("deleted", "marked", "model", "saved")

    def __init__(self, model: Tables) -> None:
        self.model = model
        self.saved: dict[int, tuple[Job | None, Ended | None, list[Past], dict[str, Any]]] = {}
        self.deleted: list[tuple[int, Event]] = []
        self.marked: list[Event] = []

    def save(self, job_id: int) -> None:
        """Remember a job as it was before."""
        if job_id not in self.saved:
            model = self.model
            self.saved[job_id] = (
                copy.copy(model.jobs.get(job_id)),
                copy.copy(model.ended.get(job_id)),
                list(model.attempts.get(job_id, ())),
                dict(model.steps.get(job_id, ())),
            )

    def commit(self) -> None:
        """End it: what it has written holds."""
        model = self.model
        for events in model.events.values():
            for event in events:
                if event.tx is self:
                    event.tx = None
        for job_id in self.saved:
            if job_id in model.ended:
                model.ended[job_id].tx = None
        model.unlock(self)
        model.touched.update(self.saved)
        model.touched.update(job_id for job_id, events in model.events.items() if events)

    def roll_back(self) -> None:
        """End it: nothing of it has been."""
        model = self.model
        for events in model.events.values():
            events[:] = [event for event in events if event.tx is not self]
        for job_id, event in self.deleted:
            model.events[job_id] = sorted([*model.events[job_id], event], key=lambda event: event.id)
        for event in self.marked:
            event.woke = False
        for job_id, (job, ended, attempts, steps) in self.saved.items():
            _put(model.jobs, job_id, job)
            _put(model.ended, job_id, ended)
            model.attempts[job_id], model.steps[job_id] = attempts, steps
        model.unlock(self)


def _put(rows: dict[int, Any], job_id: int, row: Any) -> None:
    if row is None:
        rows.pop(job_id, None)
    else:
        rows[job_id] = row


class Tables:
    """The tables.

    Attributes:
        now: The database's clock.
        broken: Guards that are left out.
        touched: Jobs that have been written since somebody emptied it.
        landed: Fenced writes that have landed since somebody emptied it.
        before_change: Called with a job before a statement changes it outside of a transaction.
    """

    def __init__(self, broken: Iterable[str] = ()) -> None:
        self.now = 0.0
        self.broken = frozenset(broken)
        self.jobs: dict[int, Job] = {}
        self.ended: dict[int, Ended] = {}
        self.events: dict[int, list[Event]] = {}
        self.steps: dict[int, dict[str, Any]] = {}
        self.attempts: dict[int, list[Past]] = {}
        self.workers: dict[Any, Worker] = {}
        self.touched: set[int] = set()
        self.landed: list[Landed] = []
        self.before_change: Callable[[int], None] = lambda _job_id: None
        self._locks: dict[int, list[tuple[Tx, int]]] = {}

    def tick(self) -> float:
        """Let a moment pass, so that no two statements have one time."""
        self.now += _TICK_SECONDS
        return self.now

    # --- locks

    def is_free(self, job_id: int, mode: int, tx: Tx | None) -> bool:
        """Whether no other transaction holds a lock that excludes this one."""
        if not self._locks:
            return True
        conflicts = _CONFLICTS[mode]
        return not any(owner is not tx and held in conflicts for owner, held in self._locks.get(job_id, ()))

    def lock(self, job_id: int, mode: int, tx: Tx | None) -> None:
        """Hold a lock until the transaction ends."""
        if tx is not None:
            self._locks.setdefault(job_id, []).append((tx, mode))

    def wait_for(self, job_id: int, mode: int, tx: Tx | None) -> None:
        """Take a lock, if the row is there.

        Raises:
            Blocked: Another has it.
        """
        if self.seen(job_id, tx) is None:
            return
        if not self.is_free(job_id, mode, tx):
            raise Blocked
        self.lock(job_id, mode, tx)

    def seen(self, job_id: int, tx: Tx | None) -> Job | None:
        """Return a live job as a statement's snapshot shows it: as it was before another's open transaction."""
        for owner, _mode in self._locks.get(job_id, ()):
            if owner is not tx and job_id in owner.saved:
                return owner.saved[job_id][0]
        return self.jobs.get(job_id)

    @property
    def has_locks(self) -> bool:
        """Whether an open transaction has a lock."""
        return bool(self._locks)

    def is_changing(self, job_id: int) -> bool:
        """Whether an open transaction has changed the job."""
        return any(job_id in owner.saved for owner, _mode in self._locks.get(job_id, ()))

    def snapshot(self) -> Iterable[Job]:
        """Return all live jobs as a statement that takes no locks sees them."""
        if not self._locks:
            return self.jobs.values()
        found = (self.seen(job_id, None) for job_id in {*self.jobs, *self._locks})
        return [job for job in found if job is not None]

    def unlock(self, tx: Tx) -> None:
        """Let all locks of a transaction go."""
        for job_id, held in list(self._locks.items()):
            held[:] = [(owner, mode) for owner, mode in held if owner is not tx]
            if not held:
                del self._locks[job_id]

    # --- guards

    def holds_lease(self, worker: Any) -> bool:
        """Whether the worker's lease is valid."""
        row = self.workers.get(worker)
        return row is not None and not row.lapsed and row.lease_until > self.now

    def guarded(
        self,
        write: str,
        job_id: int,
        worker: Any,
        claim: int,
        *,
        checkpoint: int | None,
        holder: Any,
        mode: int,
        tx: Tx | None,
    ) -> Job | None:
        """Return the job that a fenced write names, if it may write: `holder` None asks for no lease."""
        if not self.is_free(job_id, mode, tx) and not (write == "release" and "release locks" in self.broken):
            return None
        job = self.jobs.get(job_id)
        if job is None:
            return None
        broken = self.broken
        if holder is not None and "lease" not in broken and not self.holds_lease(holder):
            return None  # asked once, before anything else
        if write != "fence":
            self.lock(job_id, mode, tx)  # also of a job that the write isn't for
        if (
            (job.state != RUNNING and "state" not in broken)
            or (job.worker != worker and "worker" not in broken)
            or (job.claim != claim and "claim" not in broken)
            or (checkpoint is not None and job.checkpoint != checkpoint and "checkpoint" not in broken)
        ):
            return None
        return job

    def write(
        self,
        write: str,
        job: Job,
        worker: Any,
        claim: int,
        holder: Any,
        mode: int,
        tx: Tx | None,
    ) -> None:
        """Take note that a fenced write lands on the job; called before it changes anything."""
        had_lease = holder is None or self.holds_lease(holder)
        place = job.state, job.worker, job.claim
        self.landed.append(Landed(write, job.id, worker, claim, *place, had_lease, holder not in {None, worker}))
        self.change(job.id, mode, tx)

    def change(self, job_id: int, mode: int, tx: Tx | None) -> None:
        """Take note that a job's rows are about to be changed."""
        if tx is None:
            self.before_change(job_id)
            self.touched.add(job_id)
        else:
            tx.save(job_id)
            self.lock(job_id, mode, tx)

    def consume(self, job_id: int, ids: Iterable[int], tx: Tx | None) -> None:
        """Delete events of a job."""
        if not ids or "consume" in self.broken:
            return
        gone = set(ids)
        events = self.events.get(job_id, [])
        if tx is not None:
            tx.deleted += [(job_id, event) for event in events if event.id in gone]
        self.events[job_id] = [event for event in events if event.id not in gone]

    def unread(self, job_id: int, tx: Tx | None = None) -> list[Event]:
        """Return a job's events that are seen, the oldest first."""
        return [event for event in self.events.get(job_id, ()) if event.tx is None or event.tx is tx]

    def end(self, job: Job, state: int, tx: Tx | None = None, **fields: Any) -> None:
        """Move a job's row to the ended ones."""
        values: dict[str, Any] = {
            "data": job.data,
            "checkpoint": job.checkpoint,
            "result": None,
            "error": job.error,
            "last_error": job.last_error,
        } | fields
        ended = Ended(
            id=job.id,
            task=job.task,
            created=job.created,
            due=job.due,
            priority=job.priority,
            state=state,
            worker=job.worker,
            claim=job.claim,
            attempt=job.attempt,
            retry_number=job.retry_number,
            woken_by=job.woken_by,
            deadline=job.deadline,
            tx=tx,
            **values,
        )
        del self.jobs[job.id]
        self.ended[job.id] = ended

    def remember(self, job_id: int, past: Past) -> None:
        """Put an attempt into the job's history, unless it is there."""
        history = self.attempts.setdefault(job_id, [])
        if all(other.attempt != past.attempt for other in history):
            history.append(past)
