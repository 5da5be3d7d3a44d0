"""oban: claims in batches, finishes in one transaction with a statement a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oban import Oban, job
from oban.schema import install

from benchmarks.payloads import plain
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]

_hit: list[Callable[[float], None]] = []  # a job of oban's is a function of a module


@job(queue="default")
async def noop(number: int, sent_at_seconds: float, note: str) -> None:  # noqa: ARG001 - what a job carries
    """Tell that it runs."""
    _hit[0](sent_at_seconds)


class Bench(Side):
    """Its queue's limit so high that it claims large batches."""

    distributions = ("oban",)
    about = "a queue's limit of 300, a pool of 10, uvloop, leadership and pruner as they come; enqueue_many of 1,000"
    defaults = {"limit": 300, "pool": 10}  # noqa: RUF012 - a ClassVar, said in the base
    idle = {"limit": 10}  # noqa: RUF012 - as above
    unfinished = "select exists (select from oban_jobs where state in ('available', 'executing', 'retryable'))"
    finished = "select count(*) from oban_jobs where state = 'completed'"

    async def setup(self) -> None:
        """Install its tables."""
        pool = await Oban.create_pool(self.dsn)
        await install(pool)
        await pool.close()

    async def open(self) -> None:
        """Connect."""
        self._pool = await Oban.create_pool(self.dsn, min_size=1, max_size=2)
        self._oban = Oban(pool=self._pool)
        await self._oban.start()

    async def close(self) -> None:
        """Disconnect."""
        await self._oban.stop()
        await self._pool.close()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - it notifies by itself
        """Enqueue one."""
        await self._oban.enqueue(noop.new(**plain(payload)))

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Enqueue many, a thousand a call."""
        for first in range(0, len(payloads), self.batch):
            await self._oban.enqueue_many([noop.new(**plain(one)) for one in payloads[first : first + self.batch]])

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does one thing
        """Run the queue."""
        _hit[:] = [probe.hit]
        size = self.settings["pool"]
        pool = await Oban.create_pool(self.dsn, min_size=size, max_size=size)
        async with Oban(pool=pool, queues={"default": self.settings["limit"]}):
            await stop.wait()
        await pool.close()
