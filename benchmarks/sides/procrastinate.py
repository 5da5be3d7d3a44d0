"""procrastinate: claims one job a statement, finishes one a statement."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import procrastinate

from benchmarks.payloads import plain
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]


class Bench(Side):
    """An async worker whose pool is large enough for its concurrency."""

    distributions = ("procrastinate",)
    about = "psycopg connector, a pool of 10, async worker of concurrency 100, LISTEN on; batch_defer of 1,000"
    defaults = {"concurrency": 100, "pool": 10}  # noqa: RUF012 - a ClassVar, said in the base
    idle = {"concurrency": 1}  # noqa: RUF012 - as above
    unfinished = "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"
    finished = "select count(*) from procrastinate_jobs where status = 'succeeded'"

    async def setup(self) -> None:
        """Install its tables."""
        app, _ = _define(self.dsn, 1, _nothing)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        """Connect."""
        self._app, self._noop = _define(self.dsn, 1, _nothing)
        await self._app.open_async()

    async def close(self) -> None:
        """Disconnect."""
        await self._app.close_async()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - its tables' trigger notifies
        """Defer one."""
        await self._noop.defer_async(**plain(payload))

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Defer many, a thousand a call."""
        for first in range(0, len(payloads), self.batch):
            await self._noop.batch_defer_async(*(plain(one) for one in payloads[first : first + self.batch]))

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does one thing
        """Run the worker."""
        app, _ = _define(self.dsn, self.settings["pool"], probe.hit)
        async with app.open_async():
            worker = app.run_worker_async(concurrency=self.settings["concurrency"], install_signal_handlers=False)
            running = asyncio.create_task(worker)
            await stop.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _define(dsn: str, pool: int, hit: Callable[[float], None]) -> tuple[procrastinate.App, Any]:
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=pool, max_size=pool)
    app = procrastinate.App(connector=connector)

    @app.task(name="noop")
    async def noop(number: int, sent_at_seconds: float, note: str) -> None:  # noqa: ARG001 - what a job carries
        hit(sent_at_seconds)

    return app, noop


def _nothing(sent_at_seconds: float) -> None:
    """Where no jobs run, nothing is told."""
