"""Every row of "what a handler can end with", on a real worker and a real database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from perdure import (
    App,
    Cancelled,
    Completed,
    Context,
    Failed,
    Job,
    JobCancelled,
    JobFailed,
    JobState,
    Raised,
    Suspended,
)
from perdure import blocking as perdure_blocking
from tests.support.jobs import job_until, until


@dataclass
class Order:
    number: int


@dataclass
class Progress:
    rows: int = 0


@dataclass
class Receipt:
    number: int


@dataclass
class Closed:
    since: str


async def settled(job: Job[Any, Any, Any, Any], state: JobState) -> None:
    """Wait until the job is in this state."""
    await job_until(job, lambda job: job.state is state)


async def test_a_returned_value_is_the_result(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt:
        ctx.execution_metadata.rows = 3
        return Receipt(ctx.metadata.number)

    async with app.worker():
        job = await order.start(Order(7))
        assert await job.result(timeout=10) == Receipt(7)
    await job.refresh()
    assert (job.state, job.attempt, job.execution_metadata) == (JobState.COMPLETED, 1, Progress(3))
    assert job.finished_at is not None
    assert job.error is None


async def test_completed_says_the_same_outright(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, None]) -> Completed[Receipt]:
        return Completed(Receipt(ctx.metadata.number))

    async with app.worker():
        assert await (await order.start(Order(1))).result(timeout=10) == Receipt(1)


async def test_a_def_handler_runs_in_a_thread(app: App) -> None:
    @app.task("order")
    def order(ctx: perdure_blocking.Context[Order, Progress]) -> Receipt:
        ctx.execution_metadata.rows = 1
        ctx.persist()
        with ctx.transaction() as connection:
            connection.execute("create table t (n int)")
            ctx.execution_metadata.rows = 2
        ctx.progress(1, 2, "half")
        return Receipt(ctx.metadata.number)

    async with app.worker():
        job = await order.start(Order(1))
        assert await job.result(timeout=10) == Receipt(1)
        assert (await job.refresh()).execution_metadata == Progress(2)


async def test_suspended_waits_until_somebody_proceeds_it(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt | Suspended:
        ctx.execution_metadata.rows += 1
        return Suspended() if ctx.execution_metadata.rows == 1 else Receipt(ctx.execution_metadata.rows)

    async with app.worker():
        job = await order.start(Order(1))
        await settled(job, JobState.SUSPENDED)
        assert job.scheduled_at is None
        assert job.execution_metadata == Progress(1)
        await app.proceed(job.id)
        assert await job.result(timeout=10) == Receipt(2)
        assert (await job.refresh()).attempt == 2


async def test_suspended_until_goes_on_by_itself(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt | Suspended:
        ctx.execution_metadata.rows += 1
        return Suspended(timedelta(seconds=0.05)) if ctx.execution_metadata.rows == 1 else Receipt(2)

    async with app.worker():
        assert await (await order.start(Order(1))).result(timeout=10) == Receipt(2)


async def test_a_proceed_while_the_job_runs_is_remembered(app: App) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt | Suspended:
        ctx.execution_metadata.rows += 1
        if ctx.execution_metadata.rows > 1:
            return Receipt(ctx.execution_metadata.rows)
        running.set()
        await go_on.wait()
        return Suspended()

    async with app.worker():
        job = await order.start(Order(1))
        await running.wait()
        await app.proceed(job.id)
        go_on.set()
        assert await job.result(timeout=10) == Receipt(2)


async def test_failed_spends_enqueueing_retries(app: App) -> None:
    @app.task("order", max_retry_count=2)
    async def order(ctx: Context[Order, Progress]) -> Receipt | Failed[Closed]:
        ctx.execution_metadata.rows += 1
        return Failed(Closed("noon"))

    async with app.worker():
        job = await order.start(Order(1))
        with pytest.raises(JobFailed) as caught:
            await job.result(timeout=10)
    assert caught.value.error == Closed("noon")
    await job.refresh()
    assert (job.state, job.attempt, job.retry_number, job.error) == (JobState.FAILED, 3, 2, Closed("noon"))
    assert job.execution_metadata == Progress(3)


async def test_failed_without_retry_fails_at_once(app: App) -> None:
    @app.task("order", max_retry_count=5)
    async def order(ctx: Context[Order, None]) -> Receipt | Failed[Closed]:
        return Failed(Closed("noon"), retry=False)

    async with app.worker():
        job = await order.start(Order(1))
        await settled(job, JobState.FAILED)
    assert job.attempt == 1


async def test_cancelled_by_the_handler(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, None]) -> Receipt | Cancelled[Closed]:
        return Cancelled(Closed("never"))

    async with app.worker():
        job = await order.start(Order(1))
        with pytest.raises(JobCancelled):
            await job.result(timeout=10)
    assert (await job.refresh()).error == Closed("never")


async def test_a_raise_drops_what_wasnt_persisted_and_is_retried(app: App) -> None:
    seen: list[int] = []

    @app.task("order", scheduler_retry_count=2, scheduler_retry_delays=[0])
    async def order(ctx: Context[Order, Progress]) -> Receipt:
        seen.append(ctx.execution_metadata.rows)
        ctx.execution_metadata.rows += 1
        await ctx.persist()
        ctx.execution_metadata.rows += 100
        message = "boom"
        raise ValueError(message)

    async with app.worker():
        job = await order.start(Order(1))
        await settled(job, JobState.FAILED)
    assert seen == [0, 1, 2]
    assert job.execution_metadata == Progress(3)
    assert isinstance(job.error, Raised)
    assert (job.error.type, job.error.message) == ("ValueError", "boom")
    assert "raise ValueError(message)" in job.error.traceback
    assert job.last_error == "ValueError: boom"


async def test_an_error_is_gone_after_a_later_success(app: App) -> None:
    @app.task("order", max_retry_count=1)
    async def order(ctx: Context[Order, None]) -> Receipt:
        if ctx.attempt == 1:
            message = "boom"
            raise ValueError(message)
        return Receipt(1)

    async with app.worker():
        job = await order.start(Order(1))
        await job.result(timeout=10)
    await job.refresh()
    assert (job.error, job.last_error) == (None, None)


async def test_a_cancellation_that_isnt_ours_is_a_raise(app: App) -> None:
    @app.task("order")
    async def order(ctx: Context[Order, None]) -> Receipt:
        raise asyncio.CancelledError

    async with app.worker():
        job = await order.start(Order(1))
        await settled(job, JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert job.error.type == "asyncio.CancelledError"


async def test_past_its_timeout_is_a_raise(app: App) -> None:
    @app.task("order", timeout=timedelta(seconds=0.05))
    async def order(ctx: Context[Order, None]) -> Receipt:
        await asyncio.Event().wait()
        return Receipt(1)

    async with app.worker():
        job = await order.start(Order(1))
        await settled(job, JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.JobTimeout"


async def test_shutdown_keeps_the_checkpoint_and_spends_nothing(app: App) -> None:
    running = asyncio.Event()

    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt:
        ctx.execution_metadata.rows += 1
        if ctx.execution_metadata.rows > 1:
            return Receipt(ctx.execution_metadata.rows)
        running.set()
        await asyncio.Event().wait()
        return Receipt(0)

    async with app.worker(shutdown_grace=0):
        job = await order.start(Order(1))
        before = job.scheduled_at
        await running.wait()
    await job.refresh()
    assert (job.state, job.execution_metadata, job.retry_number) == (JobState.PENDING, Progress(1), 0)
    assert job.scheduled_at == before
    async with app.worker():
        assert await job.result(timeout=10) == Receipt(2)


async def test_a_handler_that_ignores_shutdown_is_left_behind(app: App) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    @app.task("order")
    async def order(ctx: Context[Order, Progress]) -> Receipt:
        ctx.execution_metadata.rows = 5
        await ctx.persist()
        ctx.execution_metadata.rows = 6
        running.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Receipt(1)

    async with app.worker(shutdown_grace=0):
        job = await order.start(Order(1))
        await running.wait()
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.PENDING, Progress(5))
    release.set()


async def test_an_unknown_task_waits_with_a_clear_error_and_goes_on_with_the_code(
    app: App, migrated_database: str
) -> None:
    other = App(migrated_database)

    @other.task("order")
    async def order(ctx: Context[Order, None]) -> Receipt:
        return Receipt(ctx.metadata.number)

    async with other:
        job = await order.start(Order(9))
        async with app.worker():
            await job_until(job, lambda job: job.last_error is not None)
        assert job.last_error is not None
        assert "no task named 'order'" in job.last_error
        assert (job.state, job.attempt, job.retry_number) == (JobState.PENDING, 0, 0)
        async with other.worker():
            assert await job.result(timeout=10) == Receipt(9)
        assert (await job.refresh()).attempt == 1


async def test_an_outcome_whose_row_is_locked_is_written_once_it_is_free(app: App, migrated_database: str) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        ran.append(ctx.attempt)
        running.set()
        await go_on.wait()
        return "written"

    ran: list[int] = []
    async with app.worker() as worker, await psycopg.AsyncConnection.connect(migrated_database) as holder:
        job = await task.start()
        await running.wait()
        await holder.execute("select from background_tasks.jobs for update")
        go_on.set()
        await until(lambda: worker.desk._tries.get(job.id, 0) > 1, "it is tried again and again")
        await holder.rollback()
        assert await job.result(timeout=10) == "written"
    assert len(ran) == 1
