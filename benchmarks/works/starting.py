"""Jobs are started, and nobody works."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender

__all__ = ["start", "start_many"]

_ALONE = 1000
_TURNS = 20


async def start(bench: Bench, contenders: Sequence[Contender]) -> dict[str, Figures]:
    """Start jobs one by one, each awaited: some on one side, then some on the next, and so on."""
    part = max(1, bench.size(_ALONE) // _TURNS)
    seconds = dict.fromkeys((one.name for one in contenders), 0.0)
    async with AsyncExitStack() as stack:
        producers = {}
        for one in contenders:
            database = await stack.enter_async_context(bench.database(one.side))
            producers[one.name] = await stack.enter_async_context(bench.producer(one, database))
        for producer in producers.values():
            await producer.call("start", count=1)  # connections open, statements are prepared
        for _ in range(_TURNS):
            for name, producer in producers.items():
                seconds[name] += await producer.call("start", count=part)
    return {name: {"jobs_per_second": part * _TURNS / spent} for name, spent in seconds.items()}


async def start_many(bench: Bench, contender: Contender) -> Figures:
    """Start many, by what each side has for that."""
    jobs = bench.size(contender.jobs)
    async with bench.database(contender.side) as database, bench.producer(contender, database) as producer:
        await producer.call("start_many", count=2)
        seconds = await producer.call("start_many", count=jobs)
    return {"jobs_per_second": jobs / seconds, "jobs": jobs}
