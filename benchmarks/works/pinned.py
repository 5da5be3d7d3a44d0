"""A queue that always has work, while somebody holds a snapshot: a backup, a report. Dead rows can't be removed."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.process import Child, Workers

__all__ = ["pinned"]

_SECONDS = 60.0
_WINDOWS = 6
_BACKLOG = 10_000
_CHUNK = 1_000
_LOOK_SECONDS = 0.005


async def pinned(bench: Bench, contender: Contender) -> Figures:
    """Keep a backlog for a minute: what is done in the first ten seconds, and in the last.

    And once more without the snapshot: a server that works as fast as it can gets slower all the same, as its buffers
    fill and its first checkpoint comes.
    """
    held, least = await _minute(bench, contender, holds=True)
    free, _ = await _minute(bench, contender, holds=False)
    return {
        "first_per_second": held[0],
        "last_per_second": held[-1],
        "last_of_first": held[-1] / max(1.0, held[0]),
        "free_last_per_second": free[-1],
        "free_last_of_first": free[-1] / max(1.0, free[0]),
        "held_of_free": sum(held) / max(1.0, sum(free)),
        "least_backlog": least,
        **{f"window_{number}_per_second": rate for number, rate in enumerate(held, 1)},
        **{f"free_window_{number}_per_second": rate for number, rate in enumerate(free, 1)},
    }


async def _minute(bench: Bench, contender: Contender, *, holds: bool) -> tuple[list[float], int]:
    """Return the jobs per second of each window, and the least backlog."""
    window_seconds = max(0.3, _SECONDS * bench.scale) / _WINDOWS
    async with (
        bench.database(contender.side) as database,
        bench.producer(contender, database) as producer,
        await psycopg.AsyncConnection.connect(database.dsn) as pin,
    ):
        if holds:
            await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await pin.execute("select count(*) from pg_class")
        await producer.call("start_many", count=_BACKLOG)
        await database.settle_down()
        async with bench.workers(contender, database) as workers:
            await workers.go()
            await workers.reach(1)
            marks, least = await _keep_busy(producer, workers, window_seconds)
    return [(now - then) / window_seconds for then, now in pairwise(marks)], least


async def _keep_busy(producer: Child, workers: Workers, window_seconds: float) -> tuple[list[int], int]:
    """Start jobs as they are taken; return how many had begun at each window's end, and the least backlog."""
    sent, least, marks, began_seconds = _BACKLOG, _BACKLOG, [workers.count], time.monotonic()
    feeding: asyncio.Task[Any] | None = None
    while len(marks) <= _WINDOWS:
        count = workers.count
        least = min(least, sent - count)
        if time.monotonic() >= began_seconds + len(marks) * window_seconds:
            marks.append(count)
        if feeding is not None and feeding.done():
            feeding.result()
            feeding, sent = None, sent + _CHUNK
        if feeding is None and sent - count < _BACKLOG:
            feeding = asyncio.create_task(producer.call("start_many", count=_CHUNK))
        await asyncio.sleep(_LOOK_SECONDS if feeding is None else _LOOK_SECONDS / 5)
    if feeding is not None:
        await feeding
    return marks, least
