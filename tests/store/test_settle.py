"""Settles: an outcome is written wholly, in batches, and what is locked or changed meanwhile is left for later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.store import jobs, settles
from perdure.store.settles import Deferral, Finish, Persist, ProgressReport, PutBack, Release
from tests.store.workbench import gated

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.settles import Claimed
    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

COMPLETED, FAILED, CANCELLED = 6, 7, 8
PENDING, RETRYING, SUSPENDED, PROCEEDED = 0, 3, 4, 5
TOLERANCE = timedelta(seconds=5)
FAR_EAST = timezone(timedelta(hours=9, minutes=30))


def _finish(job: Claimed, state: int = COMPLETED, **change: Any) -> Finish:
    return Finish(job.id, job.claim, job.checkpoint, state, None, b"null", None, None)._replace(**change)


def _release(job: Claimed, state: int = RETRYING, **change: Any) -> Release:
    return Release(
        id=job.id,
        claim=job.claim,
        checkpoint=job.checkpoint,
        state=state,
        execution_metadata=None,
        keep_place=False,
        due_at=None,
        due_seconds=0.0,
        retry_number=0,
        scheduler_retries=0,
        lapses=0,
        suspect=False,
        use_proceed=False,
        error=None,
        last_error=None,
    )._replace(**change)


def _released(bench: Workbench, worker: UUID, entry: Release, **options: Any) -> dict[str, Any]:
    assert bench.run(settles.release(bench.names, worker, [entry], **options)) == [entry.id]
    return bench.job(entry.id)


def _notifications(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    connection.execute("")
    return [(found.channel, found.payload) for found in connection.notifies(timeout=0)]


# --- finish ---


def test_finish_moves_the_row_wholly(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker, task="import", queue="mail", priority=7)
    bench.sql(
        """update {s}.jobs set claim = 5, attempt = 4, retry_number = 3, scheduler_retries = 2, checkpoint = 9,
            lapses = 1, error = '{"old":1}', last_error = 'old', progress = '{"done":3}'"""
    )
    before = bench.job(job.id)
    entry = Finish(job.id, 5, 9, FAILED, b'{"step": 3}', None, b'{"error":  [1]}', "kaputt: ü".encode())
    began_at = bench.now()
    assert bench.run(settles.finish(bench.names, worker, [entry])) == 1
    assert bench.sql("select id from {s}.jobs") == []
    row = bench.finished(job.id)
    assert began_at < row.pop("finished_at") < bench.now()
    assert row == {
        "id": job.id,
        "scheduled_at": before["scheduled_at"],
        "created_at": before["created_at"],
        "started_at": before["started_at"],
        "worker_id": worker,
        "claim": 5,
        "attempt": 4,
        "retry_number": 3,
        "checkpoint": 10,
        "state": FAILED,
        "priority": 7,
        "queue": "mail",
        "task": "import",
        "metadata": {"n": 1},
        "execution_metadata": {"step": 3},
        "result": None,
        "error": {"error": [1]},
        "last_error": "kaputt: ü",
        "progress": {"done": 3},
    }


def test_a_success_stores_the_result_and_clears_the_errors_of_earlier_attempts(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    bench.sql("""update {s}.jobs set error = '{"old":1}', last_error = 'old'""")
    assert bench.run(settles.finish(bench.names, worker, [_finish(job, result=b'{"rows":12}')])) == 1
    row = bench.finished(job.id)
    assert (row["state"], row["result"], row["error"], row["last_error"]) == (COMPLETED, {"rows": 12}, None, None)


def test_a_finish_without_execution_metadata_keeps_the_stored_one_and_its_number(bench: Workbench) -> None:
    worker = bench.register()
    first = bench.claimed_job(worker, execution_metadata=b'{"step":1}')
    second = bench.claimed_job(worker, execution_metadata=b'{"step":2}')
    entries = [_finish(first, execution_metadata=b'{"step":9}'), _finish(second)]
    assert bench.run(settles.finish(bench.names, worker, entries)) == 2
    rows = [bench.finished(job.id) for job in (first, second)]
    assert [(row["execution_metadata"], row["checkpoint"]) for row in rows] == [({"step": 9}, 1), ({"step": 2}, 0)]


@pytest.mark.parametrize("state", [COMPLETED, FAILED, CANCELLED])
def test_the_end_of_an_awaited_job_is_notified_with_its_id(bench: Workbench, state: int) -> None:
    worker = bench.register()
    awaited, unawaited = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.run(jobs.await_end(bench.names, [awaited.id]))
    listener = bench.connect()
    listener.execute(f"listen {bench.names.done_channel}".encode())
    assert bench.run(settles.finish(bench.names, worker, [_finish(awaited, state), _finish(unawaited, state)])) == 2
    assert _notifications(listener) == [(bench.names.done_channel, str(awaited.id))]


def test_a_cancel_of_an_awaited_job_is_notified_too(bench: Workbench) -> None:
    job_id = bench.start()
    bench.run(jobs.await_end(bench.names, [job_id]))
    listener = bench.connect()
    listener.execute(f"listen {bench.names.done_channel}".encode())
    assert bench.run(jobs.cancel(bench.names, job_id))
    assert _notifications(listener) == [(bench.names.done_channel, str(job_id))]
    assert bench.finished(job_id)["state"] == CANCELLED


def test_a_finish_that_is_repeated_does_nothing(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    assert bench.run(settles.finish(bench.names, worker, [_finish(job, result=b"1")])) == 1
    before = bench.rows()
    assert bench.run(settles.finish(bench.names, worker, [_finish(job, result=b"2")])) == 0
    assert bench.rows() == before


# --- many at once ---


@pytest.mark.parametrize("first_id", [1, 2**31 - 3, 2**31, 2**62])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_row_gets_its_own_place_of_the_arrays(bench: Workbench, first_id: int, count: int) -> None:
    worker = bench.register()
    bench.sql("select setval('{s}.job_ids', %s, false)", first_id)
    ids = [bench.start() for _ in range(2 * count)][::2]  # with gaps between them
    claimed = {job.id: job for job in bench.claim(worker)}
    mine = [claimed[job_id] for job_id in ids]
    entries = [_release(job, last_error=str(job.id).encode(), retry_number=place) for place, job in enumerate(mine)]
    assert sorted(bench.run(settles.release(bench.names, worker, entries))) == ids
    rows = bench.sql("select id, last_error, retry_number from {s}.jobs where state = 3 order by id")
    assert [(row["id"], row["last_error"], row["retry_number"]) for row in rows] == [
        (job_id, str(job_id), place) for place, job_id in enumerate(ids)
    ]


def test_a_batch_of_a_thousand(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    bench.run(
        jobs.start_many(
            bench.names,
            task="task",
            queue="default",
            priority=0,
            metadata=[b"%d" % number for number in range(1000)],
            execution_metadata=b"null",
            at=None,
            after=None,
            notify=False,
        )
    )
    claimed = sorted(bench.claim(worker, want=1000))
    persists = [Persist(job.id, job.claim, 0, b'{"of":%s}' % job.metadata) for job in claimed]
    assert len(bench.run(settles.persist(bench.names, worker, persists))) == 1000
    entries = [_finish(job, checkpoint=1, result=job.metadata) for job in claimed]
    assert bench.run(settles.finish(bench.names, worker, entries)) == 1000
    wrong = "result::text <> metadata::text or execution_metadata ->> 'of' <> metadata::text"
    assert bench.sql(f"select count(*) as count from {{s}}.finished_jobs where {wrong}") == [{"count": 0}]


def test_locked_rows_are_left_and_the_rest_of_the_batch_is_settled(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    claimed = [bench.claimed_job(worker) for _ in range(9)]
    locked = claimed[::3]
    holder = bench.connect()
    bench.connection.execute("set lock_timeout = '2s'")
    with holder.transaction():
        holder.execute("select from background_tasks.jobs where id = any(%s) for update", [[job.id for job in locked]])
        persists = [Persist(job.id, job.claim, 0, b'"new"') for job in claimed]
        written = bench.run(settles.persist(bench.names, worker, persists))
        assert sorted(written) == [job.id for job in claimed if job not in locked]
        renewed = [job._replace(checkpoint=1) for job in claimed]
        assert bench.run(settles.finish(bench.names, worker, [_finish(job) for job in renewed[:3]])) == 2
        assert len(bench.run(settles.release(bench.names, worker, [_release(job) for job in renewed[3:6]]))) == 2
        put_backs = [PutBack(job.id, job.claim) for job in renewed[6:]]
        assert len(bench.run(settles.put_back(bench.names, worker, put_backs))) == 2
        deferred = [Deferral(job.id, job.claim, b"unknown") for job in locked]
        assert bench.run(settles.defer(bench.names, worker, deferred)) == []
        reports = [ProgressReport(job.id, job.claim, b"{}") for job in locked]
        bench.run(settles.report_progress(bench.names, worker, reports))
        found = bench.run(settles.settlement(bench.names, [job.id for job in claimed]))
        assert sorted(found) == [job.id for job in claimed if job not in locked]
    assert bench.run(settles.finish(bench.names, worker, [_finish(job) for job in locked])) == 3


BATCHES: dict[str, Callable[[Names, UUID, list[Claimed]], Call[Any]]] = {
    "finish": lambda names, worker, them: settles.finish(names, worker, [_finish(job) for job in them]),
    "release": lambda names, worker, them: settles.release(names, worker, [_release(job, SUSPENDED) for job in them]),
    "persist": lambda names, worker, them: settles.persist(
        names, worker, [Persist(job.id, job.claim, job.checkpoint, b"1") for job in them]
    ),
    "report_progress": lambda names, worker, them: settles.report_progress(
        names, worker, [ProgressReport(job.id, job.claim, b"1") for job in them]
    ),
    "put_back": lambda names, worker, them: settles.put_back(
        names, worker, [PutBack(job.id, job.claim) for job in them]
    ),
    "defer": lambda names, worker, them: settles.defer(
        names, worker, [Deferral(job.id, job.claim, b"1") for job in them]
    ),
}
RESCUED = "state = 0, worker_id = null"
CLAIMED_AGAIN = "claim = claim + 1"
OUTRUN = [
    *[(write, change) for write in BATCHES for change in (RESCUED, CLAIMED_AGAIN)],
    *[(write, "checkpoint = checkpoint + 1") for write in ("finish", "release", "persist")],
    *[(write, "cancel_requested = true") for write in ("release", "put_back", "defer")],
    ("release", "proceed_requested = true"),
]


@pytest.mark.parametrize(("write", "change"), OUTRUN)
def test_what_changed_between_a_writes_snapshot_and_its_lock_is_respected(
    every_bench: Workbench, write: str, change: str
) -> None:
    bench, worker = every_bench, every_bench.register()
    changed, untouched = bench.claimed_job(worker), bench.claimed_job(worker)
    names = gated(bench.names, write)
    with bench.closed_gate():
        result = bench.begin(BATCHES[write](names, worker, [changed, untouched]), bench.connect())
        bench.sql(f"update {{s}}.jobs set {change} where id = %s", changed.id)
        before = bench.rows()
    result.result(timeout=10)
    after = bench.rows()
    differing = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert differing <= {f"jobs {untouched.id}", f"finished_jobs {untouched.id}"}
    assert differing


def test_whoever_began_to_wait_between_a_finishs_snapshot_and_its_lock_is_notified(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    listener = bench.connect()
    listener.execute(f"listen {bench.names.done_channel}".encode())
    with bench.closed_gate():
        result = bench.begin(BATCHES["finish"](gated(bench.names, "finish"), worker, [job]), bench.connect())
        bench.run(jobs.await_end(bench.names, [job.id]))
    assert result.result(timeout=10) == 1
    assert _notifications(listener) == [(bench.names.done_channel, str(job.id))]


@pytest.mark.parametrize("write", BATCHES)
def test_a_batch_that_is_not_sorted_is_refused(bench: Workbench, write: str) -> None:
    worker = bench.register()
    first, second = bench.claimed_job(worker), bench.claimed_job(worker)
    with pytest.raises(ValueError, match="sorted by id"):
        BATCHES[write](bench.names, worker, [second, first])


@pytest.mark.parametrize("write", BATCHES)
def test_of_a_job_that_a_batch_names_twice_the_last_entry_counts(bench: Workbench, write: str) -> None:
    worker = bench.register()
    job, other = bench.claimed_job(worker), bench.claimed_job(worker)
    outdated = job._replace(claim=0)
    before = bench.rows()
    bench.run(BATCHES[write](bench.names, worker, [job, outdated, other._replace(claim=0)]))
    assert bench.rows() == before
    bench.run(BATCHES[write](bench.names, worker, [outdated, job, other]))
    assert {key for key in before if bench.rows().get(key) != before[key]} == {f"jobs {job.id}", f"jobs {other.id}"}


# --- release ---


def test_a_release_writes_every_column_of_its_outcome(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql(
        """update {s}.jobs set unreadable = 3, lapsed_worker_id = gen_random_uuid(), proceed_requested = true,
            awaited = true, progress = '{"done":1}'"""
    )
    before = bench.job(job.id)
    entry = _release(
        job,
        RETRYING,
        execution_metadata=b'{"step": 5}',
        due_seconds=60.0,
        retry_number=2,
        scheduler_retries=3,
        lapses=1,
        suspect=True,
        error=b'{"raised":1}',
        last_error=b"ValueError: no",
    )
    after = _released(bench, worker, entry)
    due_at = after["scheduled_at"]
    assert timedelta(0) <= bench.now() + timedelta(minutes=1) - due_at < TOLERANCE
    assert after == before | {
        "state": RETRYING,
        "worker_id": None,
        "lapsed_worker_id": None,
        "scheduled_at": due_at,
        "retry_number": 2,
        "scheduler_retries": 3,
        "lapses": 1,
        "suspect": True,
        "unreadable": 0,
        "checkpoint": 1,
        "execution_metadata": {"step": 5},
        "error": {"raised": 1},
        "last_error": "ValueError: no",
    }


def test_a_release_without_execution_metadata_keeps_the_stored_one_and_clears_the_errors(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    bench.sql("""update {s}.jobs set error = '1', last_error = 'old'""")
    after = _released(bench, worker, _release(job, SUSPENDED, due_seconds=None))
    assert (after["checkpoint"], after["execution_metadata"]) == (0, {"step": 0})
    assert (after["error"], after["last_error"]) == (None, None)


def test_a_job_that_keeps_its_place_runs_before_newer_ones(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    place = bench.job(job.id)["scheduled_at"]
    bench.start()
    after = _released(bench, worker, _release(job, PENDING, keep_place=True, due_seconds=None))
    assert after["scheduled_at"] == place
    assert [found.id for found in bench.claim(worker, want=1)] == [job.id]


@pytest.mark.parametrize(
    ("due_at", "now"),
    [
        (datetime(2001, 1, 1, tzinfo=UTC), True),
        (datetime(2999, 1, 1, 12, 30, 0, 123456, tzinfo=FAR_EAST), False),
    ],
)
def test_a_time_is_kept_exactly_and_the_past_means_now(bench: Workbench, due_at: datetime, now: bool) -> None:  # noqa: FBT001
    worker = bench.register()
    job = bench.claimed_job(worker)
    after = _released(bench, worker, _release(job, SUSPENDED, due_at=due_at, due_seconds=None))
    if now:
        assert timedelta(0) <= bench.now() - after["scheduled_at"] < TOLERANCE
    else:
        assert bench.sql("select scheduled_at = %s as same from {s}.jobs", due_at) == [{"same": True}]


@pytest.mark.parametrize("seconds", [0, 0.5, 3600.0, 1e9])
def test_a_duration_is_added_to_the_databases_clock(bench: Workbench, seconds: float) -> None:
    worker = bench.register()
    after = _released(bench, worker, _release(bench.claimed_job(worker), due_seconds=seconds))
    assert timedelta(0) <= bench.now() + timedelta(seconds=seconds) - after["scheduled_at"] < TOLERANCE


def test_without_a_time_a_suspended_job_is_never_due(bench: Workbench) -> None:
    worker = bench.register()
    after = _released(bench, worker, _release(bench.claimed_job(worker), SUSPENDED, due_seconds=None))
    assert (after["state"], after["scheduled_at"]) == (SUSPENDED, None)
    assert bench.claim(worker) == []


def test_a_batch_mixes_all_kinds_of_due_times(bench: Workbench) -> None:
    worker = bench.register()
    places = [bench.claimed_job(worker) for _ in range(4)]
    before = bench.job(places[0].id)["scheduled_at"]
    later = datetime(2999, 1, 1, tzinfo=FAR_EAST)
    entries = [
        _release(places[0], keep_place=True, due_seconds=None),
        _release(places[1], SUSPENDED, due_at=later, due_seconds=None),
        _release(places[2], due_seconds=7200.0),
        _release(places[3], SUSPENDED, due_seconds=None),
    ]
    assert len(bench.run(settles.release(bench.names, worker, entries))) == 4
    due = [bench.job(job.id)["scheduled_at"] for job in places]
    assert due[0] == before
    assert due[1] == later
    assert timedelta(0) <= bench.now() + timedelta(hours=2) - due[2] < TOLERANCE
    assert due[3] is None


def test_a_used_proceed_is_used_up_and_another_survives(bench: Workbench) -> None:
    worker = bench.register()
    used, kept = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.sql("update {s}.jobs set proceed_requested = true")
    assert _released(bench, worker, _release(used, PROCEEDED, use_proceed=True))["proceed_requested"] is False
    assert _released(bench, worker, _release(kept, RETRYING))["proceed_requested"] is True


def test_a_rescue_remembers_whose_lapse_it_was(bench: Workbench) -> None:
    lost, holder = bench.register(), bench.register()
    job = bench.claimed_job(lost)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", lost)
    entry = _release(job, PENDING, keep_place=True, lapses=1)
    after = _released_by(bench, lost, holder, entry)
    assert (after["lapsed_worker_id"], after["lapses"], after["worker_id"]) == (lost, 1, None)


def _released_by(bench: Workbench, lost: UUID, holder: UUID, entry: Release) -> dict[str, Any]:
    return _released(bench, lost, entry, holder=holder, lapsed=True)


# --- put back, defer, revive ---


def test_a_claim_that_is_put_back_leaves_no_trace_but_its_number(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job_id = bench.start()
    before = bench.job(job_id)
    (claimed,) = bench.claim(worker)
    assert bench.run(settles.put_back(bench.names, worker, [PutBack(job_id, claimed.claim)])) == [job_id]
    after = bench.job(job_id)
    assert after.pop("claim") == before.pop("claim") + 1
    assert after.pop("started_at") is not None  # of the claim; the next one overwrites it
    before.pop("started_at")
    assert after == before
    (again,) = bench.claim(worker)
    assert (again.claim, again.attempt) == (2, 1)
    # A late copy can't hit the later claim.
    assert bench.run(settles.put_back(bench.names, worker, [PutBack(job_id, claimed.claim)])) == []


def test_deferred_jobs_wait_at_growing_delays_of_a_minute_at_most(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job_id = bench.start()
    delays: list[int] = []
    for number in range(1, 10):
        bench.sql("update {s}.jobs set scheduled_at = created_at")
        (claimed,) = bench.claim(worker)
        assert (claimed.claim, claimed.attempt) == (number, 1)
        entry = Deferral(job_id, claimed.claim, "unknown task 'ü'".encode())
        began_at = bench.now()
        assert bench.run(settles.defer(bench.names, worker, [entry])) == [job_id]
        row = bench.job(job_id)
        delays.append(round((row["scheduled_at"] - began_at).total_seconds()))
        assert (row["state"], row["last_error"], row["unreadable"]) == (PENDING, "unknown task 'ü'", number)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    bench.sql("update {s}.jobs set unreadable = 32767, scheduled_at = created_at")
    (claimed,) = bench.claim(worker)
    assert bench.run(settles.defer(bench.names, worker, [Deferral(job_id, claimed.claim, b"still")])) == [job_id]


# --- checkpoints ---


def test_a_checkpoint_of_an_abandoned_persist_cannot_undo_a_newer_one(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    late = Persist(job.id, job.claim, 0, b'"late"')
    assert bench.run(settles.persist(bench.names, worker, [late._replace(execution_metadata=b'"first"')])) == [job.id]
    assert bench.run(settles.persist(bench.names, worker, [Persist(job.id, job.claim, 1, b'"second"')])) == [job.id]
    assert bench.run(settles.persist(bench.names, worker, [late])) == []
    row = bench.job(job.id)
    assert (row["execution_metadata"], row["checkpoint"]) == ("second", 2)


def test_the_fence_aborts_the_users_transaction(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql("create temporary table rows (n int)")
    entry = Persist(job.id, job.claim, 0, b'"new"')
    with bench.connection.transaction():
        bench.sql("insert into rows values (1)")
        assert bench.run(settles.fence(bench.names, worker, entry, changed=True)) is True

    def insert_and_commit() -> None:
        with bench.connection.transaction():
            bench.sql("insert into rows values (2)")
            bench.run(settles.fence(bench.names, worker, entry, changed=True))

    with pytest.raises(psycopg.Error, match="lease of this attempt is lost") as caught:
        insert_and_commit()
    assert caught.value.sqlstate == "PD001"
    assert bench.sql("select n from rows") == [{"n": 1}]
    assert bench.job(job.id)["checkpoint"] == 1


def test_a_fence_without_changes_takes_a_number_all_the_same(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker, execution_metadata=b'{"step":3}')
    bench.run(settles.fence(bench.names, worker, Persist(job.id, job.claim, 0, b'"ignored"'), changed=False))
    row = bench.job(job.id)
    assert (row["execution_metadata"], row["checkpoint"]) == ({"step": 3}, 1)


def test_progress_changes_nothing_else(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    before = bench.job(job.id)
    bench.run(settles.report_progress(bench.names, worker, [ProgressReport(job.id, job.claim, b'{"done":3}')]))
    assert bench.job(job.id) == before | {"progress": {"done": 3}}


# --- what a write that found no row asks ---


def test_settlement_tells_live_ended_and_locked_jobs_apart(bench: Workbench) -> None:
    worker = bench.register()
    live, ended, locked = (bench.claimed_job(worker) for _ in range(3))
    bench.run(settles.finish(bench.names, worker, [_finish(ended, execution_metadata=b"1")]))
    bench.sql("update {s}.jobs set cancel_requested = true, proceed_requested = true where id = %s", live.id)
    holder = bench.connect()
    with holder.transaction():
        holder.execute("delete from background_tasks.jobs where id = %s", [locked.id])
        found = bench.run(settles.settlement(bench.names, [live.id, ended.id, locked.id, 2**40]))
    assert found == {
        live.id: (live.id, 1, 2, worker, 0, True, True),
        ended.id: (ended.id, 1, COMPLETED, worker, 1, False, False),
    }
