"""Strikes the worker that holds a job, one fault after the other. There are two workers, so that another can go on.

Everything that is waited for is waited for in `_until`, which meanwhile reports how far the job is and takes note of a
worker that has ended unasked. Whatever happens, no worker outlives `run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import IO, TYPE_CHECKING, Final, Never, NoReturn

from perdure.core.states import JobState
from perdure.demo.events import (
    AttemptBegan,
    DemoFailed,
    Missed,
    Progressed,
    Struck,
    Survived,
    WorkerStarted,
    ZombieRefused,
)
from perdure.demo.faults import Kind
from perdure.demo.process import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perdure.demo.events import Event
    from perdure.demo.faults import Fault
    from perdure.demo.tasks import Indexed, Library, Position
    from perdure.job import Job

__all__ = ["Director"]

_WORKERS: Final = 2
_LOOK_SECONDS: Final = 0.05
# Far more than anything takes: a busy machine is slow, not broken.
_LONGEST_WAIT_SECONDS: Final = 90.0
_LOG_LINES: Final = 15
_SIGNALS: Final = {Kind.STOP: signal.SIGTERM, Kind.KILL: signal.SIGKILL, Kind.FREEZE: signal.SIGSTOP}
_ENDS: Final = {signal.SIGTERM, signal.SIGKILL}


class Director:
    """The workers of one job, and what happens to them."""

    def __init__(
        self,
        dsn: str,
        job: Job[Library, Position, Indexed, Never],
        modules: int,
        log: IO[bytes],
        on_event: Callable[[Event], None],
    ) -> None:
        """Prepare.

        Args:
            dsn: The database, for the workers.
            job: The job, started.
            modules: How many modules it has to index.
            log: Takes the workers' standard error.
            on_event: Told of all that happens.
        """
        self._dsn = dsn
        self._job = job
        self._modules = modules
        self._log = log
        self._on_event = on_event
        self._workers: list[WorkerProcess] = []
        self._ending: set[WorkerProcess] = set()
        self._told_attempt = 0
        self._heard = asyncio.Event()

    async def run(self, faults: Sequence[Fault]) -> list[Survived]:
        """Run the job to its end, struck by faults; return those that struck.

        Raises:
            DemoFailed: The job didn't complete, or a worker didn't end as it should.
        """
        try:
            for _worker in range(_WORKERS):
                await self._start_worker()
            survived = [outcome for fault in faults if (outcome := await self._suffer(fault)) is not None]
            await self._until(lambda: self._is_over, "the job's end")
            await self._stop_workers()
        finally:
            await self._kill_workers()
        if self._job.state is not JobState.COMPLETED:
            self._fail("the job didn't complete")
        return survived

    # ---- faults

    async def _suffer(self, fault: Fault) -> Survived | None:
        """Strike the worker that holds the job, and wait until another has it; None when the job had ended before."""
        await self._until(
            lambda: self._is_over or (self._done >= fault.after and self._holder is not None),
            f"{fault.after} modules, when fault {fault.number} is due",
        )
        await asyncio.sleep(fault.delay_seconds)
        await self._until(lambda: self._is_over or self._holder is not None, "a worker to strike")
        victim = self._holder
        if victim is None:
            self._on_event(Missed(fault.number, fault.kind))
            return None
        attempt, struck_at_seconds = victim.last_attempt, time.monotonic()
        self._send(victim, _SIGNALS[fault.kind])
        self._on_event(Struck(fault.number, fault.kind, victim.pid, self._done))
        if fault.kind is not Kind.FREEZE:
            await self._start_worker()
        await self._until(
            lambda: self._is_over or self._heir(attempt) is not None,
            f"another worker to go on after {fault.kind.value} to worker {victim.pid}",
        )
        survived, heir = None, self._heir(attempt)
        if heir is not None:
            lost_seconds = heir.began_at_seconds[heir.last_attempt] - struck_at_seconds
            survived = Survived(fault.number, fault.kind, heir.last_attempt, heir.pid, lost_seconds)
        self._on_event(survived or Missed(fault.number, fault.kind))
        await self._conclude(victim, fault.kind, attempt)
        return survived

    async def _conclude(self, victim: WorkerProcess, kind: Kind, attempt: int) -> None:
        """See to it that it ends with a struck worker as it should."""
        match kind:
            case Kind.STOP:
                await self._see_end(victim, 0)
            case Kind.KILL:
                await self._see_end(victim, -signal.SIGKILL)
            case Kind.FREEZE:
                await self._thaw(victim, attempt)

    async def _thaw(self, zombie: WorkerProcess, attempt: int) -> None:
        """Let a frozen worker go on once another has gone on with its job: what it writes now must not land."""
        done = self._done
        await self._until(lambda: self._is_over or self._done > done, "the first page of the worker that went on")
        self._send(zombie, signal.SIGCONT)
        await self._until(
            lambda: attempt in zombie.refused,
            f"worker {zombie.pid}, which was thawed, to be refused (attempt {attempt})",
        )
        self._on_event(ZombieRefused(zombie.pid, attempt))

    # ---- workers

    async def _start_worker(self) -> None:
        worker = await WorkerProcess.start(self._dsn, log=self._log, on_told=self._heard.set)
        self._workers.append(worker)
        self._on_event(WorkerStarted(worker.pid))

    def _send(self, worker: WorkerProcess, number: signal.Signals) -> None:
        if number in _ENDS:
            self._ending.add(worker)
        worker.send(number)

    async def _see_end(self, worker: WorkerProcess, expected: int) -> None:
        """Wait for the end of a worker that was sent a signal."""
        await self._until(lambda: worker.exit_code is not None, f"the end of worker {worker.pid}")
        code = await worker.end()
        # One that doesn't serve yet has nothing to end gracefully.
        if code != expected and worker.is_ready:
            self._fail(f"worker {worker.pid} ended with exit code {code}, not {expected}")
        self._workers.remove(worker)

    async def _stop_workers(self) -> None:
        workers = list(self._workers)
        for worker in workers:
            self._send(worker, signal.SIGTERM)
        for worker in workers:
            await self._see_end(worker, 0)

    async def _kill_workers(self) -> None:
        """Make an end of whoever is left, in whatever state."""
        for worker in self._workers:
            worker.send(signal.SIGKILL)
        for worker in self._workers:
            await worker.end()

    # ---- looking

    @property
    def _done(self) -> int:
        return self._job.execution_metadata.rows.get("modules", 0)

    @property
    def _is_over(self) -> bool:
        return self._job.state.is_final

    @property
    def _holder(self) -> WorkerProcess | None:
        """The worker that runs the job, if one does and has said so."""
        if self._job.state is not JobState.RUNNING:
            return None
        return next((worker for worker in self._workers if self._job.attempt in worker.began_at_seconds), None)

    def _heir(self, attempt: int) -> WorkerProcess | None:
        """The worker that has begun the last attempt, if that is a later one than this."""
        last = max(self._workers, key=lambda worker: worker.last_attempt)
        return last if last.last_attempt > attempt else None

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for something; give up when nothing has come on for long."""
        done, gives_up_at_seconds = -1, 0.0
        while True:
            await self._look()
            if is_so():
                return
            if self._done > done:
                done, gives_up_at_seconds = self._done, time.monotonic() + _LONGEST_WAIT_SECONDS
            if time.monotonic() > gives_up_at_seconds:
                self._fail(f"nothing has come on for {_LONGEST_WAIT_SECONDS:.0f} s, while waiting for {what}")
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._heard.wait()

    async def _look(self) -> None:
        await self._job.refresh()
        for worker in self._workers:
            if worker.exit_code is not None and worker not in self._ending:
                self._fail(f"worker {worker.pid} ended unasked, with exit code {worker.exit_code}")
            if worker.last_attempt > self._told_attempt:
                self._told_attempt = worker.last_attempt
                self._on_event(AttemptBegan(worker.last_attempt, worker.pid, self._done))
        holder = self._holder
        pid = None if holder is None or holder.is_frozen or holder.exit_code is not None else holder.pid
        self._on_event(Progressed(self._done, self._modules, self._job.attempt, pid))

    def _fail(self, what: str) -> NoReturn:
        """Give up, and say how the job stands and what its workers have said last."""
        job = self._job
        state = f"the job (id {job.id}) is {job.state}, attempt {job.attempt}, {self._done} of {self._modules} modules"
        error = "" if job.last_error is None else f", last error: {job.last_error}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        message = "\n".join([f"{what}: {state}{error}", *lines])
        raise DemoFailed(message)
