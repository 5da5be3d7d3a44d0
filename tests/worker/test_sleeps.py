"""Sleeps: suspensions that go on behind their line, end when they were to end, and are never skipped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
import pytest

from perdure import App, Context, JobState, NotSuspended, Proceeded, Raised, Suspended, WokenBy
from tests.support.jobs import job_until


@dataclass
class Progress:
    done: int = 0


async def test_a_sleep_is_a_suspension_that_goes_on_behind_its_line(app: App) -> None:
    log: list[str] = []

    async def note(text: str) -> None:
        log.append(text)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        await ctx.step("before", note, "before")
        await ctx.sleep(timedelta(milliseconds=100))
        await ctx.step("between", note, "between")
        await ctx.sleep(0.1)
        await ctx.step("after", note, "after")
        return " ".join(log)

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "before between after"
        assert job.attempt == 3


async def test_a_sleep_ends_when_it_was_to_end_whatever_comes_between(app: App, migrated_database: str) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        ctx.execution_metadata.done += 1
        await ctx.sleep(timedelta(hours=1), key="an hour")
        return ctx.execution_metadata.done

    async with app.worker(), await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        until = job.scheduled_at
        # As if the worker had been lost: it runs, and sleeps on.
        await connection.execute(
            "update background_tasks.jobs set state = 0, scheduled_at = clock_timestamp(), asleep = false"
        )
        await job_until(job, lambda job: job.state is JobState.SUSPENDED and job.attempt == 2)
        assert job.scheduled_at == until
        await connection.execute(
            "update background_tasks.steps set result = json_build_object('until', clock_timestamp(), 'version', 1); "
            "update background_tasks.jobs set scheduled_at = clock_timestamp()"
        )
        assert await job.result(timeout=10) == 3


async def test_sleeps_in_a_loop_that_goes_on_from_the_checkpoint_have_keys_of_their_own(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        progress = ctx.execution_metadata
        while progress.done < 3:
            await ctx.sleep(0.02, key=f"before {progress.done}")
            progress.done += 1
            await ctx.persist()
        return ctx.attempt

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == 4  # three sleeps


@pytest.mark.parametrize("persists", [True, False])
async def test_a_sleep_without_a_key_that_may_be_another_one_is_refused_and_never_skipped(
    app: App,
    persists: bool,  # noqa: FBT001 - a case
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        while ctx.execution_metadata.done < 3:
            ctx.execution_metadata.done += 1
            if persists:
                await ctx.persist()
            await ctx.sleep(0.02)
        return ctx.attempt

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    assert isinstance(job.error, Raised)
    assert "'sleep 1' is over, but the execution metadata isn't what it was" in job.error.message
    assert 'key=f"pause {number}"' in job.error.message


async def test_a_sleep_without_a_key_is_known_again_though_a_deploy_gave_the_checkpoint_a_field(
    app: App, migrated_database: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        ctx.execution_metadata.done = 1
        await ctx.sleep(timedelta(hours=1))
        return ctx.execution_metadata.done

    async with app.worker(), await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        await connection.execute(
            "update background_tasks.jobs set execution_metadata = '{}', scheduled_at = clock_timestamp(); "
            "update background_tasks.steps set result = (result::jsonb || jsonb_build_object("
            """'until', clock_timestamp(), 'found', '{"gone": true, "done": 1}'::jsonb))::json"""
        )
        assert await job.result(timeout=10) == 1


async def test_a_sleep_in_a_task_group_is_a_sleep_and_the_first_to_end_counts(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(timedelta(milliseconds=150), key="long"))
            group.create_task(ctx.sleep(timedelta(milliseconds=20), key="short"))
        return ctx.attempt

    async with app.worker():
        assert await (await task.start()).result(timeout=10) in {2, 3}  # 2: it came to it when both were over


async def test_a_proceed_of_a_sleeping_job_is_remembered_for_its_next_suspension(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str | Suspended:
        await ctx.sleep(timedelta(milliseconds=300))
        if ctx.woken_by is WokenBy.START:
            return Suspended()
        return f"{ctx.woken_by}"

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        assert isinstance(await app.proceed(job.id), Proceeded)
        assert (await job.refresh()).state is JobState.SUSPENDED
        assert await job.result(timeout=10) == "proceed"


async def test_a_sleep_is_passed_though_somebody_wanted_to_modify_the_job_meanwhile(
    app: App, migrated_database: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        ctx.execution_metadata.done = ctx.execution_metadata.done or 1
        await ctx.sleep(timedelta(hours=1))
        return ctx.execution_metadata.done

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        answer = await task.proceed(job.id, lambda progress: replace(progress, done=7))
        async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
            await connection.execute(
                "update background_tasks.steps set result = (result::jsonb || jsonb_build_object("
                "'until', clock_timestamp()))::json; "
                "update background_tasks.jobs set scheduled_at = clock_timestamp()"
            )
        assert await job.result(timeout=10) == 1
    assert isinstance(answer, NotSuspended)


async def test_a_sleep_leaves_what_woke_the_job(app: App) -> None:
    @app.task("t", events=int)
    async def task(ctx: Context[None, Progress]) -> str | Suspended:
        if ctx.woken_by is WokenBy.START:
            return Suspended()
        await ctx.sleep(0.05)
        return f"{ctx.woken_by}: {await ctx.next_event()}"

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        await task.send(job.id, 7)
        assert await job.result(timeout=10) == "event: 7"


async def test_an_event_does_not_wake_a_sleeper_and_is_not_lost(app: App) -> None:
    @app.task("t", events=int)
    async def task(ctx: Context[None, None]) -> int:
        await ctx.sleep(timedelta(milliseconds=300))
        event = await ctx.next_event()
        assert isinstance(event, int)
        return event * 10 + ctx.attempt

    async with app.worker():
        job = await task.start()
        await task.send(job.id, 4)  # before, or while it sleeps
        assert await job.result(timeout=10) == 42
