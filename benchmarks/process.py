"""A measured process, as the measuring one sees it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["WorkerProcess"]

_DEADLINE_SECONDS = 120.0
_LONGEST_LINE = 1 << 20


class WorkerProcess:
    """`python -m benchmarks.worker`, as an async context manager: it is ended by SIGTERM at the block's end."""

    def __init__(self, side: str, work: str, **options: object) -> None:
        """Prepare it; options are those of the command line."""
        self._arguments = [side, work, *(f"--{key}={value}" for key, value in options.items())]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it, without waiting until it is ready."""
        command = (sys.executable, "-m", "benchmarks.worker", *self._arguments)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdout=pipe, limit=_LONGEST_LINE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        process = self._running()
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def event(self, name: str) -> dict[str, Any]:
        """Wait until it tells of this event.

        Raises:
            RuntimeError: It ended, or said nothing of the kind in time.
        """
        output = self._running().stdout
        assert output is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                while line := await output.readline():
                    said: dict[str, Any] = json.loads(line)
                    if said["event"] == name:
                        return said
        except TimeoutError:
            pass
        message = f"{' '.join(self._arguments)}: no event {name!r}"
        raise RuntimeError(message)

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, all threads, by the kernel's clock of that process."""
        return time.clock_gettime((~self._running().pid << 3) | 2)  # CPUCLOCK_SCHED of a process, by its pid

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None  # noqa: S101 - the block has been entered
        return self._process
