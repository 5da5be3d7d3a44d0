"""Real processes for tests: start one, wait for what it prints, send it signals, be sure that nothing of it is left.

Waiting is on the process's own lines, with a deadline that fails the test with all that was printed. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, NoReturn, Self

import psutil

from tests.support.waiting import kill_all, still_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["Process", "Processes"]

_DEADLINE_SECONDS = 20.0


class Process:
    """A started process. Its standard output and error are one stream of lines, in the order of their arrival.

    Attributes:
        pid: Its process id, which is also the id of its session: its children share it, unless they leave it.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path | None) -> None:
        self._command = command
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._read_up_to = 0
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        stream = self._popen.stdout
        assert stream is not None
        self._reader = threading.Thread(target=self._read, args=(stream,), name=f"lines of {self.pid}", daemon=True)
        self._reader.start()

    # --- what it says ---

    def wait_for_line(self, pattern: str, *, within_seconds: float = _DEADLINE_SECONDS) -> re.Match[str]:
        """Wait for a line that the pattern is found in, after the lines that earlier waits have consumed.

        Raises:
            AssertionError: It ended, or said nothing of the kind in time; with all that it did say.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + within_seconds
        with self._changed:
            while True:
                while self._read_up_to < len(self._lines):
                    line = self._lines[self._read_up_to]
                    self._read_up_to += 1
                    if found := wanted.search(line):
                        return found
                if self._ended:
                    self._complain(f"ended without a line like {pattern!r}")
                if not self._changed.wait(deadline - time.monotonic()):
                    self._complain(f"had no line like {pattern!r} within {within_seconds} s")

    async def line(self, pattern: str, *, within_seconds: float = _DEADLINE_SECONDS) -> re.Match[str]:
        """As `wait_for_line`, while the event loop goes on."""
        return await asyncio.to_thread(self.wait_for_line, pattern, within_seconds=within_seconds)

    @property
    def output(self) -> str:
        """All lines so far."""
        with self._changed:
            return "\n".join(self._lines)

    # --- what is done to it ---

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM: stop gracefully."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.send(signal.SIGKILL)
        self._popen.wait()

    def freeze(self) -> None:
        """SIGSTOP: it stands still and keeps all that it holds."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def wait_until_frozen(self, *, within_seconds: float = _DEADLINE_SECONDS) -> None:
        """Wait until it stands still, whoever has sent it SIGSTOP."""
        process = psutil.Process(self.pid)
        try:
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "not frozen", within_seconds=within_seconds)
        except (TimeoutError, psutil.NoSuchProcess):
            self._complain(f"didn't freeze within {within_seconds} s")

    # --- its end ---

    def wait(self, *, within_seconds: float = _DEADLINE_SECONDS) -> int:
        """Wait for its end and return its exit code (negative: the signal that ended it)."""
        try:
            code = self._popen.wait(within_seconds)
        except subprocess.TimeoutExpired:
            self._complain(f"didn't end within {within_seconds} s")
        # A child that it left may hold its output open: that is found below, not waited for here.
        self._reader.join(1.0)
        return code

    async def end(self, *, within_seconds: float = _DEADLINE_SECONDS) -> int:
        """As `wait`, while the event loop goes on."""
        return await asyncio.to_thread(self.wait, within_seconds=within_seconds)

    @property
    def is_running(self) -> bool:
        """Whether it hasn't ended."""
        return self._popen.poll() is None

    def family(self) -> list[psutil.Process]:
        """Return the processes of its session that live: itself, its children, and what outlived them."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self.pid:
                    found.append(process)
        return still_alive(found)

    def assert_no_child_left(self, *, within_seconds: float = 5.0) -> None:
        """Make sure that it and everything in its session has ended; what is left after the deadline is named."""
        family = self.family()
        try:
            wait_until(lambda: not still_alive(family), "still there", within_seconds=within_seconds)
        except TimeoutError:
            left = ", ".join(f"{process.pid} ({' '.join(process.cmdline())})" for process in still_alive(family))
            self._complain(f"left processes behind: {left}")

    def clear_away(self) -> list[psutil.Process]:
        """SIGKILL it and everything in its session; returns what was still there beside itself."""
        family = self.family()
        kill_all(family)
        self._popen.wait()
        self._reader.join()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        return [process for process in family if process.pid != self.pid]

    # --- inside ---

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _complain(self, what: str) -> NoReturn:
        state = "still running" if self._popen.poll() is None else f"exit code {self._popen.returncode}"
        message = f"`{' '.join(self._command)}` {what} ({state}). All it said:\n{self.output or '(nothing)'}"
        raise AssertionError(message)


class Processes:
    """Starts processes and clears them away at the end of the block.

    A process that a test leaves running is killed. Children that outlive a process which has ended fail the test.
    """

    def __init__(self) -> None:
        self._started: list[Process] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start a command, with `env` on top of this process's environment, without its `PERDURE_…` variables."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "NO_COLOR": "1", **(env or {})}
        process = Process(list(command), environment, cwd)
        self._started.append(process)
        return process

    def python(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start this Python: `python("-c", code)`, `python("-m", "module")`."""
        return self.start(sys.executable, *arguments, env=env, cwd=cwd)

    def perdure(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Start the command line: `perdure("worker", "myapp:app")`."""
        return self.python("-c", "from perdure.cli import main; main()", *arguments, env=env, cwd=cwd)

    def release(self, process: Process) -> None:
        """Clear away one that has ended, and forget it; of many, not all can be kept until the end.

        Raises:
            AssertionError: Its children outlived it.
        """
        orphans = process.clear_away()
        self._started.remove(process)
        if orphans:
            message = f"{process.pid} left {[orphan.pid for orphan in orphans]}; it said:\n{process.output}"
            raise AssertionError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left: list[str] = []
        for process in self._started:
            ended = not process.is_running
            orphans = process.clear_away()
            if ended and orphans:
                left.append(f"{process.pid} left {[orphan.pid for orphan in orphans]}; it said:\n{process.output}")
        if left and error is None:
            message = "processes outlived the one that started them: " + "\n".join(left)
            raise AssertionError(message)
