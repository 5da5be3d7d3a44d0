"""The history of a job's attempts: one row for each that wasn't the last, the newest hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure.core.history import AttemptEnding
from perdure.store import jobs, settles
from perdure.store.settles import PutBack
from tests.store.entries import PENDING, SUSPENDED, to_finish, to_release

if TYPE_CHECKING:
    from tests.store.workbench import Workbench

KEPT = 100


def _history(bench: Workbench, job_id: int) -> list[dict[str, Any]]:
    return bench.sql("select * from {s}.attempts where job_id = %s order by attempt", job_id)


def test_each_attempt_that_was_not_the_last_is_kept_with_what_it_was(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job, other = bench.claimed_job(worker), bench.claimed_job(worker)
    started_at = bench.job(job.id)["started_at"]
    raised = to_release(job, error=b'{"raised":  1}', last_error=b"no", ending=AttemptEnding.RAISED.code)
    refused = to_release(other, claim=other.claim + 1)
    began_at = bench.now()
    assert bench.release(worker, [raised, refused]) == [job.id]
    (row,) = _history(bench, job.id)
    assert began_at < row.pop("ended_at") < bench.now()
    assert row == {
        "job_id": job.id,
        "attempt": 1,
        "worker_id": worker,
        "started_at": started_at,
        "ending": 1,
        "woken_by": 0,
        "error": {"raised": 1},
    }
    assert _history(bench, other.id) == []
    (again,) = bench.claim(worker)
    suspended = to_release(again, SUSPENDED, due_seconds=0.0, woken_by=3, ending=AttemptEnding.SUSPENDED.code)
    bench.release(worker, [suspended])
    (third,) = bench.claim(worker)
    woken_by = {"attempt_woken_by": third.woken_by, "ending": AttemptEnding.STOPPED.code}
    bench.release(worker, [to_release(third, PENDING, **woken_by)])
    rows = [(row["attempt"], row["ending"], row["woken_by"], row["error"]) for row in _history(bench, job.id)]
    assert rows == [(1, 1, 0, {"raised": 1}), (2, 4, 0, None), (3, 5, 3, None)]


def test_a_job_that_completes_at_once_and_a_claim_that_is_put_back_leave_nothing(bench: Workbench) -> None:
    worker = bench.register()
    job, unstarted = bench.claimed_job(worker), bench.claimed_job(worker)
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job)])) == 1
    assert bench.run(settles.put_back(bench.names, worker, [PutBack(unstarted.id, unstarted.claim)]))
    assert bench.sql("select * from {s}.attempts") == []


def test_a_rescue_is_in_the_history_under_the_lost_workers_name(bench: Workbench) -> None:
    lost, holder = bench.register(), bench.register()
    job = bench.claimed_job(lost)
    bench.sql("update {s}.workers set lapsed_at = clock_timestamp() where id = %s", lost)
    entry = to_release(job, PENDING, ending=AttemptEnding.LAPSED.code)
    assert bench.release(lost, [entry], holder=holder, lapsed=True) == [job.id]
    (row,) = _history(bench, job.id)
    assert (row["worker_id"], row["ending"]) == (lost, 6)


def test_the_newest_hundred_attempts_are_kept(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    ids = [bench.start() for _ in range(2)]
    for _ in range(KEPT + 5):
        entries = [to_release(job) for job in sorted(bench.claim(worker))]
        assert len(bench.release(worker, entries)) == 2
    for job_id in ids:
        assert [row["attempt"] for row in _history(bench, job_id)] == list(range(6, KEPT + 6))


def test_an_operators_retry_keeps_no_more_of_them(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker)
    bench.sql("update {s}.jobs set attempt = 103")
    bench.sql(
        """insert into {s}.attempts (job_id, attempt, ending, woken_by)
            select %s, attempt, 1, 0 from generate_series(3, 102) as attempt""",
        job.id,
    )
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job)])) == 1
    assert bench.run(jobs.retry(bench.names, job.id)) is not None
    assert [row["attempt"] for row in _history(bench, job.id)] == list(range(4, 104))


def test_a_number_that_is_taken_does_not_stop_the_outcome(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    bench.sql("insert into {s}.attempts (job_id, attempt, ending, woken_by) values (%s, 1, 2, 3)", job.id)
    assert bench.release(worker, [to_release(job)]) == [job.id]
    assert [row["ending"] for row in _history(bench, job.id)] == [2]


def test_every_ending_has_a_code_of_its_own_that_the_table_takes(bench: Workbench) -> None:
    assert [ending.code for ending in AttemptEnding] == list(range(10))
    for ending in AttemptEnding:
        assert AttemptEnding.from_code(ending.code) is ending
        if ending is AttemptEnding.RUNNING:
            continue
        bench.sql(
            "insert into {s}.attempts (job_id, attempt, ending, woken_by) values (1, %s, %s, 0)",
            ending.code,
            ending.code,
        )
    with pytest.raises(
        ValueError, match=r"no AttemptEnding has the code 10; the codes are 0 \(running\) to 9 \(job cancelled\)"
    ):
        AttemptEnding.from_code(10)
