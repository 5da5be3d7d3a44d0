"""The simulator's model of the store says what the real statements say: on random sequences, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from perdure.core.decide import Limits
from perdure.core.retry import RetryPolicy
from perdure.store.settles import Deferral, Finish, Persist, PutBack, Release
from perdure.worker.rescuer import _verdict
from tests.store.workbench import with_statement
from tests.support.simulator.sides import Differs
from tests.support.simulator.twin import HOUR, TRANSACTIONS, Twin
from tests.support.tiers import count, seeds

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from tests.store.workbench import Workbench

pytestmark = pytest.mark.timeout(1800)

_MOST_JOBS, _MOST_WORKERS = 4, 4
_SLEEP = "nap"
PLACES = st.sampled_from([None, None, None, *range(TRANSACTIONS)])
# Of a list that grows: mostly one of the last, so that most writes are of an attempt that runs; but not always.
WHICH = st.sampled_from([-1, -1, -1, -2, -2, -3, -4, -5, 0])
OFFSETS = st.sampled_from([0, 0, 0, 0, 0, -1, 1, 2])
DATA = st.sampled_from([None, b"1", b"2"])
HOURS = st.sampled_from([None, 0, 1, 2])
ENTRY = st.tuples(WHICH, OFFSETS, DATA, st.integers(0, 2))
BATCH = st.lists(ENTRY, min_size=1, max_size=3)
LIMITS = Limits(RetryPolicy(1, (HOUR,), 1), 2)


class Sequences(RuleBasedStateMachine):
    """Statements in any order, of attempts that run, ran, or never did; by themselves, and in open transactions."""

    bench: Workbench

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(self.bench)
        self.jobs: list[int] = []
        self.claims: list[tuple[int, int, UUID]] = []

    def teardown(self) -> None:
        """End what is open."""
        self.twin.close()

    # --- what the rules draw from

    def _job(self, which: int) -> int:
        return self.jobs[which % len(self.jobs)]

    def _worker(self, which: int) -> UUID:
        workers = self.twin.workers
        return workers[which % len(workers)]

    def _drawn(
        self, batch: list[tuple[int, int, Any, int]]
    ) -> tuple[UUID, list[tuple[int, int, int, Any, tuple[int, ...]]]]:
        """Return a worker, and of each of its claims: job, claim, checkpoint, data, events; one a job, sorted."""
        worker = self.claims[batch[0][0] % len(self.claims)][2]
        own = [claim for claim in self.claims if claim[2] == worker]
        entries = {}
        for which, offset, data, events in batch:
            job_id, claim, _ = own[which % len(own)]
            row = self.twin.model.jobs.get(job_id) or self.twin.model.ended.get(job_id)
            assert row is not None
            unread = tuple(event.id for event in self.twin.model.unread(job_id))
            entries[job_id] = job_id, claim, row.checkpoint + offset, data, unread[:events]
        return worker, sorted(entries.values())

    has_jobs = precondition(lambda self: self.jobs)
    has_claims = precondition(lambda self: self.claims)

    # --- clients

    @initialize()
    def begin(self) -> None:
        """A worker and a job, so that there is something to do."""
        self.twin.register()
        self.jobs.append(self.twin.start())

    @precondition(lambda self: len(self.jobs) < _MOST_JOBS)
    @rule(
        after=st.sampled_from([0, 0, 0, 1]),
        deadline=st.sampled_from([None, None, 1, 3]),
        priority=st.sampled_from([0, 0, 1]),
    )
    def start(self, after: int, deadline: int | None, priority: int) -> None:
        self.jobs.append(self.twin.start(after_hours=after, deadline_hours=deadline, priority=priority))

    @has_jobs
    @rule(place=PLACES, which=WHICH, after=HOURS, data=st.sampled_from([None, None, b"7"]), offset=OFFSETS)
    def proceed(self, place: int | None, which: int, after: int | None, data: bytes | None, offset: int) -> None:
        job_id = self._job(which)
        row = self.twin.model.jobs.get(job_id)
        checkpoint = row.checkpoint + offset if data is not None and row is not None else None
        self.twin.proceed(place, job_id, after_hours=after, checkpoint=checkpoint, data=data)

    @has_jobs
    @rule(place=PLACES, which=WHICH)
    def send(self, place: int | None, which: int) -> None:
        self.twin.send(place, self._job(which))

    @has_jobs
    @rule(place=PLACES, which=WHICH, runs=st.booleans())
    def cancel(self, place: int | None, which: int, runs: bool) -> None:  # noqa: FBT001 - drawn
        (self.twin.request_cancel if runs else self.twin.cancel)(place, self._job(which))

    @has_jobs
    @rule(which=WHICH, names_attempt=st.booleans(), data=DATA)
    def retry(self, which: int, names_attempt: bool, data: bytes | None) -> None:  # noqa: FBT001 - drawn
        ended = self.twin.model.ended.get(self._job(which))
        attempt = ended.attempt if ended is not None and names_attempt else None
        self.twin.retry(self._job(which), attempt=attempt, data=data)

    # --- attempts

    @rule(place=PLACES, which=WHICH, want=st.integers(1, 2))
    def claim(self, place: int | None, which: int, want: int) -> None:
        worker = self._worker(which)
        self.claims += [(job_id, claim, worker) for job_id, claim, _ in self.twin.claim(place, worker, want)]

    @rule(which=WHICH)
    def claim_suspect(self, which: int) -> None:
        worker = self._worker(which)
        self.claims += [(job_id, claim, worker) for job_id, claim, _ in self.twin.claim_suspect(worker)]

    @has_claims
    @rule(place=PLACES, batch=BATCH)
    def put_back(self, place: int | None, batch: list[Any]) -> None:
        worker, entries = self._drawn(batch)
        self.twin.put_back(place, worker, [PutBack(job_id, claim) for job_id, claim, *_ in entries])

    @has_claims
    @rule(batch=BATCH, began=st.booleans())
    def defer(self, batch: list[Any], began: bool) -> None:  # noqa: FBT001 - drawn
        worker, entries = self._drawn(batch)
        self.twin.defer(worker, [Deferral(job_id, claim, b"why", began) for job_id, claim, *_ in entries])

    @has_claims
    @rule(place=PLACES, batch=BATCH, step=st.sampled_from([None, "charge", _SLEEP]))
    def persist(self, place: int | None, batch: list[Any], step: str | None) -> None:
        worker, entries = self._drawn(batch)
        steps = () if step is None else ((step, b"5"),)
        self.twin.persist(place, worker, [Persist(*entry, steps) for entry in entries])

    @has_claims
    @rule(place=PLACES, entry=ENTRY)
    def fence(self, place: int | None, entry: Any) -> None:
        worker, (drawn,) = self._drawn([entry])
        self.twin.fence(place, worker, Persist(*drawn))

    @has_claims
    @rule(entry=ENTRY)
    def take_number(self, entry: Any) -> None:
        worker, (drawn,) = self._drawn([entry])
        self.twin.take_number(worker, Persist(*drawn))

    @has_claims
    @rule(entry=ENTRY, hours=st.integers(0, 2))
    def begin_sleep(self, entry: Any, hours: int) -> None:
        worker, ((job_id, claim, *_),) = self._drawn([entry])
        self.twin.begin_sleep(worker, job_id, claim, _SLEEP, hours)

    @has_claims
    @rule(
        place=PLACES,
        batch=BATCH,
        state=st.integers(6, 8),
        holder=st.sampled_from([None, None, None, 0, -1]),
    )
    def finish(self, place: int | None, batch: list[Any], state: int, holder: int | None) -> None:
        worker, drawn = self._drawn(batch)
        entries = [
            Finish(job_id, claim, checkpoint, state, data, b"1", b'"broken"', b"broken", events)
            for job_id, claim, checkpoint, data, events in drawn
        ]
        self.twin.finish(place, worker, entries, None if holder is None else self._worker(holder))

    @has_claims
    @rule(
        place=PLACES,
        batch=BATCH,
        state=st.sampled_from([0, 3, 4, 4, 5]),
        due=st.tuples(st.booleans(), HOURS),
        counters=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        woken_by=st.sampled_from([None, 0, 1, 3]),
        holder=st.sampled_from([None, None, None, 0, -1]),
        wakes=st.booleans(),
    )
    def release(  # noqa: PLR0917 - all of it drawn
        self,
        place: int | None,
        batch: list[Any],
        state: int,
        due: tuple[bool, int | None],
        counters: tuple[int, int, int],
        flags: tuple[bool, bool, bool, bool],
        woken_by: int | None,
        holder: int | None,
        wakes: bool,  # noqa: FBT001 - drawn
    ) -> None:
        worker, drawn = self._drawn(batch)
        suspect, use_proceed, asleep, took_events = flags
        keep_place, hours = due
        entries = [
            Release(
                job_id,
                claim,
                checkpoint,
                state,
                data,
                keep_place,
                None,
                None if hours is None else hours * HOUR,
                *counters,
                suspect,
                use_proceed,
                None,
                b"line",
                4,
                2,
                asleep,
                woken_by,
                events,
                took_events,
            )
            for job_id, claim, checkpoint, data, events in drawn
        ]
        self.twin.release(
            place, worker, entries, None if holder is None else self._worker(holder), lapsed=holder is not None
        )
        if wakes:
            self.twin.wake_unread(place, entries)

    @has_claims
    @rule(batch=BATCH)
    def settlement(self, batch: list[Any]) -> None:
        self.twin.settlement([entry[0] for entry in self._drawn(batch)[1]])

    # --- leases

    @precondition(lambda self: len(self.twin.workers) < _MOST_WORKERS)
    @rule()
    def register(self) -> None:
        self.twin.register()

    @rule(which=WHICH)
    def renew(self, which: int) -> None:
        self.twin.renew(self._worker(which))

    @rule(which=WHICH)
    def remove(self, which: int) -> None:
        self.twin.remove(self._worker(which))

    @rule(which=WHICH)
    def sweep(self, which: int) -> None:
        self.twin.sweep(self._worker(which))

    @rule(which=WHICH, place=st.integers(0, TRANSACTIONS - 1))
    def lock_lapsed_jobs(self, which: int, place: int) -> None:
        self.twin.lapsed_jobs(place, self._worker(which))

    @rule(which=WHICH, by=WHICH, ever_reported=st.booleans())
    def rescue(self, which: int, by: int, ever_reported: bool) -> None:  # noqa: FBT001 - drawn
        lost, holder = self._worker(which), self._worker(by)
        jobs = self.twin.lapsed_jobs(0, lost)
        entries = [_verdict(job, LIMITS, ever_reported=ever_reported).entry() for job in jobs]
        if finishes := [entry for entry in entries if isinstance(entry, Finish)]:
            self.twin.finish(0, lost, finishes, holder)
        if releases := [entry for entry in entries if isinstance(entry, Release)]:
            self.twin.release(0, lost, releases, holder, lapsed=True)
        self.twin.end(0, commits=True)

    @has_jobs
    @rule(which=WHICH, jobs=st.lists(WHICH, min_size=1, max_size=3))
    def forgive(self, which: int, jobs: list[int]) -> None:
        self.twin.forgive(self._worker(which), sorted({self._job(job) for job in jobs}))

    @rule()
    def expire(self) -> None:
        self.twin.expire()

    @rule()
    def revive(self) -> None:
        self.twin.revive("task")

    # --- time and transactions

    @rule(hours=st.sampled_from([1, 1, 2, 3, -1]))
    def pass_time(self, hours: int) -> None:
        self.twin.pass_time(hours)

    @rule(place=st.integers(0, TRANSACTIONS - 1), commits=st.booleans())
    def end(self, place: int, commits: bool) -> None:  # noqa: FBT001 - drawn
        self.twin.end(place, commits=commits)


@pytest.mark.parametrize("drawn", seeds("test_the_model_is_the_database", push=1, nightly=10))
@pytest.mark.parametrize("version", ["18", "15"])
def test_the_model_is_the_database(request: pytest.FixtureRequest, version: str, drawn: int) -> None:
    bench: Workbench = request.getfixturevalue("bench" if version == "18" else "old_bench")
    machine = type("Sequences", (Sequences,), {"bench": bench})
    examples = count(push=25 if version == "18" else 5, nightly=250)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(drawn)(machine),
        settings=settings(max_examples=examples, stateful_step_count=40, database=None, deadline=None),
    )


def _release(twin: Twin, worker: UUID, job_id: int) -> None:
    retrying = (False, None, HOUR, 0, 1, 0, False, False, None, None, 1)
    twin.release(None, worker, [Release(job_id, 1, 0, 3, None, *retrying)])


def _release_though_cancelled(twin: Twin, worker: UUID, job_id: int) -> None:
    twin.cancel(None, job_id)
    twin.request_cancel(None, job_id)
    _release(twin, worker, job_id)


def _persist_behind_another(twin: Twin, worker: UUID, job_id: int) -> None:
    twin.persist(None, worker, [Persist(job_id, 1, 1, b"1")])


def _proceed_what_retries(twin: Twin, worker: UUID, job_id: int) -> None:
    _release(twin, worker, job_id)
    twin.proceed(None, job_id, after_hours=None, checkpoint=None, data=None)


@pytest.mark.parametrize(
    ("statement", "text", "instead", "act"),
    [
        ("release", "and not cancel_requested", "", _release_though_cancelled),
        ("persist", "and checkpoint = ", "and checkpoint <> -", _persist_behind_another),
        ("proceed", "found.state = 4", "found.state in (3, 4)", _proceed_what_retries),
        ("release", "scheduled_at = case", "attempt = attempt + 1, scheduled_at = case", _release),
    ],
)
def test_a_statement_that_isnt_the_models_is_noticed(
    bench: Workbench, statement: str, text: str, instead: str, act: Callable[[Twin, UUID, int], None]
) -> None:
    changed, names = bench.names.statements[statement].decode(), bench.names
    assert text in changed
    bench.names = with_statement(bench.names, statement, changed.replace(text, instead).encode())
    twin = Twin(bench)
    try:
        twin.register()
        job_id, worker = twin.start(), twin.workers[0]
        twin.claim(None, worker, 1)
        with pytest.raises(Differs):
            act(twin, worker, job_id)
    finally:
        twin.close()
        bench.names = names
