"""The worker processes of a scenario: as many as are wanted, replaced when they end, each signal written down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.history.lines import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from tests.support.history import Recorder
    from tests.support.processes import Process, Processes

__all__ = ["Crew"]

_ROOT = Path(__file__).parents[3]
_LOOK_SECONDS = 0.05
_START_SECONDS = 60.0
_END_SECONDS = 60.0


class Crew:
    """Workers on a database.

    Attributes:
        complaints: What went wrong with processes: an exit that nobody has asked for.
        spared: Process ids of workers that aren't to be ended by a fault, so that their growth can be seen.
    """

    def __init__(
        self,
        processes: Processes,
        recorder: Recorder,
        *,
        dsn: str,
        folder: Path,
        settings: Mapping[str, Any],
        environment: Callable[[int], Mapping[str, str]] | None = None,
        tolerates: Callable[[int], bool] = lambda _code: False,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            processes: Starts and clears away.
            recorder: Takes what is done to the processes.
            dsn: The workers' database.
            folder: Where they write their lines.
            settings: "scheduling" and "execution".
            environment: More of it for the n-th process, from 0: failpoints.
            tolerates: Whether an exit that the crew hasn't asked for is as it should be, by its code.
        """
        self.complaints: list[str] = []
        self.spared: set[int] = set()
        self._processes = processes
        self._recorder = recorder
        self._environment = {
            # Behind it what this process was given: the tests may try a copy of the code.
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "SCENARIO_DSN": dsn,
            "SCENARIO_FOLDER": str(folder),
            "SCENARIO_SETTINGS": json.dumps(settings),
        }
        self._more = environment or (lambda _number: {})
        self._tolerates = tolerates
        self._wanted = 0
        self._count = 0
        self._workers: list[Process] = []
        self._killed: set[int] = set()
        self._stopped: set[int] = set()
        self._frozen: set[int] = set()

    @property
    def workers(self) -> list[Process]:
        """Those that run."""
        return [worker for worker in self._workers if worker.is_running]

    async def start(self, count: int) -> None:
        """Have so many workers, and wait until they serve."""
        self._wanted = count
        for worker in self._fill():
            await worker.line("worker ready", within_seconds=_START_SECONDS)

    async def keep(self) -> None:
        """Replace those that end, until this is cancelled."""
        while True:
            self._reap()
            self._fill()
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """SIGTERM to all; each must end by itself, with exit code 0."""
        self._wanted = 0
        for worker in self.workers:
            self.send(worker, signal.SIGCONT)
            self.send(worker, signal.SIGTERM)
        for worker in self.workers:
            await worker.end(within_seconds=_END_SECONDS)
        self._reap()

    def send(self, worker: Process, number: signal.Signals) -> None:
        """Send a signal, and write it down before, for a worker may act on it at once."""
        if not worker.is_running:
            return
        if number is signal.SIGKILL:
            self._killed.add(worker.pid)
        elif number is signal.SIGTERM:
            self._stopped.add(worker.pid)
        self._recorder.write(Fault(number.name, worker.pid))
        worker.send(number)
        if number is signal.SIGSTOP:
            self._frozen.add(worker.pid)
        elif number is signal.SIGCONT:
            self._frozen.discard(worker.pid)

    def lose(self, worker: Process) -> None:
        """SIGKILL, and have one worker less from then on."""
        self._wanted -= 1
        self.send(worker, signal.SIGKILL)

    def thaw(self) -> None:
        """Let all go on that stand still."""
        for worker in self.workers:
            if worker.pid in self._frozen:
                self.send(worker, signal.SIGCONT)

    def pick(self, random: Random, *, spared: bool = False) -> Process | None:
        """Draw a worker that runs and isn't frozen, one of those that are spared only if asked; None without any."""
        out_of_reach = self._frozen if spared else self._frozen | self.spared
        candidates = [worker for worker in self.workers if worker.pid not in out_of_reach]
        return random.choice(candidates) if candidates else None

    def _fill(self) -> list[Process]:
        started: list[Process] = []
        while len(self.workers) < self._wanted:
            environment = {**self._environment, **self._more(self._count)}
            started.append(self._processes.python("-m", "tests.support.scenario.worker", env=environment))
            self._count += 1
            self._workers.append(started[-1])
        return started

    def _is_right(self, worker: Process, code: int) -> bool:
        """Tell whether it has ended as it was told to; of several signals, whichever it has heard."""
        if code == -signal.SIGKILL:
            return worker.pid in self._killed
        # One that Python still starts has nothing to end gracefully.
        graceful = code == 0 or (code == -signal.SIGTERM and "worker ready" not in worker.output)
        return graceful and worker.pid in self._stopped

    def _reap(self) -> None:
        for worker in [worker for worker in self._workers if not worker.is_running]:
            self._workers.remove(worker)
            code = worker.wait()
            if not (self._is_right(worker, code) or self._tolerates(code)):
                self.complaints.append(f"worker {worker.pid} ended with exit code {code}; it said:\n{worker.output}")
            self._processes.release(worker)
