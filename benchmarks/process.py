"""Processes of a side, as the measuring one sees them."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.probe import Probe

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Child", "Worker", "Workers", "cpu_seconds"]

_DEADLINE_SECONDS = 180.0
_LONGEST_LINE = 1 << 20
_LOOK_SECONDS = 0.005


class Child:
    """`python -m benchmarks.child`, as an async context manager: it is ended by SIGTERM at the block's end."""

    def __init__(self, python: str, side: str, role: str, **options: object) -> None:
        """Prepare it; options are those of the command line."""
        texts = {key: json.dumps(value) if isinstance(value, dict) else str(value) for key, value in options.items()}
        self._command = (python, "-m", "benchmarks.child", side, role, *(f"--{key}={texts[key]}" for key in texts))
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it, without waiting until it has loaded."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=_LONGEST_LINE
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        await self.stop()

    async def loaded(self) -> None:
        """Wait until it has imported all that it needs."""
        await self._said("loaded")

    async def call(self, name: str, *, takes_seconds: float = 0.0, **arguments: object) -> Any:
        """Let a producer do something that takes so long or little time, and return what it answers."""
        await self.tell(json.dumps({"call": name, **arguments}))
        return await self._said("answer", within_seconds=takes_seconds + _DEADLINE_SECONDS)

    async def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        output = self.process.stdin
        assert output is not None  # noqa: S101 - it is a pipe
        output.write(f"{line}\n".encode())
        await output.drain()

    async def wait(self) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: It failed.
        """
        if await self.process.wait():
            message = f"{' '.join(self._command)} failed"
            raise RuntimeError(message)

    async def stop(self) -> float:
        """Ask it to end, by SIGTERM, and wait; how long it took."""
        before = time.perf_counter()
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        return time.perf_counter() - before

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process; it runs."""
        assert self._process is not None  # noqa: S101 - the block has been entered
        return self._process

    async def _said(self, what: str, *, within_seconds: float = _DEADLINE_SECONDS) -> Any:
        """Wait until it says something of this kind.

        Raises:
            RuntimeError: It ended, or said nothing of the kind in time.
        """
        output = self.process.stdout
        assert output is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(within_seconds):
                while line := await output.readline():
                    if line.startswith(b"{") and what in (said := json.loads(line)):
                        return said[what]
        except TimeoutError:
            pass
        message = f"{' '.join(self._command)}: no {what!r}"
        raise RuntimeError(message)


class Worker(Child):
    """A process that runs jobs, and the probe that it leaves its traces in."""

    def __init__(self, python: str, side: str, folder: Path, *, slots: int = 0, **options: object) -> None:
        """Prepare it; with slots it notes so many waits."""
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            path = Path(file.name)
        self.probe = Probe.make(path, slots)
        super().__init__(python, side, "work", probe=path, **options)

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used, all threads."""
        return cpu_seconds(self.process.pid)


class Workers:
    """Some workers at the same work, as an async context manager; they begin at `go`."""

    def __init__(self, workers: list[Worker]) -> None:
        """Prepare them."""
        self.all = workers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start them, and wait until they have imported what they need."""
        async with AsyncExitStack() as stack:
            for worker in self.all:
                await stack.enter_async_context(worker)
            for worker in self.all:
                await worker.loaded()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End them."""
        await self._stack.aclose()

    async def go(self) -> None:
        """Let them begin."""
        for worker in self.all:
            await worker.tell("go")

    async def reach(self, count: int) -> None:
        """Wait until so many handlers have begun.

        Raises:
            RuntimeError: No handler begins any more, or a worker has ended.
        """
        seen, since_seconds = -1, time.monotonic()
        while self.count < count:
            if self.count > seen:
                seen, since_seconds = self.count, time.monotonic()
            ended = any(worker.process.returncode is not None for worker in self.all)
            if ended or time.monotonic() - since_seconds > _DEADLINE_SECONDS:
                message = f"only {self.count} of {count} handlers have begun" + ("; a worker has ended" * ended)
                raise RuntimeError(message)
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def count(self) -> int:
        """How many handlers have begun."""
        return sum(worker.probe.count for worker in self.all)

    @property
    def first_at_seconds(self) -> float:
        """When the first handler of all began."""
        return min(worker.probe.first_at_seconds for worker in self.all if worker.probe.count)

    def cpu_seconds_since_first(self) -> float:
        """Return the CPU time of all, each since its first handler began."""
        busy = [worker for worker in self.all if worker.probe.count]
        return sum(worker.cpu_seconds() - worker.probe.first_cpu_seconds for worker in busy)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all."""
        return sum(worker.cpu_seconds() for worker in self.all)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, all threads, by the kernel's clock of it; 0 if there is none."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of a process, by its pid
    except OSError:
        return 0.0
