"""What goes wrong in the library that this one follows, shown impossible here: one test for each of its defects."""
# ruff: noqa: ARG002 - a handler has its parameters; each test's docstring is the defect

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

import psycopg
import pytest

from perdure import (
    App,
    Cancelled,
    CancelRequested,
    Completed,
    Context,
    Failed,
    Job,
    JobNotFound,
    JobQuery,
    JobState,
    MachineState,
    ModificationFailed,
    MultipleJobsFound,
    NotSuspended,
    Proceeded,
    Raised,
    StateMachine,
    Suspended,
    WokenBy,
    on,
)
from perdure.errors import JobNotFoundError
from perdure.store import calls, jobs, leases, settles
from tests.support.jobs import job_until, until
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass
class Progress:
    rows: int = 0
    seen: list[str] = field(default_factory=list)


class Hold:
    """Where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.go_on.wait()


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    app = App(
        migrated_database,
        scheduling={"scheduler_retry_count": 0, "scheduler_retry_delays": [0], "polling_delay": 0.2},
        execution={"shutdown_grace": 0, "cancel_grace": 0.2, "lease_duration": 2},
    )
    async with app:
        yield app


@pytest.fixture
def database(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        yield connection


async def is_in(job: Job[Any, Any, Any, Any], state: JobState) -> None:
    await job_until(job, lambda job: job.state is state)


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


async def test_defect_5_a_proceed_revives_nothing_starts_no_second_run_and_puts_no_checkpoint_back(app: App) -> None:
    """Proceed reads, changes and writes without a lock or a look at the state."""
    hold = Hold()

    @app.task("t")
    async def task(ctx: Context[bool, Progress]) -> int | Suspended:
        if not ctx.metadata and not ctx.execution_metadata.rows:
            return Suspended()
        ctx.execution_metadata.rows += 10
        await ctx.persist()
        await hold.wait()
        return ctx.attempt

    def grow(progress: Progress) -> Progress:
        progress.rows += 1
        return progress

    async with app.worker():
        job = await task.start(metadata=True)
        await hold.reached.wait()
        assert isinstance(await task.proceed(job.id, grow), NotSuspended)
        hold.go_on.set()
        assert await job.result(timeout=10) == 1
        assert isinstance(await task.proceed(job.id, grow), NotSuspended)
        assert ((await job.refresh()).state, job.execution_metadata.rows) == (JobState.COMPLETED, 10)

        waiting = await task.start(metadata=False)
        await is_in(waiting, JobState.SUSPENDED)
        answers = await asyncio.gather(*(task.proceed(waiting.id, grow) for _ in range(8)))
        assert sorted(type(answer).__name__ for answer in answers) == ["NotSuspended"] * 7 + ["Proceeded"]
        assert await waiting.result(timeout=10) == 2
        assert (await waiting.refresh()).execution_metadata.rows == 11


async def test_defect_6_a_checkpoint_erases_no_proceed(app: App) -> None:
    """Each persist writes the whole row, its state too, and so erases a proceed that came meanwhile."""
    hold = Hold()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str | Suspended:
        if ctx.execution_metadata.rows:
            return ctx.woken_by
        await hold.wait()
        ctx.execution_metadata.rows = 1
        await ctx.persist()
        return Suspended()

    async with app.worker():
        job = await task.start()
        await hold.reached.wait()
        assert isinstance(await app.proceed(job.id), Proceeded)
        hold.go_on.set()
        assert await job.result(timeout=10) == WokenBy.PROCEED


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


async def test_defect_10_suspended_until_is_suspended_and_ends_by_whichever_comes_first(app: App) -> None:
    """A job that waits for a time is stored as pending; "an event or a time" can't be said."""

    @app.task("t", events=str)
    async def task(ctx: Context[float, None]) -> str | Suspended:
        if ctx.woken_by is WokenBy.START:
            return Suspended(until=timedelta(seconds=ctx.metadata))
        return f"{ctx.woken_by.value}: {await ctx.next_event()}"

    async with app.worker():
        by_event, by_time = await task.start(3600.0), await task.start(0.05)
        await is_in(by_event, JobState.SUSPENDED)
        assert [job.id async for job in app.jobs(JobQuery(states=[JobState.SUSPENDED], metadata=3600))] == [by_event.id]
        await task.send(by_event.id, "paid")
        assert await by_event.result(timeout=10) == "event: paid"
        assert await by_time.result(timeout=10) == "time: None"


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


async def test_defect_13_what_is_looked_for_has_an_index_and_history_is_apart(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """Only the primary key is indexed, optional filters force scans of everything that ever ran."""
    database.execute("""
        insert into background_tasks.finished_jobs (id, state, created_at, finished_at, claim, attempt, retry_number,
            checkpoint, priority, queue, task, metadata, execution_metadata, woken_by, version)
        select n, 6 + (n % 1000 = 0)::int, now(), now(), 1, 1, 0, 0, 0, 'default', 't', 'null', 'null', 0, 1
        from generate_series(1, 20000) n
    """)
    database.execute("vacuum analyze background_tasks.finished_jobs, background_tasks.jobs")

    def read_of_history(*states: JobState) -> int:
        call = jobs.page(app.names, after=None, limit=100, states=[state.code for state in states], tasks=["t"])
        plan = database.execute(b"explain (analyze, format json) " + call.statement, call.parameters).fetchone()
        assert plan is not None
        return sum(int(rows) for rows in _rows_read(plan[0][0]["Plan"], "finished_jobs"))

    for _ in range(10):  # also once the statement has been prepared
        assert read_of_history(*(state for state in JobState if not state.is_final)) == 0
        assert read_of_history(JobState.FAILED) == 20


def _rows_read(plan: dict[str, Any], table: str) -> Iterator[float]:
    if plan.get("Relation Name") == table:
        yield (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    for below in plan.get("Plans", ()):
        yield from _rows_read(below, table)


async def _nothing(ctx: Context[None, None]) -> None: ...


async def test_defect_14_paging_skips_nothing_whatever_the_order_and_all_filters_count(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """The cursor skips rows of equal times; descending returns nothing; one filter makes another ignored."""

    @app.task("t")
    async def task(ctx: Context[int, Progress]) -> None: ...

    started = await task.start_many([n % 2 for n in range(25)])
    database.execute("update background_tasks.jobs set created_at = now(), scheduled_at = now()")
    ids = [job.id for job in started]
    assert [job.id async for job in app.jobs(JobQuery(page_size=4))] == ids
    assert [job.id async for job in app.jobs(JobQuery(page_size=4, order="descending"))] == ids[::-1]
    some = JobQuery(names=["t"], metadata=1, execution_metadata={"rows": 1})
    assert [job.id async for job in app.jobs(some)] == []
    assert isinstance(await app.proceed(some), JobNotFound)


async def test_defect_15_schemas_of_one_database_share_nothing(cluster: Any) -> None:
    """A type is created outside of the configured schema, so that a second schema collides with it."""
    dsn = cluster.dsn(cluster.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = b"""
            select count(*) from (select relnamespace from pg_class union all select typnamespace from pg_type
                union all select pronamespace from pg_proc) as things (namespace)
            where namespace not in (
                select oid from pg_namespace where nspname in ('first', 'second') or nspname like 'pg\\_toast%'
            )
        """
        before = connection.execute(query).fetchone()
        for schema in ("first", "second"):
            migrate_database(dsn, schema)
        assert connection.execute(query).fetchone() == before
    async with (
        App(dsn, persistence={"schema_name": "first"}) as first,
        App(dsn, persistence={"schema_name": "second"}) as other,
    ):
        await first.task("t")(_nothing).start()
        assert [job async for job in other.jobs()] == []


async def test_defect_16_jobs_can_be_cancelled_ranked_and_looked_back_at_by_one_clock(
    app: App, database: psycopg.Connection[Any]
) -> None:
    """No cancel from outside, no priority, no history, no finish time; times are the applications'."""
    order = list[int]()

    @app.task("t")
    async def task(ctx: Context[int, None]) -> None:
        order.append(ctx.metadata)

    for priority in (-1, 5, 0):
        await task.start(priority, priority=priority)
    cancelled = await task.start(7)
    assert isinstance(await app.cancel(cancelled.id), CancelRequested)
    async with app.worker(concurrency=1):
        job = await task.start(-100, priority=-100)
        await job.result(timeout=10)
    assert order == [5, 0, -1, -100]
    assert (await cancelled.refresh()).state is JobState.CANCELLED
    assert [attempt.number for attempt in await (await job.refresh()).history()] == [1]
    clock = database.execute("select now()").fetchone()
    assert clock is not None
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at < job.started_at < job.finished_at < clock[0]


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


async def test_defect_18_every_answer_of_proceed_is_given_and_none_is_another(app: App) -> None:
    """Answers are declared that are never given; and "several found" is said when there is none."""

    @app.task("t")
    async def task(ctx: Context[int, Progress]) -> Suspended | Cancelled[str]:
        return Suspended()

    def fails(progress: Progress) -> Progress:
        message = "no"
        raise ValueError(message)

    async with app.worker():
        for job in await task.start_many([1, 1]):
            await is_in(job, JobState.SUSPENDED)
    none, several = await app.proceed(JobQuery(metadata=2)), await app.proceed(JobQuery(metadata=1))
    assert isinstance(none, JobNotFound)
    assert isinstance(several, MultipleJobsFound)
    assert len(several.jobs) == 2
    assert isinstance(await app.proceed(10**12), JobNotFound)
    assert isinstance(await task.proceed(job.id, fails), ModificationFailed)
    assert isinstance(await task.proceed(job.id), Proceeded)
    assert isinstance(await task.proceed(job.id), NotSuspended)
