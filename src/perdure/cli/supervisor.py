"""Keeps several worker processes alive: starts them, passes signals on, starts again what ends unasked.

Each is a new interpreter, never a fork: connections, locks and threads don't survive one. The first is started alone,
so that an app that can't be imported, or a schema that is behind, is said once and ends it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from perdure.cli.supervised import READY, WAITING
from perdure.cli.together import Together
from perdure.worker.health import HealthServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.worker.health import Address

__all__ = ["Supervisor", "worker_command"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACK_OFF_SECONDS: Final = (0.5, 30.0)
_MOST_DOUBLED: Final = 10  # more is too long anyway, and in a night past what a float holds
_STEADY_SECONDS: Final = 60.0  # after so long a life, an end is an accident again and no pattern


def worker_command(target: str, *, queues: Sequence[str] | None, concurrency: int | None, debug: bool) -> list[str]:
    """Return the command that starts one worker process; `--supervised-by` comes last."""
    # -P: as for the script `perdure`, a queue.py in the current folder must not be taken for Python's own.
    command = [sys.executable, "-P", "-m", "perdure.cli", "worker", target]
    if queues is not None:
        command += ["--queues", ",".join(queues)]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    if debug:
        command.append("--debug")
    return command


class _Place:
    """One of the processes, and its successors."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.ready_at_seconds: float | None = None
        self.failures = 0

    def __str__(self) -> str:
        pid = "" if self.process is None else f" ({self.process.pid})"
        return f"worker process {self.number}{pid}"


class Supervisor:
    """Runs a command as several processes until it is told to stop."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        health: Address | None = None,
        on_ready: Callable[[str], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            command: What starts one process.
            count: How many there are to be.
            health: Where to answer how they are; each answers beside, at the next ports.
            on_ready: Called with a line once all of them claim.
            on_trouble: Called with a line for what goes otherwise.
        """
        self._command = list(command)
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._health = health
        self._on_ready = on_ready
        self._on_trouble = on_trouble
        self._stopping = asyncio.Event()
        self._served = asyncio.Event()
        self._said_ready = False
        self._said_waiting = False
        self._exit_code = 0

    def run(self) -> int:
        """Run until a signal; return 0 when every process has ended gracefully.

        Raises:
            MisuseError: One can't listen at the address for health.
        """
        if self._health is None:
            return asyncio.run(self._run())
        together = Together([self._health.beside(place.number) for place in self._places])
        with HealthServer(self._health, live=together.live, ready=together.ready):
            return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._pass_on, number)
        first = asyncio.create_task(self._keep(self._places[0]))
        served = asyncio.create_task(self._served.wait())
        await asyncio.wait({first, served}, return_when=asyncio.FIRST_COMPLETED)
        served.cancel()
        await asyncio.gather(first, *map(self._keep, self._places[1:]))
        return self._exit_code

    def _pass_on(self, number: int) -> None:
        self._stopping.set()
        for place in self._places:
            self._signal(place, number)

    def _signal(self, place: _Place, number: int) -> None:
        if place.process is not None and place.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                place.process.send_signal(number)

    async def _keep(self, place: _Place) -> None:
        """Keep a process in this place until told to stop."""
        while not self._stopping.is_set():
            code = await self._run_once(place)
            if self._stopping.is_set():
                if not _is_graceful(code):
                    self._on_trouble(f"{place} {_ending(code)} while it was stopping")
                    self._exit_code = 1
            elif not self._served.is_set():
                # It has said why itself, and the others would say the same.
                self._exit_code = code if code > 0 else 1
                self._stopping.set()
                if code <= 0:
                    self._on_trouble(f"{place} {_ending(code)} before it was ready")
            else:
                await self._back_off(place, code)

    async def _run_once(self, place: _Place) -> int:
        """Start a process and wait for its end; return its exit code, or the negative number of its signal."""
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        try:
            # In a process group of its own: what a terminal sends to the whole group reaches it through us alone.
            place.process = await asyncio.create_subprocess_exec(
                *self._command,
                *([] if self._health is None else ["--health", str(self._health.beside(place.number))]),
                "--supervised-by",
                str(descriptor),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[descriptor],
                process_group=0,
            )
        finally:
            theirs.close()
        if self._stopping.is_set():
            self._signal(place, signal.SIGTERM)  # the signal came while it was being started
        reader, writer = await asyncio.open_connection(sock=ours)
        reading = asyncio.create_task(self._read(place, reader))
        try:
            return await place.process.wait()
        finally:
            reading.cancel()
            writer.close()

    async def _read(self, place: _Place, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            async for line in reader:
                kind, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
                if kind == READY:
                    self._ready(place, text)
                elif kind == WAITING and not self._said_waiting:
                    self._said_waiting = True
                    self._on_trouble(text)

    def _ready(self, place: _Place, what: str) -> None:
        place.ready_at_seconds = asyncio.get_running_loop().time()
        self._said_waiting = False
        self._served.set()
        if self._said_ready:
            self._on_trouble(f"{place} serves again")
        elif all(other.ready_at_seconds is not None for other in self._places):
            self._said_ready = True
            self._on_ready(f"ready: {len(self._places)} processes, each with {what}")

    async def _back_off(self, place: _Place, code: int) -> None:
        loop = asyncio.get_running_loop()
        if place.ready_at_seconds is not None and loop.time() - place.ready_at_seconds > _STEADY_SECONDS:
            place.failures = 0
        place.ready_at_seconds = None
        shortest, longest = _BACK_OFF_SECONDS
        delay_seconds = min(longest, shortest * 2**place.failures) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        place.failures = min(place.failures + 1, _MOST_DOUBLED)
        self._on_trouble(f"{place} {_ending(code)}; it is started again in {delay_seconds:.1f} s")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_seconds)


def _is_graceful(code: int) -> bool:
    """Whether a process that was told to stop did so.

    While it serves, no signal of ours can kill it: one that has died of it had nothing in hand yet, or no longer.
    """
    return code == 0 or -code in _SIGNALS


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
