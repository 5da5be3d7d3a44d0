"""What a handler sees of its attempt: `Context`, and its twin for handlers that run in a thread.

Holds no rules of its own: fences are in the SQL, checkpoints in `attempt`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from perdure.transaction import BlockingTransaction, Transaction

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from perdure.attempt import Attempt, Port

__all__ = ["BlockingContext", "Context"]

M = TypeVar("M")
X = TypeVar("X")
T = TypeVar("T")

_PROGRESS_SECONDS = 1.0
_logger = logging.getLogger("perdure.job")
_encode = msgspec.json.Encoder().encode


class _Progress(msgspec.Struct):
    done: float
    total: float | None
    note: str | None
    at: datetime


class _BaseContext(Generic[M, X]):
    """What both contexts share."""

    __slots__ = ("_attempt", "_port")

    def __init__(self, attempt: Attempt, port: Port) -> None:
        """Show an attempt to its handler."""
        self._attempt = attempt
        self._port = port

    @property
    def id(self) -> int:
        """The job's id."""
        return self._attempt.job.id

    @property
    def metadata(self) -> M:
        """The job's input. It never changes; what is changed in the object is not stored."""
        metadata: M = self._attempt.metadata
        return metadata

    @property
    def execution_metadata(self) -> X:
        """The checkpoint: change it (or set it) as the work goes on; see `persist` and `transaction`."""
        execution_metadata: X = self._attempt.execution_metadata
        return execution_metadata

    @execution_metadata.setter
    def execution_metadata(self, value: X) -> None:
        self._attempt.execution_metadata = value

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; it never goes back."""
        return self._attempt.job.attempt

    @property
    def retry_number(self) -> int:
        """How many enqueueing retries have been spent."""
        return self._attempt.job.retry_number

    @property
    def stopping(self) -> bool:
        """Whether the worker, or this attempt, has been asked to stop: come to a good place to end."""
        return self._attempt.stopping

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`perdure.job`) whose records carry the job's id, its task and the attempt."""
        job = self._attempt.job
        return logging.LoggerAdapter(_logger, {"job_id": job.id, "task": job.task, "attempt": job.attempt})

    def _report(self, done: float, total: float | None, note: str | None) -> None:
        attempt = self._attempt
        if attempt.closed:
            return
        is_waiting = attempt.next_progress is not None
        attempt.next_progress = _encode(_Progress(done, total, note, datetime.now(UTC)))
        if is_waiting:
            return
        wait_seconds = attempt.progress_at_seconds + _PROGRESS_SECONDS - attempt.loop.time()
        if wait_seconds <= 0:
            self._flush_progress()
        else:
            attempt.loop.call_later(wait_seconds, self._flush_progress)

    def _flush_progress(self) -> None:
        attempt = self._attempt
        data, attempt.next_progress = attempt.next_progress, None
        if data is not None and not attempt.closed:
            attempt.progress_at_seconds = attempt.loop.time()
            self._port.report_progress(attempt, data)


class Context(_BaseContext[M, X]):
    """What an `async def` handler sees of its attempt.

    The job goes on from `execution_metadata` as it was last stored: by `persist()`, by the commit of
    `transaction()`, or with the outcome.
    """

    __slots__ = ()

    async def persist(self) -> None:
        """Store the execution metadata as it stands now.

        Raises:
            LeaseLost: This attempt may not write any more.
            PayloadRefused: The execution metadata can't be stored as it is; the message says where and why.
            MisuseError: A `transaction()` is open: its commit stores the execution metadata.
        """
        attempt = self._attempt
        attempt.check_not_in_transaction("persist()")
        async with attempt.writing:
            attempt.check_may_write()
            await self._port.persist(attempt, attempt.encode())

    def transaction(self) -> Transaction:
        """Open a transaction whose rows and the execution metadata commit together, or not at all.

        `async with ctx.transaction() as connection:` gives a psycopg connection of the application's pool. Leaving
        the block commits, unless this attempt has lost its lease; leaving it by an exception rolls back and puts the
        execution metadata back to what it was at entry.

        Raises:
            LeaseLost: When the block is left: nothing of it is kept.
            MisuseError: A transaction of this attempt is open already.
        """
        return Transaction(self._attempt, self._port)

    async def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Show how far the job is. Written at most once a second, and persists nothing else.

        Args:
            done: How much is done, in whatever unit.
            total: How much there is, when that is known.
            note: A few words on what is being done.
        """
        self._report(done, total, note)


class BlockingContext(_BaseContext[M, X]):
    """What a `def` handler, which runs in a thread, sees of its attempt.

    A thread can't be interrupted: a stop raises `asyncio.CancelledError` at the handler's next call of the context.
    """

    __slots__ = ()

    def persist(self) -> None:
        """Store the execution metadata as it stands now; raises as `Context.persist` does."""
        attempt = self._attempt
        attempt.check_thread_not_stopped()
        attempt.check_not_in_transaction("persist()")
        self._wait_for(self._port.persist(attempt, attempt.encode()))

    def transaction(self) -> BlockingTransaction:
        """Open a transaction as `Context.transaction` does, with a sync psycopg connection."""
        self._attempt.check_thread_not_stopped()
        return BlockingTransaction(self._attempt, self._port, self._wait_for)

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Show how far the job is, as `Context.progress` does."""
        self._attempt.check_thread_not_stopped()
        self._attempt.loop.call_soon_threadsafe(self._report, done, total, note)

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._attempt.loop).result()
