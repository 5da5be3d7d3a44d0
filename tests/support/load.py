"""Load on a database while faults are done to it: workers in processes, a client that starts jobs, and the verdict.

load = Load(dsn, tmp_path, processes)
load.start_worker()
async with load.starting():
    …
await load.rest()
assert await load.violations() == []
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.errors import PerdureError
from tests.support.history import Pulse, Recorder, Rules, collect, journal, violations
from tests.support.history.lines import Answered, Asked, Fault
from tests.support.load_app import POLLING_SECONDS, RETRIES, Order, define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.history import History
    from tests.support.processes import Process, Processes

__all__ = ["Load"]

_ROOT = Path(__file__).parents[2]
_PACE_SECONDS = 0.01
_LOOK_SECONDS = 0.1
_LATER = timedelta(seconds=1)
_LIVE = """
    select (select count(*) from background_tasks.jobs) + (select count(*) from background_tasks.workers
        where pid = any(%s) and lapsed_at is null and lease_until > clock_timestamp())
"""
_TASKS = ("awaits", "blocks", "awaits", "blocks", "awaits", "retries", "awaits")


class Load:
    """Workers and a client of a migrated database.

    Attributes:
        acknowledged: How many jobs the client knows to be stored.
        refused: How many starts have failed.
        workers: The workers' processes.
    """

    def __init__(self, dsn: str, folder: Path, processes: Processes) -> None:
        journal.install(dsn)
        self.dsn = dsn
        self.acknowledged = self.refused = 0
        self.workers: list[Process] = []
        self._folder = folder / "history"
        self._folder.mkdir()
        self._processes = processes
        self._recorder = Recorder(self._folder, "client")
        self._pulse = Pulse(lambda: self.dsn, self._folder)
        self._calls = 0
        self._keys = 0

    def start_worker(self, *wrapper: str, env: dict[str, str] | None = None, **execution: Any) -> Process:
        """Start a worker and wait until it is ready; `wrapper` is a command to run it by, `env` on top of its own."""
        environment = {
            "PYTHONPATH": str(_ROOT),
            "TEST_DSN": self.dsn,
            "TEST_HISTORY": str(self._folder),
            "TEST_EXECUTION": json.dumps({"lease_duration": 3, **execution}),
            **(env or {}),
        }
        worker = self._processes.start(*wrapper, sys.executable, "-m", "tests.support.load_app", env=environment)
        worker.wait_for_line("^worker ready", within_seconds=60)
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """Start jobs as long as the block lasts, whatever becomes of each start."""
        over = asyncio.Event()
        self._pulse.start()
        async with define(self.dsn) as app:
            client = asyncio.create_task(self._start_until(app, over))
            try:
                yield
            finally:
                over.set()
                await client

    async def until_acknowledged(self, more: int, *, within_seconds: float = 60.0) -> None:
        """Wait until so many more jobs are known to be stored."""
        wanted = self.acknowledged + more
        await self.until(
            lambda: self.acknowledged >= wanted, f"{more} more jobs aren't stored", within_seconds=within_seconds
        )

    async def until_refused(self, more: int, *, within_seconds: float = 60.0) -> None:
        """Wait until so many more starts have failed."""
        wanted = self.refused + more
        await self.until(
            lambda: self.refused >= wanted, f"{more} more starts haven't failed", within_seconds=within_seconds
        )

    async def until(self, condition: Callable[[], bool], complaint: str, *, within_seconds: float = 60.0) -> None:
        """Wait until something is so, while the load goes on.

        Raises:
            AssertionError: It wasn't in time; with the complaint, and what the workers have said.
        """
        try:
            async with asyncio.timeout(within_seconds):
                while not condition():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            said = "\n\n".join(worker.output[-4000:] for worker in self.workers)
            message = f"{complaint}, within {within_seconds} s; the workers have said:\n{said}"
            raise AssertionError(message) from None

    def suffered(self, kind: str, pid: int) -> None:
        """Write down what was done to a process, such as "SIGKILL"."""
        self._recorder.write(Fault(kind, pid))

    async def rest(self, *, within_seconds: float = 90.0) -> None:
        """Wait until every job has ended, and every lease of a worker that was killed."""
        live = 1
        try:
            async with asyncio.timeout(within_seconds):
                while live := await self._live():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            said = "\n\n".join(worker.output[-4000:] for worker in self.workers)
            message = f"{live} jobs or leases haven't ended within {within_seconds} s; the workers have said:\n{said}"
            raise AssertionError(message) from None

    async def violations(self) -> list[str]:
        """Stop the workers, and say what is wrong with all that has happened."""
        return violations(await self.history())

    async def history(self) -> History:
        """Stop the workers, and return all that has happened."""
        for worker in self.workers:
            if worker.is_running:
                worker.terminate()
                assert await worker.end(within_seconds=60) == 0, worker.output
        await asyncio.to_thread(self._pulse.stop)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            sessions = journal.read_sessions(connection, "background_tasks")
        rules = Rules(scheduler_retry_count=RETRIES, max_retry_count=0).timed(POLLING_SECONDS)
        return collect(self.dsn, self._folder, rules, sessions=sessions)

    async def _start_until(self, app: Any, over: asyncio.Event) -> None:
        while not over.is_set():
            # One in ten is a bulk start, one in four of later; some have a handler that blocks, some raise at first.
            keys = tuple(f"k{self._keys + place}" for place in range(1 if self._calls % 10 else 5))
            self._keys += len(keys)
            self._calls += 1
            task = app.tasks[_TASKS[self._calls % len(_TASKS)]]
            at = _LATER if self._calls % 4 == 0 else None
            self._recorder.write(Asked(self._calls, "start", keys))
            orders = [Order(key) for key in keys]
            try:
                jobs = [await task.start(orders[0], at=at)] if len(orders) == 1 else await task.start_many(orders)
            except (PerdureError, psycopg.Error):
                self.refused += 1
            else:
                self._recorder.write(Answered(self._calls, "Started", tuple(job.id for job in jobs)))
                self.acknowledged += len(jobs)
            await asyncio.sleep(_PACE_SECONDS)

    async def _live(self) -> int:
        with suppress(psycopg.OperationalError):
            async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
                dead = [worker.pid for worker in self.workers if not worker.is_running]
                row = await (await connection.execute(_LIVE, [dead])).fetchone()
                return int(row[0]) if row else 1
        return 1
