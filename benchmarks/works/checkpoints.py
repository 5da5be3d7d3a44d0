"""Jobs that store where they are: 50 at once, 100 times each."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.bench import check_finished

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender

__all__ = ["checkpoints", "transactions"]

_JOBS = 50
_TIMES = 100
_LOOK_SECONDS = 0.010


async def checkpoints(bench: Bench, contender: Contender) -> Figures:
    """Store checkpoints; of a contender whose own is a step, steps."""
    return await _steps(bench, contender, "persist")


async def transactions(bench: Bench, contender: Contender) -> Figures:
    """Store a row and a checkpoint in one transaction."""
    return await _steps(bench, contender, "transact")


async def _steps(bench: Bench, contender: Contender, work: str) -> Figures:
    times = bench.size(contender.settings.get("times", _TIMES))
    contender = contender.having(**{"task": work, **contender.settings, "times": times})
    facts = await bench.facts(contender.side)
    async with bench.database(contender.side) as database:
        async with bench.producer(contender, database) as producer:
            await producer.call("start_steps", jobs=_JOBS, times=times)
        await database.settle_down()
        async with bench.workers(contender, database, work=work) as workers:
            await workers.go()
            await workers.reach(1)
            while await database.value(facts["unfinished"]):  # noqa: ASYNC110 - nothing would tell
                await asyncio.sleep(_LOOK_SECONDS)
            seconds = time.monotonic() - workers.first_at_seconds
        await check_finished(contender, database, facts["finished"], _JOBS)
    return {"per_second": _JOBS * times / seconds}
