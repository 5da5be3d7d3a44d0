"""What must hold: after each write of the model, after each step, and once all is at rest.

It keeps accounts of its own, of what attempts, rescuers and clients say that they do, and compares them with the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.core.states import TRANSITIONS, JobState
from tests.support.simulator.bodies import LIMITS, numbers

if TYPE_CHECKING:
    from tests.support.simulator.model import Landed
    from tests.support.simulator.rows import Ended, Job
    from tests.support.simulator.scheduler import World

__all__ = ["Broken", "Ledger"]

I1, I3, I4, I5, I6, I8, I9, I10 = "I1", "I3", "I4", "I5", "I6", "I8", "I9", "I10"
PENDING, RUNNING, RETRYING, SUSPENDED, PROCEEDED = 0, 2, 3, 4, 5
COMPLETED, FAILED, CANCELLED = 6, 7, 8
WOKEN_BY_EVENT = 2
_MOVES = {state.code: frozenset(after.code for after in moves) for state, moves in TRANSITIONS.items()}
_FINAL = frozenset(state.code for state in JobState if state.is_final)


class Broken(AssertionError):
    """An invariant is broken."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")


class _Row(NamedTuple):
    """A job as it was seen last."""

    state: int
    claim: int
    attempt: int
    checkpoint: int
    data: bytes
    retry_number: int
    scheduler_retries: int
    lapses: int
    lapsed_worker: Any
    cancel_requested: bool
    proceed_requested: bool
    woken_by: int


def _row(row: Job | Ended) -> _Row:
    place = row.state, row.claim, row.attempt, row.checkpoint, row.data, row.retry_number
    if row.state in _FINAL:
        return _Row(*place, -1, -1, None, False, False, row.woken_by)
    return _Row(
        *place,
        row.scheduler_retries,  # type: ignore[union-attr]
        row.lapses,  # type: ignore[union-attr]
        row.lapsed_worker,  # type: ignore[union-attr]
        row.cancel_requested,  # type: ignore[union-attr]
        row.proceed_requested,  # type: ignore[union-attr]
        row.woken_by,
    )


class Ledger:
    """The accounts of a run.

    Attributes:
        rows: Rows that were written in transactions, by job.
        sent: Events that were sent, and committed, by job.
        retried: Operators' retries by job.
        cancelled: Jobs whose cancellation was acknowledged since they were last begun anew.
    """

    def __init__(self, world: World) -> None:
        self._world, self._model = world, world.model
        self.rows: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.retried: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self._events = 0
        self._seen: dict[int, _Row] = {}
        self._finals: dict[int, int] = {}
        self._begun: dict[int, set[int]] = {}
        self._returned: dict[int, int] = {}
        self._endings: dict[tuple[int, int], str] = {}
        self._lapses: dict[tuple[int, int], bool] = {}
        self._persisted: set[tuple[int, int]] = set()
        self._outside: set[tuple[int, int, int]] = set()
        self._done_outside: dict[int, int] = {}
        self._settled: dict[int, int] = {}
        self._landed: dict[int, Landed] = {}
        self._lapsed: set[Any] = set()
        self._reported: set[Any] = set()
        self._counted: dict[int, Any] = {}
        self._model.before_change = self.look
        world.after_step = self.look_at_all

    # --- what others say

    def begins(self, job_id: int, claim: int) -> None:
        """An attempt begins."""
        begun = self._begun.setdefault(job_id, set())
        if claim in begun:
            raise Broken(I4, f"claim {claim} of job {job_id} begins twice")
        begun.add(claim)

    def ends(self, job_id: int, claim: int, ending: str) -> None:
        """An attempt has ended, and is about to be settled."""
        self._endings[job_id, claim] = ending

    def lapses(self, job_id: int, claim: int, *, has_reported: bool) -> None:
        """A rescuer decides about an attempt."""
        self._lapses[job_id, claim] = has_reported

    def outside(self, job_id: int, claim: int, number: int) -> None:
        """An effect outside of any transaction."""
        if (job_id, claim, number) in self._outside:
            raise Broken(I6, f"claim {claim} of job {job_id} does number {number} twice")
        self._outside.add((job_id, claim, number))
        self._done_outside[job_id] = max(self._done_outside.get(job_id, 0), number + 1)

    def next_event(self) -> int:
        """Number an event."""
        self._events += 1
        return self._events

    def reports(self, worker_id: Any) -> None:
        """A worker that has lost this lease is alive."""
        self._reported.add(worker_id)

    def check_proceeded(self, job_id: int) -> None:
        """A proceed has been acknowledged, or should have been: the job goes on, or remembers it."""
        job = self._model.jobs.get(job_id)
        if job is None or not (job.state == PROCEEDED or job.proceed_requested):
            raise Broken(I10, f"a proceed of job {job_id} was acknowledged, and the job knows nothing of it: {job}")

    def due_times(self) -> list[float]:
        """When jobs are due, and leases end: nobody waits for that, since workers look by themselves."""
        times = [job.due for job in self._model.jobs.values() if job.due is not None]
        return times + [row.lease_until for row in self._model.workers.values() if not row.lapsed]

    # --- after each write

    def look_at_all(self) -> None:
        """After a step."""
        model = self._model
        if model.landed:
            for landed in model.landed:
                self._check_landed(landed)
            model.landed.clear()
        if model.touched:
            for job_id in model.touched:
                self.look(job_id)
                if not model.has_locks:
                    self._check_events(job_id)
            model.touched.clear()
        for worker in model.workers.values():
            if worker.lapsed and worker.id not in self._lapsed:
                self._lapsed.add(worker.id)
                if not worker.left and max(worker.lease_until, worker.renewed_until or 0.0) > model.now:
                    raise Broken(I8, f"a valid lease is taken for one that has lapsed: {worker}")

    def _check_landed(self, landed: Landed) -> None:
        self._landed[landed.job_id] = landed
        if landed.write in {"persist", "fence"}:
            self._persisted.add((landed.job_id, landed.claim))
        if landed.write == "put back":
            self._returned[landed.job_id] = self._returned.get(landed.job_id, 0) + 1
        found = landed.found_state, landed.found_worker, landed.found_claim
        if found != (RUNNING, landed.worker, landed.claim):
            raise Broken(I4, f"a write lands on a job that is another's by then: {landed}")
        if not landed.had_lease:
            raise Broken(I4, f"a write lands without a lease: {landed}")

    def look(self, job_id: int) -> None:
        """Compare a job with what it was when it was seen last."""
        if self._model.landed:
            for landed in self._model.landed:
                self._check_landed(landed)
            self._model.landed.clear()
        if self._model.is_changing(job_id):
            return  # it is looked at when that is committed
        row = self._model.jobs.get(job_id) or self._model.ended.get(job_id)
        if row is None:
            raise Broken(I1, f"job {job_id} is lost")
        now, before = _row(row), self._seen.get(job_id)
        if now == before:
            return
        self._seen[job_id] = now
        if before is None:
            return
        self._check_numbers(job_id, before, now)
        if now.state != before.state:
            self._check_move(job_id, before, now)

    def _check_numbers(self, job_id: int, before: _Row, now: _Row) -> None:
        if now.claim < before.claim or now.claim > before.claim + 1:
            raise Broken(I4, f"job {job_id} goes from claim {before.claim} to {now.claim}")
        if now.claim > before.claim and now.state != RUNNING:
            raise Broken(I4, f"job {job_id} has a new claim, and doesn't run: {now}")
        if before.state == RUNNING and now.claim != before.claim:
            raise Broken(I4, f"job {job_id} is claimed while it runs: {now}")
        if now.checkpoint < before.checkpoint:
            raise Broken(I5, f"the checkpoint of job {job_id} goes back: {before} -> {now}")
        if now.lapses < before.lapses and before.state != RUNNING and now.state not in _FINAL:
            self._check_forgiven(job_id, before, now)
        if before.proceed_requested and not now.proceed_requested and now.state not in _FINAL | {PROCEEDED}:
            raise Broken(I10, f"a remembered proceed of job {job_id} is lost: {before} -> {now}")
        self._check_data(job_id, before, now)

    def _check_forgiven(self, job_id: int, before: _Row, now: _Row) -> None:
        if self._counted.pop(job_id, None) not in self._reported:
            raise Broken(I9, f"a lapse of job {job_id} is forgiven, whose worker never reported: {before} -> {now}")

    def _check_data(self, job_id: int, before: _Row, now: _Row) -> None:
        if now.data != before.data:
            was, found = numbers(before.data), numbers(now.data)
            if any(a > b for a, b in zip(was, found, strict=True)):
                raise Broken(I5, f"the execution metadata of job {job_id} goes back: {was} -> {found}")
        if numbers(now.data).rows != self.rows.get(job_id, 0):
            raise Broken(
                I5, f"{self.rows.get(job_id, 0)} rows of job {job_id}, and it knows of {numbers(now.data).rows}"
            )
        if numbers(now.data).persisted > self._done_outside.get(job_id, 0):
            raise Broken(I6, f"job {job_id} claims an effect outside that never was")

    def _check_move(self, job_id: int, before: _Row, now: _Row) -> None:
        if before.state in _FINAL:
            if now.state != PENDING or self.retried.get(job_id, 0) < self._finals[job_id]:
                raise Broken(I3, f"job {job_id} leaves its final state: {before} -> {now}")
            return
        if now.state not in _MOVES[before.state]:
            raise Broken(I3, f"job {job_id} makes a move that the table lacks: {before} -> {now}")
        if before.cancel_requested and now.state not in {CANCELLED, COMPLETED}:
            raise Broken(I3, f"the cancel of job {job_id} is ignored: {before} -> {now}")
        if now.state in _FINAL:
            self._finals[job_id] = self._finals.get(job_id, 0) + 1
        if before.state == RUNNING:
            self._check_settle(job_id, before, now)

    # --- I9: counted anew

    def _check_settle(self, job_id: int, before: _Row, now: _Row) -> None:
        landed = self._landed.get(job_id)
        kind = "cancel by a client" if landed is None or landed.claim != before.claim else landed.write
        if kind == "put back":
            if now.attempt != before.attempt - 1:
                raise Broken(I9, f"putting job {job_id} back spends an attempt: {before} -> {now}")
            return
        if kind == "cancel by a client":
            raise Broken(I3, f"job {job_id} leaves its attempt without its worker: {before} -> {now}")
        self._settled[job_id] = self._settled.get(job_id, 0) + 1
        key = job_id, before.claim
        ending = "lapse" if landed is not None and landed.by_rescue else self._endings.get(key)
        expected = self._expected(before, now, ending, key)
        found = now.state, now.retry_number, now.scheduler_retries, now.lapses
        counted = 2 if now.state in _FINAL else 4
        if found[:counted] != expected[:counted]:
            raise Broken(I9, f"job {job_id}, {ending}: {before} -> {now}, expected {expected}")

    def _expected(self, before: _Row, now: _Row, ending: str | None, key: tuple[int, int]) -> tuple[int, ...]:
        if ending == "return":
            return COMPLETED, before.retry_number
        if before.cancel_requested or ending in {"cancel", "cancel by user", None}:
            return CANCELLED, before.retry_number
        if ending in {"suspend", "suspend a while"}:
            # An unread event may have let it go on in the same transaction.
            goes_on = before.proceed_requested or (now.state == PROCEEDED and now.woken_by == WOKEN_BY_EVENT)
            return PROCEEDED if goes_on else SUSPENDED, 0, 0, 0
        if ending == "shutdown":
            return PENDING, before.retry_number, before.scheduler_retries, 0
        return self._expected_of_lapse(before, key) if ending == "lapse" else _expected_of_failure(before, ending)

    def _expected_of_lapse(self, before: _Row, key: tuple[int, int]) -> tuple[int, ...]:
        counts = key not in self._persisted and not self._lapses[key]
        if counts:
            self._counted[key[0]] = self._landed[key[0]].worker
        lapses = 0 if key in self._persisted else before.lapses + counts
        if counts and lapses >= LIMITS.max_lapses:
            return FAILED, before.retry_number
        return PENDING, before.retry_number, before.scheduler_retries, lapses

    # --- I10

    def _check_events(self, job_id: int) -> None:
        row = self._model.jobs.get(job_id) or self._model.ended.get(job_id)
        assert row is not None
        used, unread = numbers(row.data).events, len(self._model.unread(job_id))
        if used + unread != self.sent.get(job_id, 0):
            raise Broken(I10, f"{self.sent.get(job_id, 0)} events for job {job_id}: {used} used, {unread} unread")

    # --- at rest

    def is_at_rest(self) -> bool:
        """Whether every job has ended, or waits for ever; and nothing is under way."""
        model = self._model
        for job in model.jobs.values():
            if job.state != SUSPENDED or job.due is not None or _is_to_be_woken(self, job):
                return False
        return not model.has_locks and all(actor.process is not None for actor in self._world.actors)

    def check_at_rest(self) -> None:
        """Once all is at rest."""
        model = self._model
        for job_id in self._seen:
            self.look(job_id)
            self._check_events(job_id)
            job = model.jobs.get(job_id)
            state = job.state if job is not None else model.ended[job_id].state
            if job_id in self.cancelled and state not in {CANCELLED, COMPLETED}:
                raise Broken(I3, f"job {job_id} was cancelled, and is in state {state}")
            finals, retried = self._finals.get(job_id, 0), self.retried.get(job_id, 0)
            if finals != retried + (state in _FINAL):
                raise Broken(I3, f"job {job_id} has ended {finals} times, with {retried} retries")
            self._check_history(job_id)

    def _check_history(self, job_id: int) -> None:
        history = [past.attempt for past in self._model.attempts.get(job_id, ())]
        row = self._model.jobs.get(job_id) or self._model.ended.get(job_id)
        assert row is not None
        told = len(history) + (row.state in _FINAL and row.attempt > 0 and row.attempt not in history)
        if sorted(history) != sorted(set(history)) or told != row.attempt:
            raise Broken(I9, f"job {job_id} has had {row.attempt} attempts, its history tells of {history}")


def _expected_of_failure(before: _Row, ending: str | None) -> tuple[int, ...]:
    if ending == "raise" and before.scheduler_retries < LIMITS.policy.scheduler_retry_count:
        return RETRYING, before.retry_number, before.scheduler_retries + 1, 0
    if ending != "fail for good" and before.retry_number < LIMITS.policy.max_retry_count:
        return RETRYING, before.retry_number + 1, 0, 0
    return FAILED, before.retry_number


def _is_to_be_woken(ledger: Ledger, job: Job) -> bool:
    """Whether a suspended job should have been let go on: then it never comes to rest, which is a finding."""
    return job.proceed_requested or any(not event.woke for event in ledger._model.unread(job.id))
