"""Outcomes after which a job goes on later: when, with what, and what is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from perdure.store import leases, settles
from perdure.store.settles import Deferral, PutBack
from tests.store.entries import PENDING, PROCEEDED, RETRYING, SUSPENDED, to_release

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.settles import Release
    from tests.store.workbench import Workbench

TOLERANCE = timedelta(seconds=5)
FAR_EAST = timezone(timedelta(hours=9, minutes=30))


def _released(bench: Workbench, worker: UUID, entry: Release, **options: Any) -> dict[str, Any]:
    assert bench.release(worker, [entry], **options) == [entry.id]
    return bench.job(entry.id)


def test_a_release_writes_every_column_of_its_outcome(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql(
        """update {s}.jobs set unreadable = 3, lapsed_worker_id = gen_random_uuid(), proceed_requested = true,
            awaited = true, progress = '{"done":1}'"""
    )
    before = bench.job(job.id)
    entry = to_release(
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
    after = _released(bench, worker, to_release(job, SUSPENDED, due_seconds=None))
    assert (after["checkpoint"], after["execution_metadata"]) == (0, {"step": 0})
    assert (after["error"], after["last_error"]) == (None, None)


def test_a_job_that_keeps_its_place_runs_before_newer_ones(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    place = bench.job(job.id)["scheduled_at"]
    bench.start()
    after = _released(bench, worker, to_release(job, PENDING, keep_place=True, due_seconds=None))
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
    after = _released(bench, worker, to_release(job, SUSPENDED, due_at=due_at, due_seconds=None))
    if now:
        assert timedelta(0) <= bench.now() - after["scheduled_at"] < TOLERANCE
    else:
        assert bench.sql("select scheduled_at = %s as same from {s}.jobs", due_at) == [{"same": True}]


@pytest.mark.parametrize("seconds", [0, 0.5, 3600.0, 1e9])
def test_a_duration_is_added_to_the_databases_clock(bench: Workbench, seconds: float) -> None:
    worker = bench.register()
    after = _released(bench, worker, to_release(bench.claimed_job(worker), due_seconds=seconds))
    assert timedelta(0) <= bench.now() + timedelta(seconds=seconds) - after["scheduled_at"] < TOLERANCE


def test_without_a_time_a_suspended_job_is_never_due(bench: Workbench) -> None:
    worker = bench.register()
    after = _released(bench, worker, to_release(bench.claimed_job(worker), SUSPENDED, due_seconds=None))
    assert (after["state"], after["scheduled_at"]) == (SUSPENDED, None)
    assert bench.claim(worker) == []


def test_a_batch_mixes_all_kinds_of_due_times(bench: Workbench) -> None:
    worker = bench.register()
    places = [bench.claimed_job(worker) for _ in range(4)]
    before = bench.job(places[0].id)["scheduled_at"]
    later = datetime(2999, 1, 1, tzinfo=FAR_EAST)
    entries = [
        to_release(places[0], keep_place=True, due_seconds=None),
        to_release(places[1], SUSPENDED, due_at=later, due_seconds=None),
        to_release(places[2], due_seconds=7200.0),
        to_release(places[3], SUSPENDED, due_seconds=None),
    ]
    assert len(bench.release(worker, entries)) == 4
    due = [bench.job(job.id)["scheduled_at"] for job in places]
    assert due[0] == before
    assert due[1] == later
    assert timedelta(0) <= bench.now() + timedelta(hours=2) - due[2] < TOLERANCE
    assert due[3] is None


def test_a_used_proceed_is_used_up_and_another_survives(bench: Workbench) -> None:
    worker = bench.register()
    used, kept = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.sql("update {s}.jobs set proceed_requested = true")
    assert _released(bench, worker, to_release(used, PROCEEDED, use_proceed=True))["proceed_requested"] is False
    assert _released(bench, worker, to_release(kept, RETRYING))["proceed_requested"] is True


def test_a_rescue_remembers_whose_lapse_it_was(bench: Workbench) -> None:
    lost, holder = bench.register(), bench.register()
    job = bench.claimed_job(lost)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", lost)
    entry = to_release(job, PENDING, keep_place=True, lapses=1)
    after = _released_by(bench, lost, holder, entry)
    assert (after["lapsed_worker_id"], after["lapses"], after["worker_id"]) == (lost, 1, None)


@pytest.mark.parametrize("lapses", [2, 0], ids=["the worker is not to blame", "the attempt got further"])
def test_a_lapse_that_does_not_count_can_not_be_taken_back(bench: Workbench, lapses: int) -> None:
    lost, holder = bench.register(), bench.register()
    job = bench.claimed_job(lost)
    bench.sql("update {s}.jobs set lapses = 2")
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", lost)
    after = _released_by(bench, lost, holder, to_release(job, PENDING, keep_place=True, lapses=lapses))
    assert (after["lapsed_worker_id"], after["lapses"]) == (None, lapses)
    bench.run(leases.forgive(bench.names, lost, [job.id]))
    assert bench.job(job.id)["lapses"] == lapses


def _released_by(bench: Workbench, lost: UUID, holder: UUID, entry: Release) -> dict[str, Any]:
    return _released(bench, lost, entry, holder=holder, lapsed=True)


# --- claims that come to nothing ---


def test_a_claim_that_is_put_back_leaves_no_trace_but_its_number(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job_id = bench.start()
    before = bench.job(job_id)
    (claimed,) = bench.claim(worker)
    assert bench.run(settles.put_back(bench.names, worker, [PutBack(job_id, claimed.claim)])) == [job_id]
    after = bench.job(job_id)
    assert after.pop("claim") == before.pop("claim") + 1
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
        assert [each.id for each in bench.run(settles.defer(bench.names, worker, [entry]))] == [job_id]
        row = bench.job(job_id)
        delays.append(round((row["scheduled_at"] - began_at).total_seconds()))
        assert (row["state"], row["last_error"], row["unreadable"]) == (PENDING, "unknown task 'ü'", number)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    bench.sql("update {s}.jobs set unreadable = 32767, scheduled_at = created_at")
    (claimed,) = bench.claim(worker)
    deferrals = [Deferral(job_id, claimed.claim, b"still")]
    assert [each.id for each in bench.run(settles.defer(bench.names, worker, deferrals))] == [job_id]
