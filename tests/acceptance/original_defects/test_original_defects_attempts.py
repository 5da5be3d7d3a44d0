"""What goes wrong in the library that this one follows, shown impossible here: attempts, their ends and failures."""
# ruff: noqa: ARG002 - a handler has its parameters; each test's docstring is the defect

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

import pytest

from perdure import App, Completed, Context, Failed, JobState, MachineState, Raised, StateMachine, Suspended, on
from perdure.errors import JobNotFoundError
from perdure.store import calls, leases, settles
from tests.acceptance.original_defects.hold import Hold
from tests.support.clients import Progress
from tests.support.jobs import is_in, job_until, until

if TYPE_CHECKING:
    import psycopg


async def test_defect_1_a_graceful_shutdown_loses_no_job(app: App) -> None:
    """A stop leaves the job in a state that nothing reads again."""

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        ctx.execution_metadata.rows += 1
        if ctx.execution_metadata.rows < 3:
            await asyncio.Event().wait()
        return ctx.execution_metadata.rows

    job = await task.start()
    for rows in (1, 2):
        async with app.worker():
            await job_until(job, lambda job: job.state is JobState.RUNNING)
        await job.refresh()
        assert (job.state, job.execution_metadata.rows, job.retry_number) == (JobState.PENDING, rows, 0)
    async with app.worker():
        assert await job.result(timeout=10) == 3


async def test_defect_2_a_cancellation_of_anybody_else_is_no_shutdown(app: App) -> None:
    """Whatever cancellation a handler raises, a client library's time-out too, counts as a shutdown."""

    @app.task("t", scheduler_retry_count=1)
    async def task(ctx: Context[None, None]) -> str:
        if ctx.attempt == 1:
            request = asyncio.create_task(asyncio.Event().wait())
            request.cancel()
            await request
        return "again"

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "again"
    (first, _) = await job.history()
    assert isinstance(first.error, Raised)
    assert first.error.type == "asyncio.CancelledError"


async def test_defect_3_a_shutdown_during_the_final_write_throws_no_success_away(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """A shutdown while the result is being written puts the old state back."""
    hold = Hold()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        await hold.wait()
        return "done"

    job = await task.start()
    worker = app.worker()
    async with worker:
        await hold.reached.wait()
        with database.transaction():
            database.execute("select from background_tasks.jobs for update")
            hold.go_on.set()
            await until(lambda: not worker.executor.running, "the handler has ended")
            stopping = asyncio.create_task(worker.stop())
            await until(lambda: worker.is_draining, "only the write is left")
        await stopping
    assert await job.result(timeout=0) == "done"


async def test_defect_4_a_job_that_runs_for_long_is_started_once_and_late_writes_are_refused(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """A claim hides the job for a fixed time, whatever it does; then it is started beside itself."""
    hold = Hold()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        await hold.wait()
        return ctx.attempt

    def past_first_lease() -> bool:
        row = database.execute("select now() > created_at + interval '2.2 s' from background_tasks.jobs").fetchone()
        assert row is not None
        return bool(row[0])

    async with app.worker() as first, app.worker():
        job = await task.start()
        await hold.reached.wait()
        await until(past_first_lease, "the first lease would be over")
        assert (await job.refresh()).attempt == 1
        assert first.worker_id is not None
        row = database.execute("update background_tasks.jobs set claim = claim + 1 returning id, claim").fetchone()
        assert row is not None
        job_id, claim = row
        hold.go_on.set()  # its copy is late now: another claim has the job
        late = settles.persist(app.names, first.worker_id, [settles.Persist(job_id, claim - 1, 0, b'{"rows":9}')])
        async with app.pool.connection() as connection:
            assert await calls.run(connection, late) == []
        await until(lambda: not first.executor.running, "the copy has ended")
        assert (await job.refresh()).state is JobState.RUNNING
        assert job.execution_metadata == Progress()


async def test_defect_7_a_completed_job_is_never_run_again(app: App) -> None:
    """Execution doesn't look at the state: whatever delivers a job again runs it again."""
    runs = list[int]()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        runs.append(ctx.attempt)
        return ctx.attempt

    async with app.worker() as worker:
        job = await task.start()
        assert await job.result(timeout=10) == 1
        assert worker.worker_id is not None
        async with app.pool.connection() as connection:  # all that can be told of the job, once more
            suspended = settles.Release(
                job.id, 1, 0, 0, None, False, None, 0.0, 0, 0, 0, False, False, None, None, ending=1
            )
            assert await calls.run(connection, settles.release(app.names, worker.worker_id, [suspended])) == []
            again = [settles.PutBack(job.id, 1)]
            assert await calls.run(connection, settles.put_back(app.names, worker.worker_id, again)) == []
            await calls.run(connection, leases.wake(app.names))
        assert await (await task.start()).result(timeout=10) == 1
    assert runs == [1, 1]
    assert (await job.refresh()).state is JobState.COMPLETED


async def test_defect_8_a_failure_is_decided_by_the_row_as_it_is(app: App, database: psycopg.Connection[Any]) -> None:
    """A failure is read, changed and written; and deleting an entry by hand counts as one and runs it again."""
    holds = [Hold(), Hold()]
    runs = list[int]()

    @app.task("t", max_retry_count=5)
    async def task(ctx: Context[int, None]) -> Failed[str]:
        runs.append(ctx.metadata)
        await holds[ctx.metadata].wait()
        return Failed("decided on old news")

    @app.task("last")
    async def last(ctx: Context[None, None]) -> None: ...

    async with app.worker() as worker:
        asked, deleted = await task.start_many([0, 1])
        for hold in holds:
            await hold.reached.wait()
        await asyncio.to_thread(
            database.execute, "update background_tasks.jobs set cancel_requested = true where id = %s", [asked.id]
        )
        database.execute("delete from background_tasks.jobs where id = %s", [deleted.id])
        for hold in holds:
            hold.go_on.set()
        await is_in(asked, JobState.CANCELLED)
        assert asked.retry_number == 0
        await until(lambda: not worker.executor.running, "both have ended")
        await (await last.start()).result(timeout=10)
    assert sorted(runs) == [0, 1]
    with pytest.raises(JobNotFoundError):
        await deleted.refresh()


async def test_defect_9_an_unknown_name_or_a_bad_payload_stops_nothing(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """An unknown task name or an undecodable payload throws wherever it is met, and spoils whole pages of queries."""

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    unknown, bad, good = await task.start_many([1, 2, 3])
    database.execute("update background_tasks.jobs set task = 'unknown' where id = %s", [unknown.id])
    database.execute("update background_tasks.jobs set metadata = '\"two\"' where id = %s", [bad.id])
    async with app.worker():
        assert await good.result(timeout=10) == 3
        for job in (unknown, bad):
            await job_until(job, lambda job: job.last_error is not None)
            assert (job.state, job.attempt, job.retry_number) == (JobState.PENDING, 0, 0)
    assert [job.id async for job in app.jobs()] == [unknown.id, bad.id, good.id]
    database.execute("update background_tasks.jobs set task = 't'")
    database.execute("update background_tasks.jobs set metadata = '2' where id = %s", [bad.id])
    async with app.worker():
        assert [await job.result(timeout=10) for job in (unknown, bad)] == [1, 2]


async def test_defect_11_a_success_clears_the_error_and_a_suspension_the_counter(app: App) -> None:
    """An old error survives a later success, and the retry counter is never reset."""

    @app.task("t", max_retry_count=1)
    async def task(ctx: Context[None, None]) -> int | Failed[str] | Suspended:
        if ctx.attempt in {1, 3}:
            return Failed("this time")
        return Suspended(until=timedelta(0)) if ctx.attempt == 2 else ctx.retry_number

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == 1  # of the second pair, though two were spent in all
    await job.refresh()
    assert (job.attempt, job.error, job.last_error) == (4, None, None)
    assert [attempt.error for attempt in await job.history()] == ["this time", None, "this time", None]


async def test_defect_12_throughput_isnt_capped_by_batch_and_polling_delay(migrated_database: str) -> None:
    """A process sleeps after full batches too; and runs one job at a time unless told otherwise."""
    app = App(migrated_database, scheduling={"batch_size": 5, "polling_delay": timedelta(days=1)})
    together = asyncio.Barrier(50)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        await together.wait()
        return ctx.metadata

    async with app, app.worker():
        started = await task.start_many(range(100))  # at 5 a day it would take three weeks
        assert [await job.result(timeout=20) for job in started] == list(range(100))


@dataclass
class Poll:
    number: int = 0


@dataclass(eq=False)
class Again:
    number: int = 0


async def test_defect_17_a_cycle_is_found_without_value_equality_and_a_loop_that_is_meant_is_allowed(app: App) -> None:
    """The guard forbids loops that are meant, and misses cycles of states that compare by identity."""
    Ctx = Context[None, MachineState[Poll | Again]]  # noqa: N806 - a type

    @app.task("t")
    class Polls(StateMachine[None, Poll | Again, int, Never]):
        initial = Poll()

        def __init__(self) -> None:
            self.polls = 0

        @on(Poll, repeatable=True)
        async def poll(self, state: Poll, ctx: Ctx) -> Poll | Again | Completed[int]:
            self.polls += 1
            if ctx.execution_metadata.state.number:
                return Completed(self.polls)
            return Poll() if self.polls < 3 else Again()

        @on(Again)
        async def again(self, state: Again, ctx: Ctx) -> Again:
            return Again()

    async with app.worker():
        job = await Polls.start()
        await is_in(job, JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.StateRepeated"
    assert "Again" in job.error.message
