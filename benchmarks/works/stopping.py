"""A worker that has a thousand jobs in hand is stopped, or killed. perdure alone does these."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.server import Database

__all__ = ["recover", "stop"]

_JOBS = 1_000
_LEASE_SECONDS = 2.0
_LOOK_SECONDS = 0.005
_LEFT = "select count(*) from background_tasks.jobs where worker_id is null and checkpoint > 0"
_HELD = "select count(*) from background_tasks.jobs where worker_id is not null"


async def stop(bench: Bench, contender: Contender) -> Figures:
    """SIGTERM, until the process has ended: handlers that look at `ctx.stopping`; and such that don't, without grace.

    Raises:
        RuntimeError: Jobs were lost, or weren't let go.
    """
    figures: Figures = {}
    for figure, task, grace_seconds in (("heeding_seconds", "heed", 10), ("cancelled_seconds", "hold", 0)):
        one = contender.having(task=task, concurrency=_JOBS, execution={"shutdown_grace": grace_seconds})
        jobs = bench.size(_JOBS)
        async with bench.database(one.side) as database:
            async with bench.producer(one, database) as producer:
                await producer.call("start_many", count=jobs)
            async with bench.workers(one, database) as workers:
                await workers.go()
                await workers.reach(jobs)
                figures[figure] = await workers.all[0].stop()
            if (left := await database.value(_LEFT)) != jobs:
                message = f"{left} of {jobs} jobs were let go by the worker that stopped"
                raise RuntimeError(message)
    return figures


async def recover(bench: Bench, contender: Contender) -> Figures:
    """SIGKILL one worker, until its jobs run in the other; the lease is 2 s."""
    execution = {"lease_duration": _LEASE_SECONDS, "shutdown_grace": 0}
    one = contender.having(task="hold", concurrency=2 * _JOBS, execution=execution)
    jobs = bench.size(_JOBS)
    async with (
        bench.database(one.side) as database,
        bench.workers(one, database) as killed,
        bench.workers(one, database) as other,
    ):
        async with bench.producer(one, database) as producer:
            await producer.call("start_many", count=jobs)
        await killed.go()
        await killed.reach(jobs)
        await other.go()
        await _two_workers(database)
        before = time.monotonic()
        killed.all[0].process.kill()
        await other.reach(jobs)
        probe = other.all[0].probe
        held = await database.value(_HELD)
        if held != jobs:
            message = f"{held} of {jobs} jobs run in the other worker"
            raise RuntimeError(message)
    return {
        "lease_seconds": _LEASE_SECONDS,
        "first_seconds": probe.first_at_seconds - before,
        "last_seconds": probe.last_at_seconds - before,
    }


async def _two_workers(database: Database) -> None:
    while await database.value("select count(*) from background_tasks.workers") < 2:  # noqa: ASYNC110, PLR2004
        await asyncio.sleep(_LOOK_SECONDS)
