"""What goes wrong in the library that this one follows, shown impossible here: suspensions and what proceeds them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import (
    App,
    Cancelled,
    Context,
    JobNotFound,
    JobQuery,
    JobState,
    ModificationFailed,
    MultipleJobsFound,
    NotSuspended,
    Proceeded,
    Suspended,
    WokenBy,
)
from tests.acceptance.original_defects.hold import Hold
from tests.support.clients import Progress  # noqa: TC001 - a task's annotation is evaluated
from tests.support.jobs import is_in


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
