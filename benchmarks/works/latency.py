"""How long a job waits for its handler: from the call that starts it until the handler begins."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from benchmarks.bench import waits
from benchmarks.works.draining import half_load_per_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.process import Workers
    from benchmarks.server import Database

__all__ = ["idle_cost", "latency_idle", "latency_under_load"]

_LONE_JOBS = 500
_PAUSE_SECONDS = 0.020
_WARM_UP = 20
_LOAD_SECONDS = 3.0
_SKIPPED = 0.2  # of what is sent under load
_IDLE_SECONDS = 12.0
_UNTIL_IDLE_SECONDS = 4.0


async def latency_idle(bench: Bench, contender: Contender) -> Figures:
    """Start a job every 20 ms, for a worker that has nothing else to do."""
    count = _WARM_UP + bench.size(_LONE_JOBS)
    async with (
        bench.database(contender.side) as database,
        bench.workers(contender, database, slots=count, work="lone jobs") as workers,
        bench.producer(contender, database) as producer,
    ):
        await workers.go()
        await producer.call("trickle", count=1, pause_seconds=0.0)
        await workers.reach(1)
        await producer.call("trickle", count=count - 1, pause_seconds=_PAUSE_SECONDS)
        await workers.reach(count)
        return waits(workers.all[0].probe.waits_seconds()[_WARM_UP:])


async def latency_under_load(bench: Bench, contender: Contender) -> Figures:
    """Start jobs at half the rate that the contender can drain at."""
    rate = await half_load_per_second(bench, contender)
    seconds = max(0.2, _LOAD_SECONDS * bench.scale)
    async with (
        bench.database(contender.side) as database,
        bench.workers(contender, database, slots=int(rate * seconds * 1.2) + 10) as workers,
        bench.producer(contender, database) as producer,
    ):
        await workers.go()
        await producer.call("trickle", count=1, pause_seconds=0.0)
        await workers.reach(1)
        fed = await producer.call("feed", per_second=rate, seconds=seconds)
        await workers.reach(1 + fed["sent"])
        found = workers.all[0].probe.waits_seconds()[1:]
        return {**waits(found[int(len(found) * _SKIPPED) :]), "per_second": fed["per_second"]}


async def idle_cost(bench: Bench, contenders: Sequence[Contender]) -> dict[str, Figures]:
    """Let workers idle, all sides' at once: what each and its connections cost, at the library's own settings."""
    seconds = _IDLE_SECONDS * min(1.0, 20 * bench.scale)
    figures: dict[str, Figures] = {}
    async with AsyncExitStack() as stack:
        idle = {}
        for one in contenders:
            database = await stack.enter_async_context(bench.database(one.side))
            idle[one.name] = database, bench.workers(one, database, work="idle")
        await asyncio.gather(*(stack.enter_async_context(workers) for _, workers in idle.values()))
        for _, workers in idle.values():
            await workers.go()
        await asyncio.sleep(min(_UNTIL_IDLE_SECONDS, seconds))
        before = {name: _cost(bench, *both) for name, both in idle.items()}
        await asyncio.sleep(seconds)
        for name, both in idle.items():
            used = [now - then for now, then in zip(_cost(bench, *both), before[name], strict=True)]
            names = ("commits_per_second", "worker_ms_per_second", "server_ms_per_second")
            figures[name] = {key: value / seconds for key, value in zip(names, used, strict=True)}
    return figures


def _cost(bench: Bench, database: Database, workers: Workers) -> tuple[float, float, float]:
    server = bench.server
    return (
        float(server.commits(database)),
        workers.cpu_seconds() * 1e3,
        server.backends_cpu_seconds(database) * 1e3,
    )
