"""`ctx.transaction()`: the user's rows and the checkpoint in one transaction, fenced by the attempt.

The fence is the last statement before COMMIT and is sent together with it, in one message: so the job's row is locked
neither for the block's length, nor while the server waits for this process. (In a pipeline it would be: the fence is
executed before the COMMIT has come, and no time-out ends a session that waits inside of a pipeline. A process frozen
just then would keep its job from being rescued for as long as it is frozen.)

A COMMIT that nobody acknowledged is never guessed about: the checkpoint's number tells.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolTimeout

from perdure.cancelling import held
from perdure.errors import LeaseLost, MisuseError, PayloadRefused
from perdure.failpoints import reach
from perdure.store import running, settles, transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from psycopg import AsyncConnection, Connection

    from perdure.attempt import Attempt
    from perdure.port import Port
    from perdure.store.calls import Call
    from perdure.store.settles import Persist

__all__ = ["BlockingTransaction", "Transaction"]

T = TypeVar("T")
# Raised by the schema's function fence(): the lease is lost; or it looks so, in an isolation that doesn't see what was
# renewed since the transaction's beginning.
_LEASE_LOST, _LEASE_OLD = "PD001", "PD002"


class _Base:
    """What both kinds share: what to send, and what an answer means."""

    def __init__(self, attempt: Attempt, port: Port) -> None:
        """Prepare a transaction of this attempt; nothing is sent before the block is entered."""
        self._attempt = attempt
        self._port = port

    def _begin(self) -> None:
        attempt = self._attempt
        attempt.check_may_write()
        attempt.check_not_in_transaction("transaction()")
        attempt.enter_transaction()

    def _next(self, status: TransactionStatus) -> tuple[Persist, list[Call[Any]]]:
        """Return the checkpoint, and what goes with the COMMIT: the fence is the last."""
        attempt = self._attempt
        if status is TransactionStatus.IDLE:
            message = (
                f"job {attempt.job.id}: the block of ctx.transaction() has committed or rolled back by itself, so its "
                "rows and the execution metadata can't commit together; leave that to the block's end"
            )
            raise MisuseError(message)
        attempt.check_may_write()
        data = attempt.encode()
        entry, names = attempt.next_checkpoint(data), self._port.names
        fence = settles.fence(names, attempt.worker_id, entry, changed=data != attempt.baseline)
        consume = [running.consume(names, attempt.job.id, entry.events)] if entry.events else []
        return entry, [*consume, fence]

    def _undo(self) -> None:
        self._attempt.undo_transaction()

    def _ask(self, connection: AsyncConnection[Any] | Connection[Any]) -> None:
        """Take note that the connection is asked for something that has a limit."""
        self._attempt.connection, self._attempt.asked_at_seconds = connection, time.monotonic()

    def _leave(self) -> None:
        attempt = self._attempt
        attempt.in_transaction = False
        attempt.connection = attempt.asked_at_seconds = None

    def _not_lent(self, error: BaseException) -> None:
        """Leave, since the pool has lent nothing; say why where that is known."""
        self._leave()
        if isinstance(error, PoolTimeout):
            raise self._port.pool_exhausted() from error

    def _raise_if_fenced(self, error: psycopg.Error) -> None:
        if error.sqlstate not in {_LEASE_LOST, _LEASE_OLD}:
            return
        job = self._attempt.job
        message = (
            f"job {job.id}, attempt {job.attempt}: the lease was lost before the transaction's commit: rolled back"
        )
        if error.sqlstate == _LEASE_LOST:
            self._attempt.refused = lost = LeaseLost(message)
            raise lost from error
        hint = (
            "; or it is valid, but was renewed since the transaction's first statement, which this isolation doesn't "
            "see: keep the block shorter than execution.lease_duration, or in read committed"
        )
        raise LeaseLost(message + hint) from error


class Transaction(_Base):
    """The async context manager behind `Context.transaction`."""

    async def __aenter__(self) -> AsyncConnection[Any]:
        """Begin, on a connection of the application's pool."""
        attempt = self._attempt
        attempt.check_not_in_transaction("transaction()")
        async with attempt.writing:
            self._begin()
        try:
            self._pool = self._port.pool()
            self._connection = await self._pool.getconn()
        except BaseException as error:
            self._not_lent(error)
            raise
        try:
            self._ask(self._connection)
            # Not by `connection.transaction()`, whose COMMIT is a message of its own. And a frozen process must not
            # hold the locks of the user's rows for longer than its lease.
            await transactions.begin(self._connection, idle_seconds=self._port.lease_seconds)
            attempt.asked_at_seconds = None
        except BaseException:
            await held(self._give_up())
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit rows and checkpoint together; or roll both back."""
        await held(self._end(commits=error is None))

    async def _end(self, *, commits: bool) -> None:
        attempt = self._attempt
        self._ask(self._connection)
        try:
            # So an event that another task asks for just now is either of this block, or comes after it.
            async with attempt.writing:
                try:
                    if commits:
                        await self._commit()
                    else:
                        await self._roll_back()
                        self._undo()
                finally:
                    self._leave()
        finally:
            await self._pool.putconn(self._connection)

    async def _give_up(self) -> None:
        """Give the connection back of a block that couldn't begin, however often its task is cancelled meanwhile."""
        try:
            await self._roll_back()
        finally:
            self._leave()
            await self._pool.putconn(self._connection)

    async def _roll_back(self) -> None:
        # Where it fails, the connection is broken, and the server or the pool rolls back.
        with suppress(psycopg.Error):
            await self._connection.rollback()

    async def _commit(self) -> None:
        connection = self._connection
        try:
            entry, last = self._next(connection.info.transaction_status)
        except BaseException:
            await self._roll_back()
            self._undo()
            raise
        try:
            reach("transaction.unsent")
            await transactions.commit(connection, last)
            reach("transaction.committed")
        except PayloadRefused:  # nothing was sent
            await self._roll_back()
            self._undo()
            raise
        except psycopg.Error as error:
            if connection.closed and await self._has_landed(entry):
                self._attempt.wrote(entry)
                return
            await self._roll_back()
            self._undo()
            self._raise_if_fenced(error)
            raise
        self._attempt.wrote(entry)

    async def _has_landed(self, entry: Persist) -> bool:
        try:
            return await self._port.has_landed(self._attempt, entry)
        except LeaseLost:
            self._undo()
            raise


class BlockingTransaction(_Base):
    """The context manager behind `BlockingContext.transaction`."""

    def __init__(self, attempt: Attempt, port: Port, wait_for: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        """Prepare; `wait_for` runs a coroutine on the worker's loop and waits for it in this thread."""
        super().__init__(attempt, port)
        self._wait_for = wait_for

    def __enter__(self) -> Connection[Any]:
        """Begin, on a sync connection of the application's pool."""
        self._begin()
        try:
            self._pool = self._port.blocking_pool()
            self._connection = self._pool.getconn()
        except BaseException as error:
            self._not_lent(error)
            raise
        try:
            self._ask(self._connection)
            transactions.begin_blocking(self._connection, idle_seconds=self._port.lease_seconds)
            self._attempt.asked_at_seconds = None
        except BaseException:
            self._roll_back()
            self._leave()
            self._pool.putconn(self._connection)
            raise
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit rows and checkpoint together; or roll both back."""
        self._ask(self._connection)
        try:
            if error is None:
                self._commit()
            else:
                self._roll_back()
                self._undo()
        finally:
            self._leave()
            self._pool.putconn(self._connection)

    def _roll_back(self) -> None:
        with suppress(psycopg.Error):  # see above
            self._connection.rollback()

    def _commit(self) -> None:
        connection = self._connection
        try:
            self._attempt.check_thread_not_stopped()
            entry, last = self._next(connection.info.transaction_status)
        except BaseException:
            self._roll_back()
            self._undo()
            raise
        try:
            reach("transaction.unsent")
            transactions.commit_blocking(connection, last)
            reach("transaction.committed")
        except PayloadRefused:  # nothing was sent
            self._roll_back()
            self._undo()
            raise
        except psycopg.Error as error:
            if connection.closed and self._has_landed(entry):
                self._attempt.wrote(entry)
                return
            self._roll_back()
            self._undo()
            self._raise_if_fenced(error)
            raise
        self._attempt.wrote(entry)

    def _has_landed(self, entry: Persist) -> bool:
        try:
            landed: bool = self._wait_for(self._port.has_landed(self._attempt, entry))
        except LeaseLost:
            self._undo()
            raise
        return landed
