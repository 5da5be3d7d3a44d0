"""DBOS: a job is a workflow; its status row is written on enqueue, claim and end, and a row for each step."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig

from benchmarks.payloads import plain
from benchmarks.sides.base import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]

_QUEUE = "bench"
_VERSION = "bench"
_hit: list[Callable[[float], None]] = []  # its workflows are functions of a module


@DBOS.workflow(name="noop")
async def noop(payload: dict[str, Any]) -> None:
    """Tell that it runs."""
    _hit[0](payload["sent_at_seconds"])


@DBOS.step()
async def same(number: int) -> int:
    """Be a step that does nothing."""
    return number


@DBOS.workflow(name="flow")
async def flow(times: int) -> None:
    """Do steps."""
    _hit[0](0.0)
    for number in range(times):
        await same(number)


class Bench(Side):
    """Async workflows on a queue that is looked at every 10 ms."""

    distributions = ("dbos", "sqlalchemy")
    about = "async workflows on a queue, worker_concurrency 1,000, a pool of 20, polled every 10 ms; 500 a transaction"
    defaults = {"worker_concurrency": 1000, "polling": 0.01, "pool": 20}  # noqa: RUF012 - a ClassVar, said in the base
    idle = {"polling": 1.0}  # noqa: RUF012 - as above
    unfinished = "select exists (select from dbos.workflow_status where status in ('ENQUEUED', 'PENDING'))"
    finished = "select count(*) from dbos.workflow_status where status = 'SUCCESS'"
    batch = 500

    async def setup(self) -> None:
        """Make its tables, which a launch does, and the queue."""
        await asyncio.to_thread(self._install)

    async def open(self) -> None:
        """Connect."""
        self._engine = sqlalchemy.create_engine(self.dsn.replace("postgresql:", "postgresql+psycopg:"))
        self._client = await asyncio.to_thread(DBOSClient, system_database_url=self.dsn)

    async def close(self) -> None:
        """Disconnect."""
        self._client.destroy()
        self._engine.dispose()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - its workers poll
        """Enqueue one."""
        await self._client.enqueue_async(_options("noop"), plain(payload))

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Enqueue many, some in a transaction."""
        for first in range(0, len(payloads), self.batch):
            arguments = [plain(one) for one in payloads[first : first + self.batch]]
            await asyncio.to_thread(self._insert, "noop", arguments)

    async def start_steps(self, jobs: int, times: int) -> None:
        """Enqueue workflows of steps."""
        await asyncio.to_thread(self._insert, "flow", [times] * jobs)

    async def serve(self, work: str, probe: Probe, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does one thing
        """Run workflows."""
        _hit[:] = [probe.hit]
        await asyncio.to_thread(self._launch)
        await asyncio.to_thread(self._register)  # how often it is polled is in the database, from the setup
        await stop.wait()
        os._exit(0)  # an orderly end takes seconds

    def _install(self) -> None:
        self._launch()
        self._register()
        DBOS.destroy()

    def _launch(self) -> None:
        config: DBOSConfig = {
            "name": "bench",
            "system_database_url": self.dsn,
            "application_version": _VERSION,
            "executor_id": str(os.getpid()),
            "sys_db_pool_size": self.settings["pool"],
            "log_level": "WARNING",
        }
        DBOS(config=config)
        DBOS.launch()

    def _register(self) -> None:
        settings = self.settings
        DBOS.register_queue(
            _QUEUE, worker_concurrency=settings["worker_concurrency"], polling_interval_sec=settings["polling"]
        )

    def _insert(self, name: str, arguments: list[Any]) -> None:
        with self._engine.begin() as connection:
            for argument in arguments:
                self._client.enqueue_in_transaction(connection, _options(name), argument)


def _options(name: str) -> dict[str, str]:
    return {"queue_name": _QUEUE, "workflow_name": name, "app_version": _VERSION}
