"""A worker process as the demo holds it: starts it, hears what it tells, sends it signals, waits for its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import IO, TYPE_CHECKING, Self

import msgspec

from perdure.demo.worker import BEGAN, READY, REFUSED, Told

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """A worker, from its start to its end.

    Attributes:
        pid: Its process id.
        is_ready: Whether it has come so far as to claim jobs.
        is_frozen: Whether it was sent SIGSTOP, and no SIGCONT since.
        began_at_seconds: When each attempt of it began, by its number, on this process's monotonic clock.
        refused: The attempts that were told that they may not write any more.
    """

    def __init__(self, process: asyncio.subprocess.Process, on_told: Callable[[], None]) -> None:
        """Hold a process that was just started; made by `start`."""
        self.pid = process.pid
        self.is_ready = False
        self.is_frozen = False
        self.began_at_seconds: dict[int, float] = {}
        self.refused: set[int] = set()
        self._process = process
        self._on_told = on_told
        self._reading = asyncio.create_task(self._read(), name=f"demo worker {self.pid}")

    @classmethod
    async def start(cls, dsn: str, *, log: IO[bytes], on_told: Callable[[], None]) -> Self:
        """Start a worker.

        Args:
            dsn: Its database. It goes by the environment, since it may hold a password.
            log: Takes its standard error.
            on_told: Called after each line of it, and at its end.
        """
        # A process group of its own: Ctrl-C reaches it through the demo alone. And the same session: when the demo
        # dies, the kernel ends what stands frozen in the group that it leaves behind (SIGHUP, SIGCONT).
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "perdure.demo.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PERDURE_DSN": dsn},
            process_group=0,
        )
        return cls(process, on_told)

    @property
    def exit_code(self) -> int | None:
        """How it ended, if it has; negative: by which signal."""
        return self._process.returncode

    @property
    def last_attempt(self) -> int:
        """The last attempt that it has begun; 0 when there was none."""
        return max(self.began_at_seconds, default=0)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there still."""
        if self.exit_code is None:
            self._process.send_signal(number)
            self.is_frozen = number is signal.SIGSTOP or (self.is_frozen and number is not signal.SIGCONT)

    async def end(self) -> int:
        """Wait for its end and return its exit code."""
        code = await self._process.wait()
        await self._reading
        return code

    async def kill(self) -> None:
        """Make an end of it, in whatever state it is."""
        self.send(signal.SIGKILL)
        await self.end()

    async def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - a pipe, as asked for
        async for line in stream:
            told = msgspec.json.decode(line, type=Told)
            if told.what == READY:
                self.is_ready = True
            elif told.what == BEGAN:
                self.began_at_seconds[told.attempt] = time.monotonic()
            elif told.what == REFUSED:
                self.refused.add(told.attempt)
            self._on_told()
        await self._process.wait()
        self._on_told()
