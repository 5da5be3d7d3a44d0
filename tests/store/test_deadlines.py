"""Deadlines of jobs that no worker holds, and what a sweep tells of them; and whom a cancel request is told to."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from perdure.store import jobs, leases
from tests.store.workbench import gated

if TYPE_CHECKING:
    from perdure.store.leases import Sweep
    from perdure.store.sql import Names
    from tests.store.workbench import Workbench

FAILED = 7


def _expire(bench: Workbench, limit: int = 10, names: Names | None = None) -> int:
    return bench.run(
        leases.expire(names or bench.names, error=b'{"raised":  1}', last_error="spät".encode(), limit=limit)
    )


def _set_deadline(bench: Workbench, job_id: int, seconds: float) -> None:
    bench.sql(
        "update {s}.jobs set deadline_at = clock_timestamp() + %s * interval '1 s' where id = %s", seconds, job_id
    )


def _sweep(bench: Workbench) -> Sweep:
    return bench.run(leases.sweep(bench.names, uuid.uuid4()))


def test_a_waiting_job_past_its_deadline_fails_wholly(every_bench: Workbench) -> None:
    bench = every_bench
    job_id = bench.start(after=timedelta(hours=5), queue="mail", priority=3)
    bench.sql(
        """update {s}.jobs set attempt = 2, claim = 3, checkpoint = 4, retry_number = 1, woken_by = 2, version = 5,
            state = 4, error = '1', last_error = 'old', progress = '2'"""
    )
    _set_deadline(bench, job_id, -1.0)
    before = bench.job(job_id)
    assert _expire(bench) == 1
    after = bench.finished(job_id)
    assert before["created_at"] < after.pop("finished_at") < bench.now()
    assert {name: after.pop(name) for name in ("state", "result", "error", "last_error")} == {
        "state": FAILED,
        "result": None,
        "error": {"raised": 1},
        "last_error": "spät",
    }
    assert after == {name: before[name] for name in after}
    assert _expire(bench) == 0


def test_the_end_by_a_deadline_is_notified_to_whoever_waits(bench: Workbench) -> None:
    awaited, unawaited = bench.start(), bench.start()
    bench.run(jobs.await_end(bench.names, [awaited]))
    for job_id in (awaited, unawaited):
        _set_deadline(bench, job_id, -1.0)
    listener = bench.listener(bench.names.done_channel)
    assert _expire(bench) == 2
    assert bench.heard(listener) == [str(awaited)]


def test_a_job_that_is_claimed_or_postponed_meanwhile_does_not_expire(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    ids = [bench.start() for _ in range(3)]
    for job_id in ids:
        _set_deadline(bench, job_id, -1.0)
    call = leases.expire(gated(bench.names, "expire", "order by deadline_at"), error=b"1", last_error=b"", limit=10)
    with bench.closed_gate():
        expired = bench.begin(call, bench.connect())
        assert [job.id for job in bench.claim(worker, want=1)] == ids[:1]
        _set_deadline(bench, ids[1], 3600.0)
    assert expired.result(timeout=10) == 1
    assert bench.finished(ids[2])["state"] == FAILED


def test_a_job_that_somebody_has_locked_is_left_for_the_next_time(every_bench: Workbench) -> None:
    bench = every_bench
    locked, free = bench.start(), bench.start()
    for job_id in (locked, free):
        _set_deadline(bench, job_id, -1.0)
    sender = bench.connect()
    bench.connection.execute("set lock_timeout = '2s'")
    with sender.transaction():
        bench.send(locked, connection=sender)
        assert _expire(bench) == 1
    assert _expire(bench) == 1


@pytest.mark.parametrize("limit", [1, 2])
def test_the_earliest_deadlines_come_first_no_more_than_asked_for(bench: Workbench, limit: int) -> None:
    ids = [bench.start() for _ in range(4)]
    for place, job_id in enumerate(ids):
        _set_deadline(bench, job_id, -10.0 - place)
    assert _expire(bench, limit) == limit
    assert {row["id"] for row in bench.sql("select id from {s}.finished_jobs")} == set(ids[-limit:])


def test_a_sweep_tells_of_deadlines_of_jobs_that_nobody_holds(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    held, later, latest = bench.claimed_job(worker).id, bench.start(), bench.start()
    _set_deadline(bench, held, -10.0)
    assert _sweep(bench)[-2:] == (False, None)
    _set_deadline(bench, later, 60.0)
    _set_deadline(bench, latest, 90.0)
    sweep = _sweep(bench)
    assert not sweep.deadline_due
    assert sweep.next_deadline_seconds is not None
    assert 50 < sweep.next_deadline_seconds <= 60
    _set_deadline(bench, later, -1.0)
    sweep = _sweep(bench)
    assert sweep.deadline_due
    assert sweep.next_deadline_seconds is not None
    assert 80 < sweep.next_deadline_seconds <= 90


def test_a_claim_tells_how_long_the_deadline_is_away(every_bench: Workbench) -> None:
    bench = every_bench
    ahead, past = bench.start(), bench.start()
    _set_deadline(bench, ahead, 60.0)
    _set_deadline(bench, past, -60.0)
    seconds = {job.id: job.deadline_seconds for job in bench.claim(bench.register())}
    assert 50 < (seconds[ahead] or 0) <= 60
    assert -70 < (seconds[past] or 0) <= -60


def test_a_worker_is_told_of_the_cancel_requests_for_its_own_jobs(every_bench: Workbench) -> None:
    bench, mine, another = every_bench, every_bench.register(), every_bench.register()
    asked, _, others = bench.claimed_job(mine), bench.claimed_job(mine), bench.claimed_job(another)
    for job in (asked, others):
        assert bench.run(jobs.request_cancel(bench.names, job.id))
    assert bench.run(leases.cancelling(bench.names, mine)) == [(asked.id, asked.claim)]
    assert bench.run(leases.cancelling(bench.names, another)) == [(others.id, others.claim)]
    assert bench.run(leases.cancelling(bench.names, bench.register())) == []


def test_a_cancel_request_is_notified_each_time_with_the_jobs_id(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, waiting = bench.claimed_job(worker), bench.start()
    listener = bench.listener(bench.names.cancel_channel)
    assert bench.run(jobs.request_cancel(bench.names, job.id))
    assert bench.run(jobs.request_cancel(bench.names, job.id))
    assert not bench.run(jobs.request_cancel(bench.names, waiting))
    assert bench.heard(listener) == [str(job.id)] * 2
