"""Final outcomes: the row moves wholly, once, and whoever waits is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure.store import jobs, settles
from perdure.store.settles import Finish
from tests.store.entries import CANCELLED, COMPLETED, FAILED, to_finish

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


def test_finish_moves_the_row_wholly(every_bench: Workbench) -> None:
    bench, worker = every_bench, every_bench.register()
    job = bench.claimed_job(worker, task="import", queue="mail", priority=7)
    bench.sql(
        """update {s}.jobs set claim = 5, attempt = 4, retry_number = 3, scheduler_retries = 2, checkpoint = 9,
            lapses = 1, woken_by = 2, deadline_at = '2100-01-01 00:00+00', version = 3, error = '{"old":1}',
            last_error = 'old', progress = '{"done":3}'"""
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
        "woken_by": 2,
        "deadline_at": before["deadline_at"],
        "version": 3,
    }


def test_a_success_stores_the_result_and_clears_the_errors_of_earlier_attempts(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    bench.sql("""update {s}.jobs set error = '{"old":1}', last_error = 'old'""")
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job, result=b'{"rows":12}')])) == 1
    row = bench.finished(job.id)
    assert (row["state"], row["result"], row["error"], row["last_error"]) == (COMPLETED, {"rows": 12}, None, None)


def test_a_finish_without_execution_metadata_keeps_the_stored_one_and_its_number(bench: Workbench) -> None:
    worker = bench.register()
    first = bench.claimed_job(worker, execution_metadata=b'{"step":1}')
    second = bench.claimed_job(worker, execution_metadata=b'{"step":2}')
    entries = [to_finish(first, execution_metadata=b'{"step":9}'), to_finish(second)]
    assert bench.run(settles.finish(bench.names, worker, entries)) == 2
    rows = [bench.finished(job.id) for job in (first, second)]
    assert [(row["execution_metadata"], row["checkpoint"]) for row in rows] == [({"step": 9}, 1), ({"step": 2}, 0)]


@pytest.mark.parametrize("state", [COMPLETED, FAILED, CANCELLED])
def test_the_end_of_an_awaited_job_is_notified_with_its_id(bench: Workbench, state: int) -> None:
    worker = bench.register()
    awaited, unawaited = bench.claimed_job(worker), bench.claimed_job(worker)
    bench.run(jobs.await_end(bench.names, [awaited.id]))
    listener = bench.listener(bench.names.done_channel)
    assert bench.run(settles.finish(bench.names, worker, [to_finish(awaited, state), to_finish(unawaited, state)])) == 2
    assert bench.heard(listener) == [str(awaited.id)]


def test_a_cancel_of_an_awaited_job_is_notified_too(bench: Workbench) -> None:
    job_id = bench.start()
    bench.run(jobs.await_end(bench.names, [job_id]))
    listener = bench.listener(bench.names.done_channel)
    assert bench.run(jobs.cancel(bench.names, job_id))
    assert bench.heard(listener) == [str(job_id)]
    assert bench.finished(job_id)["state"] == CANCELLED


def test_a_finish_that_is_repeated_does_nothing(bench: Workbench) -> None:
    worker = bench.register()
    job = bench.claimed_job(worker)
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job, result=b"1")])) == 1
    before = bench.rows()
    assert bench.run(settles.finish(bench.names, worker, [to_finish(job, result=b"2")])) == 0
    assert bench.rows() == before


def test_settlement_tells_live_ended_and_locked_jobs_apart(bench: Workbench) -> None:
    worker = bench.register()
    live, ended, locked = (bench.claimed_job(worker) for _ in range(3))
    bench.run(settles.finish(bench.names, worker, [to_finish(ended, execution_metadata=b"1")]))
    bench.sql("update {s}.jobs set cancel_requested = true, proceed_requested = true where id = %s", live.id)
    bench.sql("update {s}.jobs set lapsed_worker_id = %s where id = any(%s)", worker, [live.id, locked.id])
    holder = bench.connect()
    with holder.transaction():
        holder.execute("delete from background_tasks.jobs where id = %s", [locked.id])
        found = bench.run(settles.settlement(bench.names, [live.id, ended.id, locked.id, 2**40]))
    assert found == {
        live.id: (live.id, 1, 2, worker, 0, True, True, False, worker),
        ended.id: (ended.id, 1, COMPLETED, worker, 1, False, False, False, None),
        locked.id: (locked.id, 1, 2, worker, 0, False, False, True, worker),
    }
