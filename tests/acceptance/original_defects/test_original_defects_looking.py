"""What goes wrong in the library that this one follows, shown impossible here: tables, queries, order and history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from perdure import App, CancelRequested, Context, JobNotFound, JobQuery, JobState
from perdure.store import jobs
from tests.support.clients import Progress  # noqa: TC001 - a task's annotation is evaluated
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Iterator


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


async def _nothing(ctx: Context[None, None]) -> None: ...


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
