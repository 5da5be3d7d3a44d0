"""pgqueuer: claims in batches, finishes in batches; several consumers a process."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.payloads import encoded
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgqueuer.models import Job

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]

_TASK = "noop"
_END_SECONDS = 5.0


class Bench(Side):
    """As its own benchmark has it: large batches, and two consumers."""

    distributions = ("pgqueuer", "asyncpg")
    about = "two consumers (connections) of batches of 200, asyncpg, uvloop, autovacuum tuned by its own command"
    defaults = {"consumers": 2, "batch_size": 200}  # noqa: RUF012 - a ClassVar, said in the base
    idle = {"consumers": 1, "batch_size": 10}  # noqa: RUF012 - as above
    unfinished = "select exists (select from pgqueuer where status in ('queued', 'picked'))"
    finished = "select count(*) from pgqueuer_log where status = 'successful'"

    async def setup(self) -> None:
        """Install its tables."""
        connection = await asyncpg.connect(self.dsn)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    async def open(self) -> None:
        """Connect."""
        self._connection = await asyncpg.connect(self.dsn)
        self._queries = Queries(AsyncpgDriver(self._connection))

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - its tables' trigger notifies
        """Enqueue one."""
        await self._queries.enqueue(_TASK, encoded(payload).encode())

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Enqueue many, a thousand a call."""
        for first in range(0, len(payloads), self.batch):
            bodies = [encoded(one).encode() for one in payloads[first : first + self.batch]]
            await self._queries.enqueue([_TASK] * len(bodies), bodies, [0] * len(bodies))

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does one thing
        """Consume."""
        consumers = [await self._consumer(probe) for _ in range(self.settings["consumers"])]
        runs = [asyncio.create_task(one.run(batch_size=self.settings["batch_size"])) for one in consumers]
        await stop.wait()
        for one in consumers:
            one.shutdown.set()
        await asyncio.wait(runs, timeout=_END_SECONDS)

    async def _consumer(self, probe: Probe) -> PgQueuer:
        consumer = PgQueuer(AsyncpgDriver(await asyncpg.connect(self.dsn)))

        @consumer.entrypoint(_TASK)
        async def noop(job: Job) -> None:
            probe.hit(json.loads(job.payload or b"")["sent_at_seconds"])

        return consumer
