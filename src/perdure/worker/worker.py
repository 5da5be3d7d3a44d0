"""The composition root: one worker process's lanes, heartbeat, executor and services, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Self

from perdure.attempt import StopReason
from perdure.cancelling import cancel_and_wait, held
from perdure.errors import MisuseError
from perdure.failpoints import reach
from perdure.store import leases
from perdure.store.notify import Listener
from perdure.version import __version__
from perdure.worker.borrowing import check, wake_others
from perdure.worker.cancels import Cancels
from perdure.worker.claimer import Claimer
from perdure.worker.condition import Condition
from perdure.worker.desk import Desk
from perdure.worker.endings import Rules
from perdure.worker.executor import Executor
from perdure.worker.heartbeat import Heartbeat
from perdure.worker.housekeeper import Housekeeper
from perdure.worker.lane import Lane
from perdure.worker.poller import Poller
from perdure.worker.port import WorkerPort
from perdure.worker.reporting import begin_report, complain
from perdure.worker.rescuer import Rescuer
from perdure.worker.strays import Strays
from perdure.worker.timers import call_after

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from uuid import UUID

    from perdure.app import App
    from perdure.core.decide import Limits
    from perdure.store.calls import Call
    from perdure.store.claims import Claimed
    from perdure.store.settles import Released

__all__ = ["Worker"]

_log = logging.getLogger("perdure.worker")
_LANES = 2
_FLUSH_LOOK_SECONDS = 0.05
_TOO_LATE_SECONDS = 0.5
_OLD_PLACE_SECONDS = 0.5  # due for longer, a job's place is behind where claims begin to look


class Worker:
    """Claims and runs an app's jobs in this process, as an async context manager.

    It is entered when the worker is ready to claim; leaving it stops the worker gracefully.
    """

    def __init__(
        self,
        app: App,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        shutdown_grace_seconds: float | None = None,
    ) -> None:
        """Prepare a worker of an open app.

        Args:
            app: The tasks and where their jobs are.
            queues: The queues to serve; all, if None.
            concurrency: Jobs at once; as configured, if None.
            shutdown_grace_seconds: How long running jobs may take to end at a stop; as configured, if None.
        """
        execution, scheduling = app.config.execution, app.config.scheduling
        self.app = app
        self.dsn = app.dsn
        self.keeps_sessions = app.config.persistence.prepared_statements
        self.names = app.names
        self.tasks = app.tasks
        self.resolver = app.resolver
        self.queues = None if queues is None else tuple(queues)
        self.lease_seconds = execution.lease_duration.total_seconds()
        self.cancel_grace_seconds = execution.cancel_grace.total_seconds()
        self.polling_seconds = scheduling.polling_delay.total_seconds()
        grace_seconds = execution.shutdown_grace.total_seconds()
        self.shutdown_grace_seconds = grace_seconds if shutdown_grace_seconds is None else shutdown_grace_seconds
        self.concurrency = execution.concurrency if concurrency is None else concurrency
        self.rules = Rules(app.config)
        self.desk = Desk()
        self.condition = Condition()
        self.claimer = Claimer(concurrency=self._slots(), batch_size=scheduling.batch_size, queues=self.queues)
        self._strays = Strays(self)
        self.stopping = False
        self.is_draining = False
        self._begun = False
        self.ready = asyncio.Event()
        self._skip_grace = asyncio.Event()
        self._worker_id: UUID | None = None
        # Ids whose lease was lost, and the jobs that this process had in hand, or had not yet settled, under them.
        self.lost: defaultdict[UUID, list[int]] = defaultdict(list)
        self._gave_back = False
        self._short_tasks: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._dropped = 0

    def _slots(self) -> int:
        """How many jobs can run at once: of `def` handlers no more than there are threads."""
        if any(task.is_async for task in self.tasks.values()):
            return self.concurrency
        return min(self.concurrency, self.app.config.execution.threads)

    # ---- what the parts ask

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""
        return self._worker_id

    @property
    def has_pulse(self) -> bool:
        """Whether the thread that renews the lease is there."""
        return self._heartbeat.is_alive

    @property
    def in_hand(self) -> int:
        """How many jobs are running or claimed."""
        return self.executor.in_hand

    @property
    def has_room_for_suspect(self) -> bool:
        """Whether no suspect runs here, and a slot is free."""
        return self.executor.has_room_for_suspect

    def limits_of(self, name: str) -> Limits:
        """What the settings allow the jobs of a task, by its name; of one that isn't known here, what the app's say."""
        return self.rules.limits(self.tasks.get(name))

    @property
    def may_hold_jobs(self) -> bool:
        """Whether any job is in hand, or may be on its way here."""
        return self.in_hand > 0 or self._has_exchange_under_way()

    def keep_slot_free(self, *, for_suspect: bool) -> None:
        """Keep the next slot that is free from being filled with anything but a suspect; or don't any more."""
        self.executor.keep_slot_free(keeps=for_suspect)

    @property
    def has_left_behind(self) -> bool:
        """Whether a handler that was left behind still runs."""
        return self.executor.has_left_behind

    @property
    def lanes(self) -> Sequence[Lane]:
        """The worker's lanes."""
        return self._lanes

    def holds(self, worker_id: UUID) -> bool:
        """Whether the lease of this id is valid, by this process's monotonic clock."""
        return self._heartbeat.holds(worker_id)

    def take_claimed(self, jobs: list[Claimed], worker_id: UUID) -> None:
        """Start what was claimed, unless its lease has been lost meanwhile: then it is rescued."""
        if worker_id != self._worker_id:
            self.lost[worker_id] += [job.id for job in jobs]
            begin_report(self, self._short_tasks)
            return
        self._strays.arrived(jobs)
        if self.stopping:
            self.executor.put_back(jobs)
        else:
            self.executor.take(jobs, worker_id)

    def released(self, entries: list[Released]) -> None:
        """Let the claimer look when released jobs are due, if that is before the next poll."""
        for due_seconds in (entry.due_seconds for entry in entries):
            if due_seconds is None or due_seconds >= self.polling_seconds:
                continue
            if due_seconds > 0:
                call_after(asyncio.get_running_loop(), due_seconds, self.wake)
                continue
            if due_seconds < -_OLD_PLACE_SECONDS:
                self.claimer.look_everywhere()
            self.wake()
        self._gave_back = self._gave_back or (self.stopping and bool(entries))

    def claims_uncertain(self) -> None:
        """A claim's answer was lost: look for strays."""
        self._strays.suspect()

    def lane_connected(self) -> None:
        """There may be due jobs; and after a reconnect another database, on which the lease isn't good."""
        if self._worker_id is not None:
            self._heartbeat.hurry()
        self.wake()

    def wake(self) -> None:
        """There may be due jobs."""
        self.claimer.poke()
        self.desk.wake()

    # ---- start and stop

    async def __aenter__(self) -> Self:
        """Start, and wait until the worker is ready to claim; raises as `start` does."""
        await self.start()
        try:
            await self.ready.wait()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop gracefully."""
        await self.stop()

    async def start(self) -> None:
        """Check the schema, and begin; raises as `check` and `begin` do."""
        await check(self.app)
        self.begin()

    def begin(self) -> None:
        """Start every part; `ready` is set when the first lease is held.

        Raises:
            MisuseError: It was started before.
        """
        if self._begun:
            message = "worker: it was started before, and works once: app.worker() makes another"
            raise MisuseError(message)
        self._begun = True
        execution = self.app.config.execution
        self.executor = Executor(self, WorkerPort(self), concurrency=self.concurrency, threads=execution.threads)
        self._heartbeat = Heartbeat(
            self.dsn,
            self.names,
            keeps_sessions=self.keeps_sessions,
            lease_seconds=self.lease_seconds,
            max_stall_seconds=execution.max_stall.total_seconds(),
            registration=self._registration,
            loop=asyncio.get_running_loop(),
            on_lease=self._on_lease,
            on_lost=self._on_lost,
            condition=self.condition,
        )
        self._rescuer = Rescuer(self)
        self._cancels = Cancels(self)
        self._services = (Poller(self), self._rescuer, Housekeeper(self), self._strays, self._cancels)
        self._lanes = [Lane(self, number) for number in range(1, _LANES + 1)]
        self._lane_tasks = [asyncio.create_task(lane.run(), name=f"perdure {lane.name}") for lane in self._lanes]
        for task in self._lane_tasks:
            task.add_done_callback(complain)
        self._listener = Listener(
            self.dsn,
            is_wanted=self.app.config.scheduling.notifications,
            keeps_sessions=self.keeps_sessions,
            on_deaf=self.claimer.deaf,
            purpose="due jobs and cancels",
        )
        self._listener.add(self.names.work_channel, self._notified)
        self._listener.add(self.names.cancel_channel, self._cancel_notified)
        self._listener.start()
        self._turning = asyncio.create_task(self._turn(), name="perdure loop watch")
        self._heartbeat.start()
        for service in self._services:
            service.start()

    def hurry(self) -> None:
        """Skip the rest of the grace of a stop under way, or of the next."""
        self._skip_grace.set()

    async def stop(self) -> None:
        """Stop gracefully: claim no more, let running jobs end, suspend the rest at their checkpoint, flush, leave.

        A cancellation skips the grace, and is raised when all that is done: nothing goes on in the background.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._stop(), name="perdure stop")
        await held(self._ending, on_cancel=self.hurry)

    async def _stop(self) -> None:
        self.stopping = True
        self.claimer.open = False
        for service in self._services:
            if not isinstance(service, Strays):
                await service.stop()
        await self._listener.stop()
        self.executor.put_back_stale(everything=True)
        await self._let_end()
        await self._flush()
        reach("stop.flushed")
        await self._strays.stop()
        for lane in self._lanes:
            lane.cut()  # what is under way by now is too late, and may be under way for ever
        await cancel_and_wait([*self._lane_tasks, *self._short_tasks])
        self.desk.close()
        if self._gave_back:
            await wake_others(self.app)
        await self._heartbeat.stop()
        await cancel_and_wait([self._turning])

    async def _let_end(self) -> None:
        idle = asyncio.create_task(self.executor.wait_until_idle())
        hurried = asyncio.create_task(self._skip_grace.wait())
        try:
            await asyncio.wait(
                {idle, hurried}, timeout=self.shutdown_grace_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            self.executor.stop_all(StopReason.SHUTDOWN)
            await idle
        finally:
            idle.cancel()
            hurried.cancel()

    async def _flush(self) -> None:
        """Write the last outcomes: for a lease at most, when the database is away or somebody has the rows locked."""
        self.is_draining = True
        self.desk.wake_all()
        lanes = set(self._lane_tasks)
        until_seconds = time.monotonic() + self.lease_seconds
        while lanes and self._has_unwritten() and self._heartbeat.remaining_seconds:
            if self._skip_grace.is_set():
                until_seconds = min(until_seconds, time.monotonic() + self.cancel_grace_seconds)
            if time.monotonic() > until_seconds:
                break
            _done, lanes = await asyncio.wait(lanes, timeout=_FLUSH_LOOK_SECONDS)
        if unwritten := len(self.desk.ids()) + self._dropped:
            _log.error(
                "stopped without the database: the outcomes of %d jobs could not be written; their lease lapses, and "
                "they go on elsewhere from their last checkpoint",
                unwritten,
            )

    def _has_unwritten(self) -> bool:
        under_way = self._has_exchange_under_way()
        return under_way or bool(self.desk.ids()) or not self.desk.is_empty

    def _has_exchange_under_way(self) -> bool:
        return any(lane.exchange_began_at_seconds is not None for lane in self._lanes)

    # ---- the lease

    def _registration(self, worker_id: UUID) -> Call[None]:
        return leases.register(
            self.names,
            worker_id,
            lease_seconds=self.lease_seconds,
            host=platform.node(),
            pid=os.getpid(),
            concurrency=self.concurrency,
            queues=self.queues,
            version=__version__,
        )

    def _on_lease(self, worker_id: UUID) -> None:
        if self.desk.is_closed:  # it came too late: the heartbeat gives it back
            return
        self._worker_id = worker_id
        self.claimer.reset()
        self.claimer.open = not self.stopping
        self.ready.set()
        self.desk.wake_all()
        begin_report(self, self._short_tasks)

    def _on_lost(self, worker_id: UUID) -> None:
        unwritten: set[int] = set()
        if self._worker_id == worker_id:
            self._worker_id, self.claimer.open = None, False
            self._dropped += len(self.desk.ids()) if self.is_draining else 0
            unwritten = {*self.desk.ids(), *self.desk.blamed}
            self.desk.clear()
        for lane in self._lanes:
            lane.cut_if_not_answered_in(_TOO_LATE_SECONDS)
        self.lost[worker_id] += [*unwritten, *self.executor.lose_lease(worker_id)]

    async def _turn(self) -> None:
        while True:
            self._heartbeat.turned()
            self.executor.turned()
            await asyncio.sleep(self._heartbeat.turn_seconds)

    def _cancel_notified(self, _payload: str | None) -> None:
        self._cancels.poke()  # whatever it says: anybody may notify anything

    def _notified(self, queue: str | None) -> None:
        if not queue:  # somebody has put jobs back; or notifications may have been missed
            self.claimer.look_everywhere()
        if not queue or self.queues is None or queue in self.queues:
            self.wake()
