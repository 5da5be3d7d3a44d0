"""A full queue is emptied: how fast, and at what cost."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.bench import check_finished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.process import Workers
    from benchmarks.server import Database, Server

__all__ = ["big", "drain", "drain_by_two", "half_load_per_second", "sleepy", "watch_drain"]

_LOOK_SECONDS = 0.010
_SLEEP_SECONDS = 0.020
_MOST_LOAD = 20_000
_BIG_JOBS = 60
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Used:
    """What has been used until now, of what a drain costs."""

    count: int
    server_seconds: float
    wal_bytes: int

    @classmethod
    def now(cls, server: Server, workers: Workers) -> _Used:
        return cls(workers.count, server.cpu_seconds(), server.wal_bytes())


async def drain(bench: Bench, contender: Contender) -> Figures:
    """Empty it by one worker process."""
    async with _filled(bench, contender, bench.size(contender.jobs)) as database:
        return await watch_drain(bench, contender, database, bench.size(contender.jobs))


async def drain_by_two(bench: Bench, contender: Contender) -> Figures:
    """Empty it by two worker processes."""
    jobs = bench.size(2 * contender.jobs)
    async with _filled(bench, contender, jobs) as database:
        return await watch_drain(bench, contender, database, jobs, processes=2)


async def sleepy(bench: Bench, contender: Contender) -> Figures:
    """Run handlers that sleep 10 to 30 ms; the sleeps alone would allow so many a second."""
    allowed = contender.settings.get("concurrency", 100) / _SLEEP_SECONDS
    jobs = bench.size(min(contender.jobs, int(2.5 * allowed)))
    contender = contender.having(task="sleepy")
    async with _filled(bench, contender, jobs) as database:
        figures = await watch_drain(bench, contender, database, jobs)
    return {**figures, "of_what_sleeps_allow": figures["jobs_per_second"] / allowed}


async def big(bench: Bench, contender: Contender) -> Figures:
    """Start jobs with a mebibyte of metadata each, for an idle worker: from the call until all have ended."""
    jobs = bench.size(_BIG_JOBS)
    facts = await bench.facts(contender.side)
    async with (
        bench.database(contender.side) as database,
        bench.workers(contender, database) as workers,
        bench.producer(contender, database) as producer,
    ):
        await workers.go()
        await producer.call("trickle", count=1, pause_seconds=0.0)
        await workers.reach(1)
        await database.settle_down()
        before = time.perf_counter()
        start_seconds = await producer.call("start_many", count=jobs, note_bytes=_MIB)
        await workers.reach(1 + jobs)
        while await database.value(facts["unfinished"]):  # noqa: ASYNC110 - nothing would tell
            await asyncio.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - before
        await check_finished(contender, database, facts["finished"], 1 + jobs)
    return {"start_mib_per_second": jobs / start_seconds, "through_mib_per_second": jobs / seconds}


async def half_load_per_second(bench: Bench, contender: Contender) -> float:
    """Return half of what the contender drains, as measured in this run, and no more than the target asks for."""
    rate = bench.median("drain", contender, "jobs_per_second")
    if rate is None:
        rate = (await drain(bench, contender))["jobs_per_second"]
    return min(_MOST_LOAD, rate / 2)


async def watch_drain(
    bench: Bench,
    contender: Contender,
    database: Database,
    jobs: int,
    *,
    runs: int = 0,
    processes: int = 1,
    queries: Mapping[str, str] | None = None,
) -> Figures:
    """Let workers empty a queue: from the first handler's beginning until the database shows all jobs as finished.

    Args:
        bench: The run.
        contender: Whose queue.
        database: Where.
        jobs: How many there are.
        runs: How many handlers will begin; 0: one a job.
        processes: How many workers.
        queries: As the side's facts, where those don't do.

    Raises:
        RuntimeError: Not all have completed.
    """
    facts = queries or await bench.facts(contender.side)
    async with bench.workers(contender, database, count=processes) as workers:
        await workers.go()
        await workers.reach(1)
        used = _Used.now(bench.server, workers)
        await workers.reach(runs or jobs)
        while await database.value(facts["unfinished"]):  # noqa: ASYNC110 - nothing would tell
            await asyncio.sleep(_LOOK_SECONDS)
        ended_at_seconds = time.monotonic()
        now = _Used.now(bench.server, workers)
        worker_seconds = workers.cpu_seconds_since_first()
        seconds = ended_at_seconds - workers.first_at_seconds
    await check_finished(contender, database, facts["finished"], jobs)
    counted = max(1, jobs - used.count)
    return {
        "jobs_per_second": jobs / seconds,
        "jobs": jobs,
        "worker_us": worker_seconds * 1e6 / jobs,
        "server_us": (now.server_seconds - used.server_seconds) * 1e6 / counted,
        "wal_bytes": (now.wal_bytes - used.wal_bytes) / counted,
    }


@asynccontextmanager
async def _filled(bench: Bench, contender: Contender, jobs: int) -> AsyncIterator[Database]:
    async with bench.database(contender.side) as database:
        async with bench.producer(contender, database) as producer:
            await producer.call("start_many", count=jobs)
        await database.settle_down()
        yield database
