"""Writes in batches: each row gets its own place, and what is locked or has changed meanwhile is left for later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.store import jobs, settles
from perdure.store.settles import Deferral, Persist, ProgressReport, PutBack
from tests.store.entries import SUSPENDED, to_finish, to_release
from tests.store.workbench import gated

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.claims import Claimed
    from perdure.store.sql import Names
    from tests.store.workbench import Workbench


@pytest.mark.parametrize("first_id", [1, 2**31 - 3, 2**31, 2**62])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_row_gets_its_own_place_of_the_arrays(bench: Workbench, first_id: int, count: int) -> None:
    worker = bench.register()
    bench.sql("select setval('{s}.job_ids', %s, false)", first_id)
    ids = [bench.start() for _ in range(2 * count)][::2]  # with gaps between them
    claimed = {job.id: job for job in bench.claim(worker)}
    mine = [claimed[job_id] for job_id in ids]
    entries = [to_release(job, last_error=str(job.id).encode(), retry_number=place) for place, job in enumerate(mine)]
    assert sorted(bench.release(worker, entries)) == ids
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
    entries = [to_finish(job, checkpoint=1, result=job.metadata) for job in claimed]
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
        assert bench.run(settles.finish(bench.names, worker, [to_finish(job) for job in renewed[:3]])) == 2
        assert len(bench.release(worker, [to_release(job) for job in renewed[3:6]])) == 2
        put_backs = [PutBack(job.id, job.claim) for job in renewed[6:]]
        assert len(bench.run(settles.put_back(bench.names, worker, put_backs))) == 2
        deferred = [Deferral(job.id, job.claim, b"unknown") for job in locked]
        assert bench.run(settles.defer(bench.names, worker, deferred)) == []
        reports = [ProgressReport(job.id, job.claim, b"{}") for job in locked]
        bench.run(settles.report_progress(bench.names, worker, reports))
        found = bench.run(settles.settlement(bench.names, [job.id for job in claimed]))
        assert [job.id for job in claimed if found[job.id].locked] == [job.id for job in locked]
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job) for job in locked])) == 3


BATCHES: dict[str, Callable[[Names, UUID, list[Claimed]], Call[Any]]] = {
    "finish": lambda names, worker, them: settles.finish(names, worker, [to_finish(job) for job in them]),
    "release": lambda names, worker, them: settles.release(names, worker, [to_release(job, SUSPENDED) for job in them]),
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
    changes = bench.changes(before)
    assert {int(key.split()[1]) for key in changes} == {untouched.id}


def test_whoever_began_to_wait_between_a_finishs_snapshot_and_its_lock_is_notified(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    listener = bench.listener(bench.names.done_channel)
    with bench.closed_gate():
        result = bench.begin(BATCHES["finish"](gated(bench.names, "finish"), worker, [job]), bench.connect())
        bench.run(jobs.await_end(bench.names, [job.id]))
    assert result.result(timeout=10) == 1
    assert bench.heard(listener) == [str(job.id)]


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
    assert {int(key.split()[1]) for key in bench.changes(before)} == {job.id, other.id}
