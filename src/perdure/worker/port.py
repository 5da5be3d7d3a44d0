"""What running attempts ask of their worker: checkpoints, connections, and the truth about a lost COMMIT."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from perdure.connections import WAIT_SECONDS
from perdure.errors import DatabaseUnavailable, LeaseLost
from perdure.store import calls, running, settles
from perdure.store.refusals import is_refusal
from perdure.worker.batch import PendingPersist

if TYPE_CHECKING:
    from uuid import UUID

    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from perdure.attempt import Attempt
    from perdure.store.calls import Call
    from perdure.store.running import Event
    from perdure.store.settles import Persist, Settlement
    from perdure.store.sql import Names
    from perdure.worker.worker import Worker

__all__ = ["WorkerPort"]

T = TypeVar("T")
_log = logging.getLogger("perdure.worker")
_ASK_AGAIN_SECONDS = 0.1


class WorkerPort:
    """The port of a worker's attempts (`perdure.port.Port`)."""

    def __init__(self, worker: Worker) -> None:
        """Stand between a worker and its attempts."""
        self._worker = worker
        self.names: Names = worker.names
        self.lease_seconds: float = worker.lease_seconds
        self.max_payload_bytes: int = worker.app.config.execution.max_payload_bytes

    @property
    def stopping(self) -> bool:
        """Whether the worker has been asked to stop."""
        return self._worker.stopping

    def holds(self, worker_id: UUID) -> bool:
        """Whether the lease of this id is valid, by this process's monotonic clock."""
        return self._worker.holds(worker_id)

    async def persist(self, attempt: Attempt, entry: Persist) -> None:
        """Write a checkpoint with the next exchange; a cancellation is held until it is known to be written or not."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._worker.desk.persist(PendingPersist(entry, attempt, written))
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

    async def next_event(self, attempt: Attempt) -> Event | None:
        """Read the job's oldest event that the attempt hasn't been given."""
        return await self._ask(attempt, running.next_event(self.names, attempt.job.id, attempt.handed))

    async def steps(self, attempt: Attempt) -> dict[str, bytes]:
        """Read what the job's steps have returned."""
        return await self._ask(attempt, running.steps(self.names, attempt.job.id))

    async def begin_sleep(self, attempt: Attempt, key: str, seconds: float, found: bytes | None) -> running.SleepBegun:
        """Store until when a sleep lasts, or find it stored."""
        version = attempt.task.options.version
        sleep = running.Sleep(attempt.job.id, attempt.job.claim, key, seconds, found, version)
        while True:
            answer = await self._ask(attempt, running.begin_sleep(self.names, attempt.worker_id, sleep))
            if answer is not None:
                return answer
            await self._wait_while_locked(attempt)

    async def upgrade(self, attempt: Attempt, entry: running.Upgrade) -> None:
        """Write both payloads as newer code has them.

        Raises:
            LeaseLost: The attempt may not write any more.
        """
        while not await self._ask(attempt, running.upgrade(self.names, attempt.worker_id, entry)):
            row = await self._wait_while_locked(attempt)
            # An answer may have been lost: then the second try finds the number spent, by itself.
            if row.checkpoint == entry.checkpoint + 1:
                return

    async def _wait_while_locked(self, attempt: Attempt) -> Settlement:
        """Wait a moment when a write of the attempt found no row, since somebody has it locked.

        Raises:
            LeaseLost: The attempt may not write any more.
        """
        job = attempt.job
        row = (await self._ask(attempt, settles.settlement(self.names, [job.id]))).get(job.id)
        if row is None or row.claim != job.claim or row.worker_id != attempt.worker_id:
            raise attempt.lease_lost()
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return row

    async def _ask(self, attempt: Attempt, call: Call[T]) -> T:
        """Run a call that may be repeated, as often as the database can't and the lease lasts."""
        while True:
            attempt.check_may_write()
            try:
                return await self._worker.desk.run(
                    lambda connection: calls.run(connection, call), what="a job's question"
                )
            except psycopg.Error as error:
                if is_refusal(error) or (error.sqlstate or "").startswith("42"):  # not to be had at any time
                    raise
                _log.debug("job %d: asked again: %s", attempt.job.id, error)
                await asyncio.sleep(_ASK_AGAIN_SECONDS)

    def report_progress(self, attempt: Attempt, data: bytes) -> None:
        """Write the progress with the next exchange."""
        self._worker.desk.report_progress(settles.ProgressReport(attempt.job.id, attempt.job.claim, data))

    def pool(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        """The app's pool."""
        return self._worker.app.pool

    def blocking_pool(self) -> ConnectionPool[Connection[Any]]:
        """The app's sync pool."""
        return self._worker.app.blocking_pool()

    def pool_exhausted(self) -> DatabaseUnavailable:
        """What to raise when a pool has no connection in time."""
        limit = self._worker.app.config.execution.max_connections
        return DatabaseUnavailable(
            f"no connection within {WAIT_SECONDS:g} s: the database is away, or all {limit} connections "
            "(execution.max_connections) are in use: a handler that calls start() inside ctx.transaction() should pass "
            "connection=, or raise max_connections"
        )

    async def has_landed(self, attempt: Attempt, entry: Persist) -> bool:
        """Find out for good whether a COMMIT that nobody acknowledged was done, as often as the connection breaks."""
        while True:
            attempt.check_holds()
            try:
                return await self._worker.desk.run(
                    functools.partial(self._has_landed, attempt, entry), what="question about a lost COMMIT"
                )
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the lane reconnects; asked again until the lease ends
                _log.debug("job %d: was the commit done? %s", attempt.job.id, error)
                await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def _has_landed(self, attempt: Attempt, entry: Persist, connection: AsyncConnection[Any]) -> bool:
        number = await calls.run(connection, running.take_checkpoint_number(self.names, attempt.worker_id, entry))
        if number is not None:
            # The stored checkpoint is the old one, under a number that the lost COMMIT doesn't follow: no progress.
            began_with = attempt.job.checkpoint + number - attempt.checkpoint
            attempt.job, attempt.checkpoint = attempt.job._replace(checkpoint=began_with), number
            return False
        rows = await calls.run(connection, settles.settlement(self.names, [entry.id]))
        row = rows.get(entry.id)
        if row is not None and row.locked:
            message = f"job {entry.id}: its row is locked by somebody else"
            raise DatabaseUnavailable(message)  # asked again
        if row is not None and row.claim == entry.claim and row.checkpoint == entry.checkpoint + 1:
            return True
        if row is not None and (row.claim, row.worker_id, row.checkpoint) == (
            entry.claim,
            attempt.worker_id,
            entry.checkpoint,
        ):
            message = f"job {entry.id}: its row was locked by somebody else for a moment"
            raise DatabaseUnavailable(message)  # asked again: the number can be had by now
        message = (
            f"job {entry.id}, attempt {attempt.job.attempt}: the lease was lost while its transaction was committed"
        )
        raise LeaseLost(message)
