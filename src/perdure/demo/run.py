"""Runs the demo from its beginning to its end: the job and its faults, the same index in one go, the comparison."""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from random import Random
from typing import TYPE_CHECKING, Any, Final

from perdure.connections import connect
from perdure.demo import tables
from perdure.demo.compare import compare, compare_counts
from perdure.demo.director import Director
from perdure.demo.events import Begun, Comparing, DemoFailed, JobEnded, Report
from perdure.demo.faults import plan_faults
from perdure.demo.index import Index, index_modules, library_folder, module_paths
from perdure.demo.tasks import Library, make_app

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from psycopg import AsyncConnection

    from perdure.demo.events import Event, Survived
    from perdure.demo.tasks import Indexed

__all__ = ["run_demo"]

_PAGE_SIZE: Final = 8
_CHUNK: Final = 32


async def run_demo(*, dsn: str | None, seed: int, faults: int, on_event: Callable[[Event], None]) -> Report:
    """Run the demo. It leaves no process behind; and no table, unless something is wrong with them.

    Args:
        dsn: The database; otherwise as configured.
        seed: What the points and the order of the faults are drawn from.
        faults: How many there are to be.
        on_event: Told of all that happens.

    Raises:
        DemoFailed: It couldn't come to its end; the message says how far it was.
        DatabaseUnavailable: There is no database.
    """
    folder = library_folder()
    paths = module_paths(folder)
    if not paths:
        message = f"there are no sources of the standard library in {folder}: this Python came without them"
        raise DemoFailed(message)
    demo = _Demo(dsn, folder, paths, on_event)
    async with demo.app, await connect(demo.app.dsn) as connection:
        if not await tables.try_lock(connection):
            message = "another demo is running in this database: wait for its end, or give another one by --dsn"
            raise DemoFailed(message)
        try:
            report = await demo.run(connection, seed, faults)
        except DemoFailed:
            raise
        except BaseException:
            await tables.clear(connection)
            raise
        if report.is_exact:
            await tables.clear(connection)
    return report


class _Demo:
    """One run, on a database of which it has the demo's room."""

    def __init__(self, dsn: str | None, folder: Path, paths: Sequence[str], on_event: Callable[[Event], None]) -> None:
        self.app, self._task = make_app(dsn)
        self._folder = folder
        self._paths = paths
        self._on_event = on_event

    async def run(self, connection: AsyncConnection[Any], seed: int, faults: int) -> Report:
        """Run the job, then the same without it, and compare."""
        await tables.clear(connection)
        await self.app.migrate()
        await tables.create(connection)
        self._on_event(Begun(platform.python_version(), len(self._paths), _PAGE_SIZE, seed=seed, faults=faults))
        job_began_at_seconds = time.monotonic()
        result, survived, attempts = await self._run_job(seed, faults)
        job_ended_at_seconds = time.monotonic()
        self._on_event(JobEnded(job_ended_at_seconds - job_began_at_seconds, attempts))
        expected = await self._index_in_one_go()
        plain_ended_at_seconds = time.monotonic()
        differences = compare(await tables.read(connection), expected) + compare_counts(result.rows, expected)
        return Report(
            counts=expected.counts(),
            attempts=attempts,
            job_seconds=job_ended_at_seconds - job_began_at_seconds,
            plain_seconds=plain_ended_at_seconds - job_ended_at_seconds,
            survived=survived,
            differences=differences,
        )

    async def _run_job(self, seed: int, faults: int) -> tuple[Indexed, Sequence[Survived], int]:
        job = await self._task.start(Library(str(self._folder), _PAGE_SIZE))
        plan = plan_faults(Random(seed), faults, len(self._paths))  # noqa: S311 - nothing secret
        with tempfile.TemporaryFile() as log:
            director = Director(self.app.dsn, job, len(self._paths), log, self._on_event)
            survived = await director.run(plan)
        return await job.result(), survived, job.attempt

    async def _index_in_one_go(self) -> Index:
        """Index the library by plain code, as if there were no faults; nothing of the job's is used."""
        index, total = Index(), len(self._paths)
        for first in range(0, total, _CHUNK):
            self._on_event(Comparing(first, total))
            chunk = self._paths[first : first + _CHUNK]
            index.extend(await asyncio.to_thread(index_modules, self._folder, chunk))
        self._on_event(Comparing(total, total))
        return index
