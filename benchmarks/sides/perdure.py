"""perdure, by its public interface; its worker is what the command `perdure worker` runs."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from benchmarks.sides.base import Side
from benchmarks.tasks import ROWS, Steps, Tasks
from perdure.worker.run import run_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench"]


class Bench(Side):
    """perdure as it comes, but for what a contender's settings say."""

    distributions = ("perdure", "psycopg", "psycopg-binary", "msgspec")
    about = "defaults: concurrency 100, batches of 500, a lease of 30 s; where said, concurrency 1,000"
    unfinished = "select exists (select from background_tasks.jobs)"
    finished = "select count(*) from background_tasks.finished_jobs where state = 6"

    async def setup(self) -> None:
        """Migrate."""
        async with Tasks(self.dsn).app as app:
            await app.migrate()
            async with app.pool.connection() as connection:
                await connection.execute(ROWS)

    async def open(self) -> None:
        """Open the app."""
        self._tasks = Tasks(self.dsn)
        await self._tasks.app.open()

    async def close(self) -> None:
        """Close it."""
        await self._tasks.app.close()

    async def start(self, payload: Order, *, wake: bool) -> None:  # noqa: ARG002 - it knows whether a worker sleeps
        """Start a job."""
        await self._tasks["noop"].start(payload)

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Start many in one call, which makes batches by itself."""
        await self._tasks[self.settings.get("task", "noop")].start_many(payloads)

    async def start_steps(self, jobs: int, times: int) -> None:
        """Start jobs that store so many checkpoints."""
        await self._tasks[self.settings["task"]].start_many([Steps(times)] * jobs)

    def work(self, work: str, probe: Probe, loop: str) -> None:  # noqa: ARG002 - the job's task says what to do
        """Be a worker."""
        if loop == "asyncio":
            sys.modules["uvloop"] = None  # type: ignore[assignment] # as if it weren't installed: then it isn't used
        if self.settings.get("task") == "flaky":
            logging.getLogger("perdure").setLevel(logging.CRITICAL)  # every attempt that raises is told of
        tasks = Tasks(self.dsn, probe, self.settings.get("execution"))
        concurrency = self.settings.get("concurrency")
        run_worker(tasks.app, concurrency=concurrency, on_ready=_ready, on_wait=print)


def _ready() -> None:
    """Be ready; the first handler says so, too."""
