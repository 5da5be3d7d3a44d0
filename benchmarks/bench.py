"""What all pieces of work need: databases, processes, sizes, and what has come out so far."""

from __future__ import annotations

import math
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from benchmarks.contenders import python_of
from benchmarks.process import Child, Worker, Workers
from benchmarks.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from benchmarks.contenders import Contender
    from benchmarks.server import Database
    from tests.support.cluster import Cluster

__all__ = ["Bench", "Figures", "check_finished", "waits"]

Figures: TypeAlias = "dict[str, float]"


class Bench:
    """One run. An async context manager: at its end, producers end.

    Attributes:
        server: The server.
        scale: What part of the full sizes.
        history_scale: What part of the long history.
        kept: Databases that rounds share, by whoever made them.
        measured: What has come out, round by round: of a piece of work, of a contender.
    """

    def __init__(self, cluster: Cluster, *, peers: Path, loop: str, scale: float, history_scale: float) -> None:
        """Set what all have in common."""
        self.server = Server(cluster)
        self.scale = scale
        self.history_scale = history_scale
        self.measured: dict[str, dict[str, list[Figures]]] = {}
        self.kept: dict[str, Database] = {}
        self._peers = peers
        self._loop = loop
        self._stack = AsyncExitStack()
        self._producers: dict[str, Child] = {}
        self._templates: dict[str, Database] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    async def __aenter__(self) -> Self:
        """Make a folder for the probes."""
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-bench-")))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the producers."""
        for database in self.kept.values():
            await database.close()
        await self._stack.aclose()

    def size(self, full: int, least: int = 2) -> int:
        """Return a size at this run's scale."""
        return max(least, math.ceil(full * self.scale))

    async def facts(self, side: str) -> dict[str, Any]:
        """Return what the side says of itself: versions, configuration, two queries."""
        if side not in self._facts:
            self._facts[side] = await (await self._producer(side)).call("facts")
        return self._facts[side]

    async def clone(self, side: str) -> Database:
        """Make a database with the side's tables, empty, which nobody drops."""
        if side not in self._templates:
            template = self.server.create()
            async with Child(python_of(side, self._peers), side, "setup", dsn=template.dsn) as child:
                await child.wait()
            self._templates[side] = template
        return self.server.create(self._templates[side].name)

    @asynccontextmanager
    async def database(self, side: str) -> AsyncIterator[Database]:
        """Make a database with the side's tables, empty, for as long as the block lasts."""
        database = await self.clone(side)
        try:
            yield database
        finally:
            await database.close()
            self.server.drop(database)

    @asynccontextmanager
    async def producer(self, contender: Contender, database: Database) -> AsyncIterator[Child]:
        """Give the side's producer, connected to a database. It is the same process all along."""
        child = await self._producer(contender.side)
        await child.call("open", dsn=database.dsn, settings=contender.settings)
        try:
            yield child
        finally:
            if child.process.returncode is None:
                await child.call("close")

    def workers(
        self, contender: Contender, database: Database, *, count: int = 1, slots: int = 0, work: str = "jobs"
    ) -> Workers:
        """Return workers of a contender, not started yet."""
        python = python_of(contender.side, self._peers)
        options = {
            "dsn": database.dsn,
            "settings": contender.settings,
            "loop": contender.loop or self._loop,
            "work": work,
        }
        return Workers([Worker(python, contender.side, self._folder, slots=slots, **options) for _ in range(count)])

    def median(self, work: str, contender: Contender, figure: str) -> float | None:
        """Return the median so far; None if there is none."""
        runs = self.measured.get(work, {}).get(contender.name, [])
        return median(run[figure] for run in runs) if runs else None

    async def _producer(self, side: str) -> Child:
        if side not in self._producers:
            child = Child(python_of(side, self._peers), side, "produce", loop=self._loop)
            self._producers[side] = await self._stack.enter_async_context(child)
            await child.loaded()
        return self._producers[side]


async def check_finished(contender: Contender, database: Database, query: str, count: int) -> None:
    """Make sure that all jobs have ended well.

    Raises:
        RuntimeError: They haven't: the figures would be worth nothing.
    """
    finished = await database.value(query)
    if finished != count:
        message = f"{contender.name}: {count} jobs were started, and {finished} have completed"
        raise RuntimeError(message)


def waits(seconds: Sequence[float], prefix: str = "") -> Figures:
    """Return the median and the 99th percentile of waits, in milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {f"{prefix}p50_ms": cuts[49] * 1e3, f"{prefix}p99_ms": cuts[98] * 1e3}
