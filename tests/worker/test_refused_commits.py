"""A `ctx.transaction()` whose commit is refused though the lease is valid: when its job is given back, and when not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure import App, Context, LeaseLost, Raised
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Progress:
    done: int = 0


@contextlib.asynccontextmanager
async def lapsed_for_a_moment(database: str) -> AsyncIterator[None]:
    """Let leases be past, as the database sees it with its clock an hour on; the worker itself doesn't notice."""
    ends = "update background_tasks.workers set lease_until = lease_until + %s * interval '1 hour'"
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(ends, [-1])
        try:
            yield
        finally:
            await connection.execute(ends, [1])


async def test_an_attempt_whose_commit_is_refused_by_a_clock_that_was_ahead_for_a_moment_spends_no_retry(
    app: App, migrated_database: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        if ctx.attempt > 1:
            return ctx.execution_metadata.done
        ctx.execution_metadata.done = 1
        await ctx.persist()
        ctx.execution_metadata.done = 2
        async with lapsed_for_a_moment(migrated_database), ctx.transaction():
            pass
        return 0

    async with app.worker() as worker:
        await worker._rescuer.stop()  # which might find its own lease lapsed
        job = await task.start()
        assert await job.result(timeout=30) == 1  # with no scheduler retry to spend, it would have failed
    assert [attempt.ending.value for attempt in await job.history()] == ["stopped", "job completed"]
    assert (await job.refresh()).retry_number == 0


@pytest.mark.parametrize(
    ("ends_with", "endings"),
    [("its leaf", ["stopped", "job completed"]), ("another error", ["job failed"])],
)
async def test_an_attempt_is_given_back_by_what_its_refused_commit_has_raised_and_by_nothing_else(
    app: App, migrated_database: str, ends_with: str, endings: list[str]
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        if ctx.attempt > 1:
            return

        async def commit() -> None:
            async with lapsed_for_a_moment(migrated_database), ctx.transaction():
                pass

        if ends_with == "its leaf":
            async with asyncio.TaskGroup() as group:
                group.create_task(commit())
        with pytest.raises(LeaseLost):
            await commit()
        raise ValueError(ends_with)

    async with app.worker() as worker:
        await worker._rescuer.stop()  # which might find its own lease lapsed
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    assert [attempt.ending.value for attempt in await job.history()] == endings


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_commit_whose_isolation_sees_an_old_lease_is_a_raise_like_any_other(
    app: App, migrated_database: str, isolation: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(f"set transaction isolation level {isolation}".encode())
            async with lapsed_for_a_moment(migrated_database):
                await connection.execute("select")  # until its end it sees the lease as it is now

    async with app.worker() as worker:
        await worker._rescuer.stop()  # which might find its own lease lapsed
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.LeaseLost"
    assert "keep the block shorter than execution.lease_duration, or in read committed" in job.error.message
    assert [attempt.ending.value for attempt in await job.history()] == ["job failed"]
