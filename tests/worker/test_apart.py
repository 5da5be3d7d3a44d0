"""What one job does in its process is kept from the next."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

from perdure import App, Context  # noqa: TC001 - the tasks' annotations are evaluated

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def test_context_variables_are_the_jobs_own(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[int, None]) -> str:
        before = TENANT.get()
        TENANT.set(f"tenant {ctx.metadata}")
        await asyncio.sleep(0)
        return before

    async with app.worker(concurrency=2):
        jobs = await task.start_many(range(300))  # most are begun where another has ended
        assert {await job.result(timeout=20) for job in jobs} == {"nobody"}


async def test_handlers_that_compute_let_others_have_the_loop(app: App) -> None:
    longest_seconds = 0.0

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        until_seconds = time.perf_counter() + 0.003
        while time.perf_counter() < until_seconds:
            pass

    async def watch() -> None:
        nonlocal longest_seconds
        while True:
            before_seconds = time.perf_counter()
            await asyncio.sleep(0)
            longest_seconds = max(longest_seconds, time.perf_counter() - before_seconds)

    jobs = await task.start_many([None] * 400)
    began_at_seconds = time.perf_counter()
    async with app.worker(concurrency=10):
        watching = asyncio.create_task(watch())
        for job in jobs:
            await job.result(timeout=30)
        watching.cancel()
    # Ten at once are 30 ms; all that were claimed would be all the time that there is.
    assert longest_seconds < (time.perf_counter() - began_at_seconds) / 4
