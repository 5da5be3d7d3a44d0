"""What a worker weighs with many jobs in hand; and many that wait for results. perdure alone does these."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import psutil

from benchmarks.payloads import order
from benchmarks.tasks import Tasks

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender

__all__ = ["memory", "results"]

_JOBS = 1_000, 10_000
_WAITING = 10_000
_LOOK_SECONDS = 0.010
_TIMEOUT_SECONDS = 120
_AWAITED = "select count(*) from background_tasks.jobs where awaited"
_MIB = 1 << 20


async def memory(bench: Bench, contender: Contender) -> Figures:
    """Let a worker hold 1,000 jobs, then 10,000: its resident memory."""
    contender = contender.having(task="hold", concurrency=_JOBS[-1], execution={"shutdown_grace": 0})
    figures: Figures = {}
    async with (
        bench.database(contender.side) as database,
        bench.workers(contender, database) as workers,
        bench.producer(contender, database) as producer,
    ):
        await workers.go()
        process, held = psutil.Process(workers.all[0].process.pid), 1
        await producer.call("start_many", count=held)
        await workers.reach(held)
        figures["mib_at_1"] = process.memory_info().rss / _MIB
        for full in _JOBS:
            jobs = bench.size(full)
            await producer.call("start_many", count=jobs - held)
            await workers.reach(jobs)
            held = jobs
            figures[f"mib_at_{full}"] = process.memory_info().rss / _MIB
    return figures


async def results(bench: Bench, contender: Contender) -> Figures:
    """Wait for the results of 10,000 jobs in one process, while a worker runs them."""
    jobs = bench.size(_WAITING)
    async with bench.database(contender.side) as database:
        tasks = Tasks(database.dsn)
        async with tasks.app, bench.workers(contender, database) as workers:
            started = await tasks["noop"].start_many([order(number) for number in range(jobs)])
            async with asyncio.TaskGroup() as group:
                waiting = [group.create_task(job.result(timeout=_TIMEOUT_SECONDS)) for job in started]
                while await database.value(_AWAITED) < jobs:  # noqa: ASYNC110 - nothing would tell
                    await asyncio.sleep(_LOOK_SECONDS)
                await database.settle_down()
                gc.collect()
                cpu_seconds = time.process_time()
                await workers.go()
            found = [task.result() for task in waiting]
            seconds = time.monotonic() - workers.first_at_seconds
            cpu_seconds = time.process_time() - cpu_seconds
    if [one.number for one in found] != list(range(jobs)):
        message = "results are missing, or another job's"
        raise RuntimeError(message)
    return {"per_second": jobs / seconds, "client_us": cpu_seconds * 1e6 / jobs}
