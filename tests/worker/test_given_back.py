"""What a worker gives back when it stops, others take at once: they are told."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from perdure import App, Context
from tests.support.jobs import until

if TYPE_CHECKING:
    from perdure.worker.worker import Worker


async def soundly_asleep(worker: Worker) -> None:
    """Wait until it looks for jobs only when it is told of some."""
    await until(lambda: worker.claimer.sleeping, "it sleeps")
    over_at_seconds = time.monotonic() + 0.5
    await until(
        lambda: time.monotonic() > over_at_seconds and not any(lane._looks._everywhere for lane in worker.lanes),
        "all looks that have other reasons are over",
    )


async def test_what_a_stop_gives_back_is_taken_at_once_by_another_worker(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 0}, scheduling={"polling_delay": timedelta(days=1)})
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        if ctx.attempt == 1:
            running.set()
            await asyncio.Event().wait()
        return ctx.attempt

    async with app:
        async with app.worker():
            job = await task.start()
            await running.wait()
            other = app.worker()
            await other.__aenter__()
            await soundly_asleep(other)
        assert await job.result(timeout=10) == 2
        await other.stop()


async def test_what_a_stop_puts_back_is_taken_at_once_by_another_worker(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})
    release = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[bool, None]) -> None:
        if ctx.metadata:
            await release.wait()

    async with app:
        worker = app.worker(concurrency=1)
        worker.claimer.measure(0.0001)  # as if jobs were short: then some are claimed ahead
        async with worker:
            await task.start(True)
            ahead = await task.start(False)
            await until(lambda: worker.in_hand == 2, "one runs, one is claimed ahead")
            other = app.worker()
            await other.__aenter__()
            await soundly_asleep(other)
            stopping = asyncio.create_task(worker.stop())
            await until(lambda: not worker.executor._ahead, "it is put back")
            release.set()
            await stopping
        await ahead.result(timeout=10)
        await other.stop()
