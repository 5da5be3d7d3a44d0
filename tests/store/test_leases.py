"""Leases: only the database's clock says that one has lapsed, under the row's lock; and what was lost is found."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure.store import claims, leases, settles
from perdure.store.settles import Deferral
from tests.store.workbench import gated
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.leases import Sweep
    from tests.store.workbench import Workbench

TOLERANCE = timedelta(seconds=5)


def _sweep(bench: Workbench, by: UUID | None = None) -> Sweep:
    return bench.run(leases.sweep(bench.names, by or uuid.uuid4()))


def _worker(bench: Workbench, worker: UUID) -> dict[str, Any]:
    (row,) = bench.sql("select * from {s}.workers where id = %s", worker)
    return row


def _run_out(bench: Workbench, worker: UUID) -> None:
    bench.sql("update {s}.workers set lease_until = clock_timestamp() where id = %s", worker)


# --- renewing ---


def test_a_lease_lasts_from_its_registration_and_from_each_renewal(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register(lease_seconds=90)
    first = _worker(bench, worker)
    assert timedelta(0) <= bench.now() + timedelta(seconds=90) - first["lease_until"] < TOLERANCE
    bench.sql("update {s}.workers set lease_until = lease_until - interval '60 s'")
    assert bench.run(leases.renew(bench.names, worker))
    second = _worker(bench, worker)
    assert second["lease_until"] > first["lease_until"]
    assert timedelta(0) <= bench.now() + timedelta(seconds=90) - second["lease_until"] < TOLERANCE


def test_a_lapsed_lease_cannot_be_renewed_marked_or_not(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    _run_out(bench, worker)
    assert not bench.run(leases.renew(bench.names, worker))
    assert _sweep(bench).lapsed == [worker]
    # Even when its end lies ahead again: a marked id is dead for ever.
    bench.sql("update {s}.workers set lease_until = clock_timestamp() + interval '1 h'")
    assert not bench.run(leases.renew(bench.names, worker))


def test_a_renewal_that_waited_for_the_sweep_comes_too_late(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    sweeper = bench.connect()
    with sweeper.transaction():
        sweeper.execute("update background_tasks.workers set lapsed_at = clock_timestamp()")
        renewal = bench.begin(leases.renew(bench.names, worker), bench.connect())
    assert renewal.result(timeout=10) is False


def test_a_lease_is_as_long_whatever_the_workers_clock_says(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, now_at_seconds = bench.register(lease_seconds=30), time.time()
    for wrong_by_seconds in (86_400.0, -86_400.0):
        monkeypatch.setattr("time.time", lambda wrong=wrong_by_seconds: now_at_seconds + wrong)
        assert bench.run(leases.renew(bench.names, worker))
        left = _worker(bench, worker)["lease_until"] - bench.now()
        assert timedelta(seconds=20) < left <= timedelta(seconds=30)


# --- sweeping ---


def test_a_sweep_marks_only_leases_that_have_run_out(every_bench: Workbench) -> None:
    bench = every_bench
    lapsed, valid, marked = (bench.register() for _ in range(3))
    bench.sql("update {s}.workers set sleeping = true")
    _run_out(bench, lapsed)
    _run_out(bench, marked)
    bench.sql("update {s}.workers set lapsed_at = '2026-01-01+00' where id = %s", marked)
    before = {worker: _worker(bench, worker) for worker in (valid, marked)}
    began_at = bench.now()
    assert _sweep(bench).lapsed == [lapsed]
    row = _worker(bench, lapsed)
    assert began_at < row["lapsed_at"] < bench.now()
    assert not row["sleeping"]
    assert {worker: _worker(bench, worker) for worker in (valid, marked)} == before
    assert _sweep(bench).lapsed == []


def test_a_sweep_goes_by_the_present_time_however_long_ago_its_transaction_began(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    with bench.writer.transaction():
        _run_out(bench, worker)
        swept = bench.run(leases.sweep(bench.names, uuid.uuid4()), bench.writer)
    assert swept.lapsed == [worker]


def test_a_renewal_on_its_way_keeps_its_lease(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    bench.sql("update {s}.workers set lease_until = clock_timestamp() + interval '200 ms'")
    ends_at = _worker(bench, worker)["lease_until"]
    renewing = bench.connect()
    with renewing.transaction():
        assert bench.run(leases.renew(bench.names, worker), renewing)
        wait_until(lambda: bench.now() > ends_at, "the database's clock stands still")
        bench.connection.execute("set lock_timeout = '2s'")
        assert _sweep(bench).lapsed == []  # though all that it can see is a lease that has run out
    assert _worker(bench, worker)["lapsed_at"] is None
    assert bench.run(leases.renew(bench.names, worker))


def test_a_renewal_that_came_between_a_sweeps_snapshot_and_its_lock_keeps_its_lease(every_bench: Workbench) -> None:
    bench, worker, lapsed = every_bench, every_bench.register(), every_bench.register()
    _run_out(bench, worker)
    _run_out(bench, lapsed)
    names = gated(bench.names, "sweep", "\n        order by id for no key update skip locked\n    )) and (lease_until")
    with bench.closed_gate():
        sweep = bench.begin(leases.sweep(names, uuid.uuid4()), bench.connect())
        bench.sql("update {s}.workers set lease_until = clock_timestamp() + interval '1 h' where id = %s", worker)
    assert sweep.result(timeout=10).lapsed == [lapsed]
    assert _worker(bench, worker)["lapsed_at"] is None


def test_two_sweeps_at_once_mark_a_lease_once(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    _run_out(bench, worker)
    names = gated(bench.names, "sweep", "\n        order by id for no key update skip locked\n    )) and (lease_until")
    with bench.closed_gate():
        sweeps = [bench.begin(leases.sweep(names, uuid.uuid4()), bench.connect()) for _ in range(2)]
    assert sorted(sweep.result(timeout=10).lapsed for sweep in sweeps) == [[], [worker]]


def test_a_lease_that_lies_too_far_ahead_is_cut(every_bench: Workbench) -> None:
    bench = every_bench
    ahead, right, lapsed = (bench.register(lease_seconds=30) for _ in range(3))
    bench.sql("update {s}.workers set lease_until = lease_until + interval '1 h' where id <> %s", right)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", lapsed)
    before = {worker: _worker(bench, worker) for worker in (right, lapsed)}
    assert _sweep(bench).lapsed == []
    assert timedelta(0) <= bench.now() + timedelta(seconds=30) - _worker(bench, ahead)["lease_until"] < TOLERANCE
    assert {worker: _worker(bench, worker) for worker in (right, lapsed)} == before


def test_a_sweep_says_when_the_first_lease_of_another_ends(every_bench: Workbench) -> None:
    bench = every_bench
    mine = bench.register(lease_seconds=5)
    assert _sweep(bench, mine).next_lapse_seconds is None
    bench.register(lease_seconds=40)
    bench.register(lease_seconds=20)
    run_out, marked, spoilt = (bench.register(lease_seconds=10) for _ in range(3))
    _run_out(bench, run_out)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", marked)
    bench.sql("update {s}.workers set lease_until = 'infinity' where id = %s", spoilt)
    seconds = _sweep(bench, mine).next_lapse_seconds
    assert seconds is not None
    assert 10 < seconds <= 20
    bench.sql("update {s}.workers set lease_until = 'infinity' where id <> %s", mine)
    assert _sweep(bench, mine).next_lapse_seconds is None


def test_a_sweep_says_whether_a_suspect_is_due(bench: Workbench) -> None:
    bench.start()
    assert not _sweep(bench).suspect_due
    bench.sql("update {s}.jobs set suspect = true, scheduled_at = clock_timestamp() + interval '1 h'")
    assert not _sweep(bench).suspect_due
    bench.sql("update {s}.jobs set scheduled_at = clock_timestamp()")
    assert _sweep(bench).suspect_due
    sweeps = {queue: leases.sweep(bench.names, uuid.uuid4(), queues=[queue]) for queue in ("default", "other")}
    assert [queue for queue, sweep in sweeps.items() if bench.run(sweep).suspect_due] == ["default"]
    bench.sql("update {s}.jobs set state = 2, worker_id = gen_random_uuid()")
    assert not _sweep(bench).suspect_due


# --- what was lost ---


def test_a_sweep_finds_every_holder_without_a_lease(every_bench: Workbench) -> None:
    bench = every_bench
    valid, marked, given_back, run_out = (bench.register() for _ in range(4))
    for worker in (valid, marked, given_back, run_out):
        bench.start()
        bench.start()
        assert len(bench.claim(worker)) == 2
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", marked)
    bench.run(leases.remove(bench.names, given_back))
    _run_out(bench, run_out)
    first = _sweep(bench)
    assert first.lapsed == [run_out]
    assert set(first.lost) - {run_out} == {marked, given_back}
    assert set(_sweep(bench).lost) == {marked, given_back, run_out}
    assert bench.run(leases.sweep(bench.names, uuid.uuid4(), scans=False)).lost == []


def test_a_claim_that_landed_after_the_lapse_is_found(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job_id, claiming = bench.start(), bench.connect()
    with claiming.transaction():
        claimed = bench.run(claims.claim(bench.names, worker, want=1, queues=None), claiming)
        assert [job.id for job in claimed.jobs] == [job_id]
        _run_out(bench, worker)
        assert _sweep(bench).lapsed == [worker]
        assert _sweep(bench).lost == []
    assert _sweep(bench).lost == [worker]
    (lost,) = bench.run(leases.lapsed_jobs(bench.names, worker, limit=10))
    assert lost.id == job_id


def test_lapsed_jobs_tell_what_a_rescue_is_decided_by(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    persisted, untouched = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.sql(
        """update {s}.jobs set claim = 5, checkpoint = 8, claim_checkpoint = 7, retry_number = 1, scheduler_retries = 2,
            lapses = 3, cancel_requested = true where id = %s""",
        persisted.id,
    )
    bench.sql("update {s}.jobs set proceed_requested = true, woken_by = 2 where id = %s", untouched.id)
    assert bench.run(leases.lapsed_jobs(bench.names, worker, limit=10)) == []  # its lease is valid
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp()")
    assert sorted(bench.run(leases.lapsed_jobs(bench.names, worker, limit=10))) == [
        (persisted.id, 5, 8, True, 1, 2, 3, True, False, 0, "task", False),
        (untouched.id, 1, 0, False, 0, 0, 0, False, True, 2, "task", False),
    ]
    bench.run(leases.remove(bench.names, worker))
    assert [job.has_left for job in bench.run(leases.lapsed_jobs(bench.names, worker, limit=10))] == [True, True]
    assert len(bench.run(leases.lapsed_jobs(bench.names, worker, limit=1))) == 1


def test_a_worker_that_leaves_is_forgotten_when_it_holds_nothing_and_else_kept_as_one_that_left(
    every_bench: Workbench,
) -> None:
    bench = every_bench
    empty, holding = bench.register(), bench.register()
    bench.claimed_job(holding)
    for worker in (empty, holding):
        bench.run(leases.remove(bench.names, worker))
    rows = bench.sql(
        "select id, lapsed_at is not null and left_at is not null and not sleeping as gone from {s}.workers"
    )
    assert rows == [{"id": holding, "gone": True}]
    assert not bench.run(leases.renew(bench.names, holding))


def test_two_rescuers_share_the_jobs_of_a_lost_worker(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    ids = [bench.claimed_job(worker).id for _ in range(5)]
    bench.run(leases.remove(bench.names, worker))
    one, two = bench.connect(), bench.connect()
    with one.transaction(), two.transaction():
        first = bench.run(leases.lapsed_jobs(bench.names, worker, limit=2), one)
        second = bench.run(leases.lapsed_jobs(bench.names, worker, limit=5), two)
        assert [job.id for job in first] == ids[:2]
        assert [job.id for job in second] == ids[2:]


@pytest.mark.parametrize("change", ["worker_id = gen_random_uuid()", "state = 0, worker_id = null"])
def test_a_job_that_was_rescued_meanwhile_is_not_rescued_again(every_bench: Workbench, change: str) -> None:
    bench, worker = every_bench, every_bench.register()
    rescued, left = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.run(leases.remove(bench.names, worker))
    with bench.closed_gate():
        jobs = bench.begin(
            leases.lapsed_jobs(gated(bench.names, "lapsed_jobs", "\nlimit"), worker, limit=10),
            bench.connect(),
        )
        bench.sql(f"update {{s}}.jobs set {change} where id = %s", rescued.id)
    assert [job.id for job in jobs.result(timeout=10)] == [left.id]


# --- blame ---


def test_a_worker_that_reports_again_takes_the_blame_off_its_jobs(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    mine, others = bench.start(), bench.start()
    bench.sql("update {s}.jobs set lapses = 2, suspect = true, lapsed_worker_id = %s where id = %s", worker, mine)
    bench.sql(
        "update {s}.jobs set lapses = 2, suspect = true, lapsed_worker_id = gen_random_uuid() where id = %s", others
    )
    before = [bench.job(job_id) for job_id in (mine, others)]
    assert bench.run(leases.forgive(bench.names, worker, [others, mine])) == 0  # none is locked
    forgiven = {"lapses": 1, "suspect": False, "lapsed_worker_id": None}
    assert [bench.job(job_id) for job_id in (mine, others)] == [before[0] | forgiven, before[1]]
    bench.run(leases.forgive(bench.names, worker, [others, mine]))  # once, however often it is said
    assert bench.job(mine) == before[0] | forgiven


# --- unreadable jobs ---


def test_a_worker_with_the_code_makes_waiting_jobs_due_at_once(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    known, unknown = bench.claimed_job(worker, task="known"), bench.claimed_job(worker, task="unknown")
    deferrals = [Deferral(job.id, job.claim, b"unknown task") for job in (known, unknown)]
    assert len(bench.run(settles.defer(bench.names, worker, deferrals))) == 2
    scheduled = bench.start(task="known", after=timedelta(hours=1))
    assert bench.claim(worker) == []
    before = bench.rows()
    assert bench.run(leases.revive(bench.names, ["known", "else"], limit=10)) == (1, 1)
    assert {key for key, row in bench.rows().items() if before[key] != row} == {f"jobs {known.id}"}
    assert [job.id for job in bench.claim(worker)] == [known.id]
    assert bench.job(scheduled)["state"] == 0


# --- the list of workers ---


def test_workers_are_listed_and_those_lapsed_long_ago_forgotten(bench: Workbench) -> None:
    old, recent, valid = bench.register(queues=["mail", "bulk"]), bench.register(), bench.register()
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() - interval '25 h' where id = %s", old)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() - interval '23 h' where id = %s", recent)
    bench.run(leases.set_sleeping(bench.names, valid, sleeping=True))
    found = {row.id: row for row in bench.run(leases.workers(bench.names))}
    assert list(found) == [old, recent, valid]
    assert (found[old].queues, found[valid].queues, found[valid].sleeping) == (["mail", "bulk"], None, True)
    bench.run(leases.forget_workers(bench.names))
    assert {row.id for row in bench.run(leases.workers(bench.names))} == {recent, valid}
