"""What a worker claims and when: by priority, no more than it can start, never asleep while work is due."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from perdure import App, Context, Job, JobQuery, JobState, Suspended
from perdure.worker.looks import Looks
from tests.support.jobs import job_until, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from perdure.worker.worker import Worker

A_DAY = {"polling_delay": timedelta(days=1)}


@dataclass
class Length:
    is_long: bool


async def in_state(app: App, state: JobState) -> int:
    return len([job async for job in app.jobs(JobQuery(states=[state]))])


async def be_left_alone(worker: Worker) -> None:
    """Wait until both lanes sleep, and nothing but a notification or a timer of the claims will wake them."""
    for service in worker._services:
        await service.stop()
    await until(
        lambda: (
            worker._listener.is_listening
            and not worker._short_tasks
            and worker.claimer.sleeping
            and not worker.claimer._maybe_due
            and len(worker.desk._waiters) == len(worker.lanes)
        ),
        "the worker has nothing to do",
    )


async def test_long_jobs_are_never_hoarded(app: App) -> None:
    release = asyncio.Event()
    running: list[int] = []

    @app.task("long")
    async def long(ctx: Context[None, None]) -> None:
        running.append(ctx.id)
        await release.wait()

    await long.start_many([None] * 10)
    async with app.worker(concurrency=3):
        await until(lambda: len(running) == 3, "three run")
        assert await in_state(app, JobState.RUNNING) == 3
        assert await in_state(app, JobState.PENDING) == 7
        async with app.worker(concurrency=4):
            await until(lambda: len(running) == 7, "another worker finds the rest")
            release.set()
            await until(lambda: len(running) == 10, "all run")


async def test_looks_that_take_long_leave_a_lane_to_the_jobs(app: App) -> None:
    @app.task("short")
    async def short(ctx: Context[None, None]) -> int:
        return ctx.id

    is_looking, go_on = asyncio.Event(), asyncio.Event()

    async def look(_connection: object) -> None:
        is_looking.set()
        await go_on.wait()

    async with app.worker() as worker:
        await be_left_alone(worker)  # a lane with errands of its services would end the job before its next look
        looks = [asyncio.create_task(worker.desk.look(look, what="look")) for _ in range(4)]
        await is_looking.wait()
        worker.claimer.look_everywhere()  # which would be another
        job = await short.start(None)
        try:
            assert await job.result(timeout=15) == job.id
        finally:
            go_on.set()
        await asyncio.gather(*looks)


async def test_what_was_claimed_ahead_of_a_long_job_goes_back_untouched(app: App) -> None:
    release = asyncio.Event()

    @app.task("mixed")
    async def mixed(ctx: Context[Length, None]) -> None:
        if ctx.metadata.is_long:
            await release.wait()

    async with app.worker(concurrency=2):
        # Short ones first, so that the worker measures that it may claim ahead.
        for job in await mixed.start_many([Length(is_long=False)] * 300):
            await job.result(timeout=15)
        jobs = await mixed.start_many([Length(is_long=True)] * 20)
        await until_async(lambda: in_state(app, JobState.RUNNING), 2)
        waiting = [job for job in jobs if (await job.refresh()).state is JobState.PENDING]
        assert len(waiting) == 18
        assert {job.attempt for job in waiting} == {0}
        release.set()
        for job in jobs:
            await job.result(timeout=15)
        assert {(await job.refresh()).attempt for job in jobs} == {1}


async def until_async(count: Callable[[], object], wanted: int) -> None:
    async with asyncio.timeout(15):
        while await count() != wanted:  # type: ignore[misc]  # noqa: ASYNC110 - nobody is notified of it
            await asyncio.sleep(0.02)


async def test_larger_priorities_run_first_among_equals_the_older(app: App) -> None:
    order: list[str] = []

    @app.task("named")
    async def named(ctx: Context[str, None]) -> None:
        order.append(ctx.metadata)

    jobs = [
        await named.start("low", priority=-5),
        await named.start("first"),
        await named.start("second", queue="other"),
        await named.start("high", priority=100),
        await named.start("third"),
    ]
    async with app.worker(concurrency=1):
        for job in jobs:
            await job.result(timeout=15)
    assert order == ["high", "first", "second", "third", "low"]


async def test_a_worker_with_queues_serves_no_other(app: App) -> None:
    @app.task("named")
    async def named(ctx: Context[str, None]) -> str:
        return ctx.metadata

    mine, other = await named.start("mine", queue="mine"), await named.start("other")
    async with app.worker(queues=["mine"]):
        assert await mine.result(timeout=15) == "mine"
    assert (await other.refresh()).state is JobState.PENDING


async def test_a_worker_never_sleeps_while_work_is_due(migrated_database: str) -> None:
    """Polls would come once a day here: a full claim is followed by the next at once."""
    app = App(migrated_database, scheduling={"batch_size": 10, **A_DAY})

    @app.task("nothing")
    async def nothing(ctx: Context[None, None]) -> None: ...

    async with app:
        jobs = await nothing.start_many([None] * 500)
        async with app.worker(concurrency=7):
            for job in jobs:
                await job.result(timeout=20)


async def test_a_sleeping_worker_is_woken_by_starts_and_proceeds(migrated_database: str) -> None:
    app = App(migrated_database, scheduling=A_DAY)

    @app.task("twice")
    async def twice(ctx: Context[None, dict[str, int]]) -> int | Suspended:
        ctx.execution_metadata["runs"] = ctx.execution_metadata.get("runs", 0) + 1
        return 2 if ctx.execution_metadata["runs"] == 2 else Suspended()

    async with app, app.worker():
        for _ in range(3):
            job: Job[None, dict[str, int], int, None] = await twice.start()
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)
            await app.proceed(job.id)
            assert await job.result(timeout=15) == 2


async def test_a_short_delay_is_kept_to_whatever_the_polls(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for look in ("after_sleep", "everywhere"):  # which would find the job by and by
        monkeypatch.setattr(Looks, look, lambda *_arguments: None)
    app = App(migrated_database, scheduling={**A_DAY, "scheduler_retry_count": 1, "scheduler_retry_delays": [1.5]})

    @app.task("second")
    async def second(ctx: Context[None, None]) -> int:
        if ctx.attempt < 2:  # longer ago than a claim takes that was under way then
            message = "not yet"
            raise ValueError(message)
        return ctx.attempt

    async with app, app.worker() as worker:
        await be_left_alone(worker)
        assert await (await second.start()).result(timeout=15) == 2


async def test_a_row_from_elsewhere_in_an_unknown_band_is_found(app: App, migrated_database: str) -> None:
    """Inserted by hand, so that no start has made its band known."""

    @app.task("named")
    async def named(ctx: Context[str, None]) -> str:
        return ctx.metadata

    job = await named.start("by hand")
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("update background_tasks.jobs set queue = 'unheard of', priority = 7")
    async with app.worker():
        assert await job.result(timeout=15) == "by hand"


async def test_a_due_job_whose_row_was_locked_is_claimed_once_it_is_free(migrated_database: str) -> None:
    """A claim steps over locked rows, and nobody notifies when they are free: the worker comes back by itself."""
    app = App(migrated_database, scheduling=A_DAY)

    @app.task("named")
    async def named(ctx: Context[str, None]) -> str:
        return ctx.metadata

    async with app:
        job = await named.start("locked")
        async with await psycopg.AsyncConnection.connect(migrated_database) as connection:
            await connection.execute("select from background_tasks.jobs for update")
            async with app.worker() as worker:
                await until(lambda: worker.claimer.sleeping, "the worker has found nothing and sleeps")
                over_at_seconds = time.monotonic() + 0.5
                await until(
                    lambda: (
                        time.monotonic() > over_at_seconds and not any(lane._looks._everywhere for lane in worker.lanes)
                    ),
                    "all looks that have other reasons are over",
                )
                await connection.rollback()
                assert await job.result(timeout=15) == "locked"
