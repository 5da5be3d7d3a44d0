"""The composition root: one worker process's lanes, heartbeat, executor and services, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
from typing import TYPE_CHECKING, Any, Self, TypeVar

from psycopg_pool import PoolTimeout

from perdure.attempt import StopReason
from perdure.core.decide import Limits
from perdure.errors import DatabaseUnavailable, LeaseLost
from perdure.store import calls, leases, migrate, settles
from perdure.store.notify import Listener
from perdure.version import __version__
from perdure.worker.claimer import Claimer
from perdure.worker.desk import Desk, PendingPersist
from perdure.worker.endings import Rules
from perdure.worker.executor import Executor
from perdure.worker.heartbeat import Heartbeat
from perdure.worker.lane import Lane
from perdure.worker.poller import Poller
from perdure.worker.rescuer import Rescuer, rescue
from perdure.worker.strays import Strays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from types import TracebackType
    from uuid import UUID

    from perdure.app import App
    from psycopg import AsyncConnection, Connection

    from perdure.attempt import Attempt
    from perdure.store.calls import Call
    from perdure.store.settles import Claimed, Persist, Release

__all__ = ["Worker"]

T = TypeVar("T")
_log = logging.getLogger("perdure.worker")
_LANES = 2


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
        execution = app.config.execution
        self.app = app
        self.dsn = app.dsn
        self.names = app.names
        self.tasks = app.tasks
        self.resolver = app.resolver
        self.queues = None if queues is None else tuple(queues)
        self.lease_seconds = execution.lease_duration.total_seconds()
        self.max_payload_bytes = execution.max_payload_bytes
        self.max_lapses = execution.max_lapses
        self.cancel_grace_seconds = execution.cancel_grace.total_seconds()
        self.polling_seconds = app.config.scheduling.polling_delay.total_seconds()
        self.shutdown_grace_seconds = (
            execution.shutdown_grace.total_seconds() if shutdown_grace_seconds is None else shutdown_grace_seconds
        )
        self.concurrency = execution.concurrency if concurrency is None else concurrency
        self.rules = Rules(app.config)
        self.policy = self.rules.policy
        self.desk = Desk()
        self.claimer = Claimer(concurrency=self.concurrency, batch_size=app.config.scheduling.batch_size)
        self.stopping = False
        self.is_draining = False
        self.ready = asyncio.Event()
        self._skip_grace = asyncio.Event()
        self._worker_id: UUID | None = None
        self._lost: dict[UUID, list[int]] = {}
        self._is_away = False
        self._gave_back = False

    # ---- what the parts ask

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""
        return self._worker_id

    @property
    def in_hand(self) -> int:
        """How many jobs are running or claimed."""
        return self.executor.in_hand

    @property
    def has_room_for_suspect(self) -> bool:
        """Whether no suspect runs here, and a slot is free."""
        return self.executor.has_room_for_suspect

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
        if worker_id == self._worker_id:
            self.executor.take(jobs, worker_id)
            if not self.claimer.open:
                self.executor.put_back_stale(everything=True)

    def released(self, entries: list[Release]) -> None:
        """Let the claimer look when released jobs are due, if that is before the next poll."""
        loop = asyncio.get_running_loop()
        for entry in entries:
            if entry.keep_place or entry.due_seconds == 0:
                self.wake()
            elif entry.due_seconds is not None and entry.due_seconds < self.polling_seconds:
                loop.call_later(entry.due_seconds + 0.001, self.wake)
        self._gave_back = self._gave_back or (self.stopping and bool(entries))

    def claims_uncertain(self) -> None:
        """A claim's answer was lost: look for strays soon."""
        self._strays.poke()

    def lane_connected(self, name: str) -> None:
        """Say once that the database is there again."""
        if self._is_away:
            self._is_away = False
            _log.warning("the database is there again (%s)", name)
        self.wake()

    def lane_lost(self, name: str, error: BaseException) -> None:
        """Say once that the database is away."""
        if not self._is_away and not self.is_draining:
            self._is_away = True
            _log.warning("%s: %s: %s; trying again until it works", name, type(error).__name__, str(error).strip())

    def wake(self) -> None:
        """There may be due jobs."""
        self.claimer.poke()
        self.desk.wake()

    # ---- the port of attempts

    async def persist(self, attempt: Attempt, data: bytes) -> None:
        """Write a checkpoint with the next exchange; a cancellation is held until it is known to be written or not."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.desk.persist(PendingPersist(attempt.next_checkpoint(data), attempt, written))
        cancelled: asyncio.CancelledError | None = None
        while not written.done():
            try:
                await asyncio.shield(written)
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception:  # noqa: BLE001 - raised below, from the future itself
                break
        if cancelled is not None and written.exception() is None:
            raise cancelled
        written.result()

    def report_progress(self, attempt: Attempt, data: bytes) -> None:
        """Write the progress with the next exchange."""
        self.desk.report_progress(settles.ProgressReport(attempt.job.id, attempt.job.claim, data))

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection of the app's pool."""
        try:
            async with self.app.pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise _pool_exhausted(self.app) from error

    @contextlib.contextmanager
    def blocking_connection(self) -> Iterator[Connection[Any]]:
        """Lend a sync connection of the app's pool."""
        try:
            with self.app.blocking_pool().connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise _pool_exhausted(self.app) from error

    async def has_landed(self, attempt: Attempt, entry: Persist) -> bool:
        """Find out for good whether a COMMIT that nobody acknowledged was done, as often as the connection breaks."""
        while True:
            attempt.check_may_write()
            try:
                return await self.desk.run(functools.partial(self._has_landed, attempt, entry))
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the lane reconnects; asked again until the lease ends
                _log.debug("job %d: was the commit done? %s", attempt.job.id, error)
                await asyncio.sleep(0.1)

    async def _has_landed(self, attempt: Attempt, entry: Persist, connection: AsyncConnection[Any]) -> bool:
        taken = await calls.run(connection, settles.take_checkpoint_number(self.names, attempt.worker_id, entry))
        if taken:
            # The stored checkpoint is the old one, under the number that the lost COMMIT would have needed.
            attempt.checkpoint = entry.checkpoint + 1
            return False
        rows = await calls.run(connection, settles.settlement(self.names, [entry.id]))
        row = rows.get(entry.id)
        if row is not None and row.claim == entry.claim and row.checkpoint == entry.checkpoint + 1:
            return True
        message = (
            f"job {entry.id}, attempt {attempt.job.attempt}: the lease was lost while its transaction was committed"
        )
        raise LeaseLost(message)

    # ---- start and stop

    async def __aenter__(self) -> Self:
        """Start, and wait until the worker is ready to claim."""
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
        """Start every part; `ready` is set when the first lease is held.

        Raises:
            StoreError: The schema isn't one that this version can work on; the message tells what to do.
        """
        async with self.app.pool.connection() as connection:
            await migrate.check_schema(connection, self.names)
        loop = asyncio.get_running_loop()
        execution = self.app.config.execution
        self.executor = Executor(self, concurrency=self.concurrency, threads=execution.threads)
        self._heartbeat = Heartbeat(
            self.dsn,
            self.names,
            lease_seconds=self.lease_seconds,
            max_stall_seconds=execution.max_stall.total_seconds(),
            registration=self._registration,
            loop=loop,
            on_lease=self._on_lease,
            on_lost=self._on_lost,
        )
        self._strays = Strays(self)
        self._services = (Poller(self), Rescuer(self), self._strays)
        self._lanes = [Lane(self, number) for number in range(1, _LANES + 1)]
        self._lane_tasks = [asyncio.create_task(lane.run(), name=f"perdure {lane.name}") for lane in self._lanes]
        for task in self._lane_tasks:
            task.add_done_callback(_complain)
        self._listener = Listener(self.dsn)
        self._listener.add(self.names.work_channel, self._notified)
        self._listener.start()
        self._turning = asyncio.create_task(self._turn(), name="perdure loop watch")
        self._heartbeat.start()
        for service in self._services:
            service.start()

    def hurry(self) -> None:
        """Skip the rest of the grace of a stop under way, or of the next."""
        self._skip_grace.set()

    async def stop(self) -> None:
        """Stop gracefully: claim no more, let running jobs end, suspend the rest at their checkpoint, flush, leave."""
        self.stopping = True
        self.claimer.open = False
        for service in self._services:
            if not isinstance(service, Strays):
                await service.stop()
        await self._listener.stop()
        self.executor.put_back_stale(everything=True)
        await self._let_end()
        await self._flush()
        await self._strays.stop()
        for task in self._lane_tasks:
            task.cancel()
        await asyncio.gather(*self._lane_tasks, return_exceptions=True)
        await asyncio.to_thread(self._heartbeat.stop)
        self._turning.cancel()

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
        """Write the last outcomes; as long as the lease lasts, when the database is away."""
        self.is_draining = True
        self.desk.wake_all()
        done, pending = await asyncio.wait(self._lane_tasks, timeout=self.lease_seconds)
        if pending and not self.desk.is_empty:
            _log.error(
                "stopped without the database: the outcomes of some jobs could not be written; their lease lapses and "
                "they go on elsewhere from their last checkpoint"
            )
        del done

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
        self._worker_id = worker_id
        self.claimer.reset()
        self.claimer.open = not self.stopping
        self.ready.set()
        self.desk.wake_all()
        asyncio.create_task(self._report_again(worker_id)).add_done_callback(_complain)

    def _on_lost(self, worker_id: UUID) -> None:
        if self._worker_id == worker_id:
            self._worker_id = None
            self.claimer.open = False
            self.desk.clear()
        self._lost[worker_id] = self.executor.lose_lease(worker_id)

    async def _report_again(self, worker_id: UUID) -> None:
        """With a new lease: make jobs due that waited for this code, and take the blame of a lapse off others."""
        await self._run(leases.revive(self.names, list(self.tasks)))
        self.wake()
        limits = Limits(self.policy, self.max_lapses)
        while self._lost:
            lost, ids = self._lost.popitem()
            await self.desk.run(
                functools.partial(
                    rescue, names=self.names, lost=lost, holder=worker_id, limits=limits, ever_reported=True
                )
            )
            if ids:
                await self._run(leases.forgive(self.names, lost, ids))
        self.wake()

    async def _run(self, call: Call[T]) -> T:
        return await self.desk.run(lambda connection: calls.run(connection, call))

    async def _turn(self) -> None:
        while True:
            self._heartbeat.turned()
            await asyncio.sleep(self._heartbeat.turn_seconds)

    def _notified(self, queue: str | None) -> None:
        if not queue or self.queues is None or queue in self.queues:
            self.wake()


def _pool_exhausted(app: App) -> DatabaseUnavailable:
    limit = app.config.execution.max_connections
    return DatabaseUnavailable(
        f"no connection of the pool was free in time (execution.max_connections is {limit}): a handler that calls "
        "start() inside ctx.transaction() should pass connection=, or raise max_connections"
    )


def _complain(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended: %r", task.get_name(), error)
