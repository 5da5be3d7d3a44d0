"""A worker goes on working on the schema of the next minor version, which adds and takes nothing away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from perdure import Context, Failed, JobState, Retried, Sent, Suspended
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from perdure import App

TABLES = ("jobs", "finished_jobs", "events", "steps", "attempts", "bands", "workers")


async def test_a_job_goes_through_all_of_its_life_on_a_schema_that_has_grown(app: App, migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"alter table background_tasks.{table} add future text, add old int default 7".encode())
        connection.execute("""
            insert into background_tasks.migrations (number, name, major, checksum) values (900, 'grown', 1, 'x');
            create index on background_tasks.jobs (future)
        """)

    def nothing() -> None: ...

    @app.task("t", events=str, max_retry_count=1)
    async def task(ctx: Context[None, None]) -> str | Failed[str] | Suspended:
        await ctx.step("once", nothing)
        if ctx.attempt == 1:
            return Failed("once more")
        async with ctx.transaction():
            event = await ctx.next_event()
        return Suspended() if event is None else f"{event}"

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        assert isinstance(await task.send(job.id, "paid"), Sent)
        assert await job.result(timeout=10) == "paid"
        assert isinstance(await app.retry(job.id, afresh=True), Retried)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
        assert [found.id async for found in app.jobs()] == [job.id]
