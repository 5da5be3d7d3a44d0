"""A stopped handler that raises something else as it unwinds: the reason for the stop says what becomes of the job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, Context, JobState, Raised
from perdure.core.history import AttemptEnding
from perdure.errors import JobTimeout
from tests.support.jobs import is_in, job_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass
class Progress:
    rows: int = 0


async def raises_in_finally() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        message = "the database is away"
        raise ConnectionError(message)


async def raises_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_in_finally())
        await asyncio.Event().wait()


async def raises_cancellations() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        message = "all of its parts"
        raise BaseExceptionGroup(message, [error, asyncio.CancelledError()]) from None


def define(app: App, unwind: Callable[[], Awaitable[None]], **options: Any) -> tuple[Any, asyncio.Event]:
    """A task whose handler persists one row, has done a second, and waits to be stopped."""
    waits = asyncio.Event()

    @app.task("t", **options)
    async def task(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows = 1
        await ctx.persist()
        ctx.execution_metadata.rows = 2
        waits.set()
        await unwind()

    return task, waits


async def failed(app: App, task: Any) -> Any:
    """A job of it that a worker has run until it failed."""
    async with app.worker():
        job = await task.start()
        await is_in(job, JobState.FAILED)
    return job


async def stopped(app: App, task: Any, waits: asyncio.Event) -> Any:
    """A job of it whose worker was stopped while the handler waited."""
    async with app.worker():
        job = await task.start()
        await waits.wait()
    return await job.refresh()


@pytest.mark.parametrize(
    ("unwind", "last_error"),
    [
        (raises_in_finally, "ConnectionError: the database is away"),
        (raises_in_a_group, "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"),
    ],
)
async def test_a_stop_spends_no_retry_and_keeps_what_was_persisted(
    app: App, unwind: Callable[[], Awaitable[None]], last_error: str
) -> None:
    task, waits = define(app, unwind, scheduler_retry_count=0)
    job = await stopped(app, task, waits)
    assert (job.state, job.execution_metadata, job.last_error) == (JobState.PENDING, Progress(1), last_error)
    assert [attempt.ending for attempt in await job.history()] == [AttemptEnding.STOPPED]


async def test_a_group_of_nothing_but_cancellations_is_one(app: App) -> None:
    task, waits = define(app, raises_cancellations, scheduler_retry_count=0)
    job = await stopped(app, task, waits)
    assert (job.state, job.execution_metadata, job.last_error) == (JobState.PENDING, Progress(2), None)


async def test_a_group_of_cancellations_that_nobody_asked_for_is_a_raise(app: App) -> None:
    async def falls_apart() -> None:
        message = "of itself"
        raise BaseExceptionGroup(message, [asyncio.CancelledError()])

    task, _waits = define(app, falls_apart, scheduler_retry_count=0)
    job = await failed(app, task)
    assert (job.execution_metadata, job.attempt) == (Progress(1), 1)


@pytest.mark.parametrize("unwind", [raises_in_finally, raises_in_a_group])
async def test_a_time_out_stays_one(app: App, unwind: Callable[[], Awaitable[None]]) -> None:
    task, _waits = define(app, unwind, timeout=timedelta(milliseconds=100), scheduler_retry_count=1)
    job = await failed(app, task)
    assert (job.attempt, job.execution_metadata) == (2, Progress(1))
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.JobTimeout"
    assert "the database is away" in job.error.traceback
    endings = [attempt.ending for attempt in await job.history()]
    assert endings == [AttemptEnding.TIMED_OUT, AttemptEnding.JOB_FAILED]


async def test_a_time_out_isnt_retried_where_the_task_says_so_whatever_the_handler_raises(app: App) -> None:
    task, _waits = define(app, raises_in_finally, timeout=timedelta(milliseconds=100), no_retry_on=JobTimeout)
    job = await failed(app, task)
    assert job.attempt == 1


async def test_a_time_out_tells_where_the_handler_stood(app: App) -> None:
    async def hang_here() -> None:
        await asyncio.Event().wait()

    task, _waits = define(app, hang_here, timeout=timedelta(milliseconds=100), no_retry_on=JobTimeout)
    job = await failed(app, task)
    assert isinstance(job.error, Raised)
    assert "in hang_here" in job.error.traceback


async def test_a_deadline_stays_one(app: App) -> None:
    task, _waits = define(app, raises_in_finally, deadline=timedelta(milliseconds=200), scheduler_retry_count=9)
    job = await failed(app, task)
    assert (job.attempt, job.execution_metadata) == (1, Progress(1))
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.DeadlineExceeded"


async def test_a_cancel_keeps_the_error_with_which_the_handler_ended(app: App) -> None:
    task, waits = define(app, raises_in_finally)
    async with app.worker():
        job = await task.start()
        await waits.wait()
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state.is_final)
    assert (job.state, job.execution_metadata) == (JobState.CANCELLED, Progress(1))
    assert isinstance(job.error, Raised)
    assert job.error.type == "ConnectionError"
