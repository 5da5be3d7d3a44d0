"""absurd: claims in batches by a stored function, finishes one job a call; its steps are checkpoints."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from absurd_sdk import AsyncAbsurd

from benchmarks.payloads import plain
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]

_QUEUE = "default"
_END_SECONDS = 2.0


class Bench(Side):
    """One connection a worker, as its SDK has it."""

    distributions = ("absurd-sdk", "absurdctl")
    about = "AsyncAbsurd on one connection, concurrency and batch 100, polled every 0.25 s; 1,000 spawns a transaction"
    defaults = {"concurrency": 100}  # noqa: RUF012 - a ClassVar, said in the base
    idle = {"concurrency": 1}  # noqa: RUF012 - as above
    unfinished = "select exists (select from absurd.t_default where state not in ('completed', 'failed', 'cancelled'))"
    finished = "select count(*) from absurd.t_default where state = 'completed'"

    async def setup(self) -> None:
        """Install its tables, and make a queue."""
        for arguments in (["init"], ["create-queue", _QUEUE]):
            command = [Path(sys.executable).with_name("absurdctl"), *arguments, "-d", self.dsn]
            await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)

    async def open(self) -> None:
        """Connect."""
        self._connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
        self._absurd = AsyncAbsurd(self._connection)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - its workers poll
        """Spawn one."""
        await self._absurd.spawn("noop", plain(payload), queue=_QUEUE)

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Spawn many in a transaction; there is no call for it."""
        for first in range(0, len(payloads), self.batch):
            async with self._connection.transaction():
                for one in payloads[first : first + self.batch]:
                    await self.start(one, wake=False)

    async def start_steps(self, jobs: int, times: int) -> None:
        """Spawn tasks of steps."""
        for _ in range(jobs):
            await self._absurd.spawn("flow", times, queue=_QUEUE)

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does one thing
        """Run tasks."""
        absurd = AsyncAbsurd(self.dsn)

        @absurd.register_task(name="noop")
        async def noop(params: dict[str, Any], ctx: Any) -> None:  # noqa: ARG001 - what it is called with
            probe.hit(params["sent_at_seconds"])

        @absurd.register_task(name="flow")
        async def flow(times: int, ctx: Any) -> None:
            probe.hit()

            async def step() -> None:
                pass

            for number in range(times):
                await ctx.step(f"step {number}", step)

        running = asyncio.create_task(absurd.start_worker(concurrency=self.settings["concurrency"]))
        await stop.wait()
        absurd.stop_worker()
        await asyncio.wait([running], timeout=_END_SECONDS)
