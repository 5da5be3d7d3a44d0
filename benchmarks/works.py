"""What is measured: each function does one piece of work on one side, and returns its figures by name."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import quantiles
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.bare import connect
from benchmarks.payloads import order
from benchmarks.process import WorkerProcess
from benchmarks.sides import BareSide, PerdureSide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.sides import Side

__all__ = ["SIDES", "Figures", "Works"]

SIDES = ("perdure", "bare")

Figures: TypeAlias = "dict[str, float]"
_WATCHED = 10
_POLL_SECONDS = 0.005
_PAUSE_SECONDS = 0.02
_WARM_UP = 20
_TURNS = 20
_STEP_JOBS = 20
_STEP_TIMES = 50


class Works:
    """All pieces of work, each on fresh tables."""

    def __init__(self, dsn: str, *, jobs: int, loop: str) -> None:
        """Set what all have in common.

        Args:
            dsn: The database.
            jobs: How many are drained; of what is done one by one, it is a part of that.
            loop: The event loop's name.
        """
        self._dsn = dsn
        self._jobs = jobs
        self._loop = loop
        self.lone_jobs = max(1, min(1000, jobs // 10))
        self.latencies = max(2, min(300, jobs // 10))
        self.step_times = max(1, min(_STEP_TIMES, jobs // _STEP_JOBS))

    async def drain(self, name: str, concurrency: int) -> Figures:
        """Fill the queue by start_many, then let one worker empty it: from its first handler to all final."""
        async with self._side(name) as side:
            before = time.perf_counter()
            ids = await side.start_many(self._jobs)
            fill_seconds = time.perf_counter() - before
            await self._settle_down()
            async with self._worker(side, "jobs", concurrency=concurrency) as worker:
                began = await worker.event("began")
                seconds, cpu_seconds = await self._until_final(side, worker, ids, began)
        return {
            "start_many": self._jobs / fill_seconds,
            "drain": self._jobs / seconds,
            "cpu_us": cpu_seconds * 1e6 / self._jobs,
        }

    async def start(self) -> dict[str, Figures]:
        """Start jobs one by one, each awaited: some on one side, then some on the other, and so on."""
        seconds = dict.fromkeys(SIDES, 0.0)
        part = max(1, self.lone_jobs // _TURNS)
        async with AsyncExitStack() as stack:
            sides = [await stack.enter_async_context(self._side(name)) for name in SIDES]
            for side in sides:
                await side.start_quietly(order(0))
            for side in sides * _TURNS:
                before = time.perf_counter()
                for number in range(part):
                    await side.start_quietly(order(number))
                seconds[side.name] += time.perf_counter() - before
        return {name: {"start": part * _TURNS / spent} for name, spent in seconds.items()}

    async def latency(self) -> dict[str, Figures]:
        """Start jobs on idle workers, on either side in turn: from the call to the handler's beginning."""
        count = _WARM_UP + self.latencies
        figures: dict[str, Figures] = {}
        async with AsyncExitStack() as stack:
            sides = [await stack.enter_async_context(self._side(name)) for name in SIDES]
            works = [self._worker(side, "lone jobs", latencies=count) for side in sides]
            workers = [await stack.enter_async_context(worker) for worker in works]
            for worker in workers:
                await worker.event("ready")
            for number in range(count):
                for side in sides:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    await side.start(order(number, time.monotonic()))
            for side, worker in zip(sides, workers, strict=True):
                seconds = (await worker.event("latencies"))["seconds"][_WARM_UP:]
                cuts = quantiles(seconds, n=100, method="inclusive")
                figures[side.name] = {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}
        return figures

    async def steps(self, name: str, work: str) -> Figures:
        """Store 50 checkpoints in each of 20 jobs at once."""
        async with self._side(name) as side:
            ids = await side.start_steps(work, _STEP_JOBS, self.step_times)
            async with self._worker(side, work, jobs=_STEP_JOBS, times=self.step_times) as worker:
                began = await worker.event("began")
                if ids:
                    seconds, _ = await self._until_final(side, worker, ids, began)
                else:
                    seconds = (await worker.event("ended"))["at_seconds"] - began["at_seconds"]
        return {work: _STEP_JOBS * self.step_times / seconds}

    @asynccontextmanager
    async def _side(self, name: str) -> AsyncIterator[Side]:
        side = PerdureSide(self._dsn) if name == "perdure" else BareSide(self._dsn)
        await side.open()
        try:
            yield side
        finally:
            await side.close()

    def _worker(self, side: Side, work: str, *, concurrency: int = 100, **options: object) -> WorkerProcess:
        fixed = {"dsn": self._dsn, "schema": side.schema, "loop": self._loop, "concurrency": concurrency}
        return WorkerProcess(side.name, work, **fixed, **options)

    async def _settle_down(self) -> None:
        """Let neither side pay for what filling has left to do: statistics, visibility, dirty pages."""
        async with await connect(self._dsn) as connection:
            await connection.execute("vacuum (analyze)")
            await connection.execute("checkpoint")

    async def _until_final(
        self, side: Side, worker: WorkerProcess, ids: list[int], began: dict[str, float]
    ) -> tuple[float, float]:
        # The last ones first: looking at a few rows by their ids costs the server next to nothing.
        for watched in (ids[-_WATCHED:], None):
            while not await side.are_final(watched):  # noqa: ASYNC110 - nothing here would tell of another process
                await asyncio.sleep(_POLL_SECONDS)
        return time.monotonic() - began["at_seconds"], worker.cpu_seconds() - began["cpu_seconds"]
