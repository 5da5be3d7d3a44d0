"""The application's connections: an async pool, a sync one when it is asked for, and what their failures mean.

A pooled connection is in autocommit mode, so a single statement needs no commit; no other setting is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import PoolClosed, PoolTimeout

from perdure.cancelling import held
from perdure.config.dsn import hide_passwords
from perdure.errors import DatabaseUnavailable, MissingRight, MisuseError, SchemaOutdated, ServerTooOld
from perdure.pools import TriedBlockingPool, TriedPool
from perdure.store.links import Limits, Watch, cut_after_blocking, not_for_ever

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

__all__ = ["BlockingPool", "Home", "Pool", "connect", "explained", "is_in_transaction"]

OLDEST_SERVER: Final = 140_000
WAIT_SECONDS: Final = 10.0
"""How long a call waits for a connection."""
ANSWER_SECONDS: Final = 60.0
"""How long one waits for an answer: from a server that is frozen none ever comes, and the pool would be used up."""

_STARTS: Final = {"start", "start_many", "start_batches", "send"}
_READS: Final = {"jobs", "read a job", "history", "unread_events", "result", "check_resume"}
_MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Open a connection apart from the pool, in autocommit mode.

    Raises:
        DatabaseUnavailable: There is no database, or it lets nobody in.
        ServerTooOld: It is older than PostgreSQL 14.
    """
    try:
        connection = await AsyncConnection.connect(dsn, **_parameters(dsn, may_prepare=False))
    except psycopg.OperationalError as error:
        raise _unreachable(error) from error
    if connection.info.server_version < OLDEST_SERVER:
        version = connection.info.parameter_status("server_version")
        await connection.close()
        message = f"the server is PostgreSQL {version}; perdure needs 14 or newer"
        raise ServerTooOld(message)
    return connection


class Home:
    """The event loop in which something was opened: that can be used there alone."""

    __slots__ = ("_loop", "_process_id")

    def __init__(self) -> None:
        """Begin in this one."""
        self._loop = asyncio.get_running_loop()
        self._process_id = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether it is this one."""
        return asyncio.get_running_loop() is self._loop

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, or is a parent process's: what was opened there can't be closed here."""
        return self._loop.is_closed() or self._process_id != os.getpid()

    def check(self, purpose: str) -> None:
        """Make sure that it is this one.

        Raises:
            MisuseError: It is another.
        """
        if not self.is_here:
            message = (
                f"{purpose}: the app was opened in another event loop than this one; open it (`async with app:`) in "
                "the loop that uses it, and close it there"
            )
            raise MisuseError(message)


class Pool:
    """The async pool, bound to the event loop that it was opened in."""

    def __init__(self, dsn: str, *, max_connections: int, may_prepare: bool = True) -> None:
        """Prepare a pool; nothing is connected before `open`. `may_prepare`: statements, if no pooler is noticed."""
        self.dsn = dsn
        self.max_connections = max_connections
        self.limits = Limits()
        self._home: Home | None = None
        self.pool = TriedPool(
            dsn, _parameters(dsn, may_prepare=may_prepare), max_size=max_connections, wait_seconds=WAIT_SECONDS
        )

    async def open(self) -> None:
        """Open the pool, once a connection could be had.

        Raises:
            DatabaseUnavailable: There is no database, or it lets nobody in.
            ServerTooOld: It is older than PostgreSQL 14.
        """
        self._home = Home()
        await (await connect(self.dsn)).close()
        try:
            # Waited for: so whoever opens hears of what is wrong.
            await self.pool.open(wait=True, timeout=WAIT_SECONDS)
        except BaseException as error:
            await held(self.pool.close())
            if isinstance(error, PoolTimeout):
                raise _unreachable(error) from error
            raise

    @property
    def is_orphaned(self) -> bool:
        """Whether its event loop has ended without closing it, or is in the process that this one was forked from."""
        return self._home is not None and self._home.is_gone

    def check_loop(self, purpose: str) -> None:
        """Make sure that it is used where it was opened.

        Raises:
            MisuseError: This is another event loop.
        """
        if self._home is not None:
            self._home.check(purpose)

    async def close(self) -> None:
        """Close the pool, and its connections as they come back."""
        await self.pool.close()

    def connection(self, purpose: str) -> Lent:
        """Lend a connection for a block; its failures become errors that say what to do.

        Args:
            purpose: What it is for, to be named in errors: "start".

        Raises:
            DatabaseUnavailable: None could be had in time, or it broke.
            SchemaOutdated: The schema isn't there.
            MisuseError: The app was opened in another event loop, which has a pool of its own.
        """
        self.check_loop(purpose)
        return Lent(self, purpose)


class Lent:
    """A connection of the pool for the length of a block: what each call of a client goes through."""

    __slots__ = ("_connection", "_pool", "_purpose")

    def __init__(self, pool: Pool, purpose: str) -> None:
        """Prepare."""
        self._pool = pool
        self._purpose = purpose

    async def __aenter__(self) -> AsyncConnection[Any]:
        """Borrow."""
        pool = self._pool
        try:
            self._connection = await pool.pool.getconn()
        except PoolClosed as error:
            raise _closed(self._purpose) from error
        except PoolTimeout as error:
            raise _no_connection(self._purpose, pool.pool, WAIT_SECONDS) from error
        pool.limits.begin(self._connection, ANSWER_SECONDS)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give back."""
        self._pool.limits.end(self._connection)
        try:
            if isinstance(error, psycopg.Error):
                with explained(self._purpose, self._connection):
                    raise error
        finally:
            await self._pool.pool.putconn(self._connection)


class BlockingPool:
    """The sync pool: opened by the first call, in whichever process that is."""

    def __init__(self, *, max_connections: int, may_prepare: bool = True) -> None:
        """Prepare; nothing is connected before a call. `may_prepare`: as in `Pool`."""
        self.max_connections = max_connections
        self._may_prepare = may_prepare
        self._lock = threading.Lock()
        self._pool: TriedBlockingPool | None = None
        self._watch = Watch()
        self._process_id = 0
        self._finalizer: weakref.finalize[..., Any] | None = None

    def pool(self, dsn: str) -> TriedBlockingPool:
        """Return the pool, opened."""
        with self._lock:
            # A forked process must not use its parent's sockets: it gets a pool of its own.
            if self._pool is None or self._process_id != os.getpid():
                self._process_id = os.getpid()
                self._watch = Watch()
                parameters = _parameters(dsn, may_prepare=self._may_prepare)
                self._pool = TriedBlockingPool(
                    dsn, parameters, max_size=self.max_connections, wait_seconds=WAIT_SECONDS
                )
                # With this, or when the interpreter ends: there its threads would be waited for in vain (from Python
                # 3.13 on for many seconds).
                self._finalizer = weakref.finalize(self, _close_here, self._pool, self._process_id)
            return self._pool

    def close(self) -> None:
        """Close the pool, if there is one."""
        with self._lock:
            self._pool = None
            if self._finalizer is not None:
                self._finalizer()

    @contextlib.contextmanager
    def connection(
        self, dsn_of: Callable[[str], str], purpose: str, limit_seconds: float = math.inf
    ) -> Generator[Connection[Any]]:
        """Lend a connection, as `Pool.connection` does.

        `dsn_of` says for the purpose where to; `limit_seconds` is for the wait and the block together, where that is
        sooner than the limits of any call.
        """
        limit_at_seconds, wait_seconds = time.monotonic() + limit_seconds, min(limit_seconds, WAIT_SECONDS)
        pool, connection = self._lend(dsn_of, purpose, wait_seconds)
        try:
            with explained(purpose, connection), self._limited(connection, limit_at_seconds - time.monotonic()):
                yield connection
        finally:
            pool.putconn(connection)

    def _lend(
        self, dsn_of: Callable[[str], str], purpose: str, wait_seconds: float
    ) -> tuple[TriedBlockingPool, Connection[Any]]:
        until_seconds = time.monotonic() + wait_seconds
        pool = self.pool(dsn_of(purpose))
        while True:
            try:
                return pool, pool.getconn(until_seconds - time.monotonic())
            except PoolClosed as error:
                # Somebody has closed it meanwhile: there is another for whoever needs one, unless the process ends.
                closed, pool = pool, self.pool(dsn_of(purpose))
                if pool is closed:
                    raise _closed(purpose) from error
            except PoolTimeout as error:
                raise _no_connection(purpose, pool, wait_seconds) from error
            except psycopg.OperationalError as error:
                raise _unreachable(error, purpose) from error

    def _limited(self, connection: Connection[Any], seconds: float) -> contextlib.AbstractContextManager[None]:
        if seconds < ANSWER_SECONDS:
            return cut_after_blocking(connection, seconds)
        return self._watch.over(connection, ANSWER_SECONDS)


def _close_here(pool: TriedBlockingPool, process_id: int) -> None:
    """Close a pool in the process that has opened it: a forked one has none of its threads."""
    if process_id == os.getpid():
        pool.close()


@contextlib.contextmanager
def explained(purpose: str, connection: AsyncConnection[Any] | Connection[Any] | None = None) -> Generator[None]:
    """Turn the driver's errors of a call into ours, where there is more to say.

    Args:
        purpose: What the call is, to be named in errors.
        connection: Ours, when it is ours: then its loss is the database's unavailability.

    Raises:
        DatabaseUnavailable: The connection broke under the call.
        SchemaOutdated: The schema isn't there.
        MissingRight: The connection's user may not do that.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise _refused(purpose, error) from error
    except _MISSING as error:
        said = error.diag.message_primary or _line(error)
        message = f"{purpose}: perdure's tables aren't in this database ({said}); run `perdure migrate` first"
        raise SchemaOutdated(message) from error
    except psycopg.OperationalError as error:
        if connection is None or not connection.closed:
            raise
        then = "it can be read again" if purpose in _READS else "whether the database has done it can't be known"
        message = f"{purpose}: the connection to the database broke ({_line(error)}); {then}"
        raise DatabaseUnavailable(message) from error


def is_in_transaction(connection: AsyncConnection[Any] | Connection[Any]) -> bool:
    """Whether a connection is in a transaction: also in that of a pipeline, which shows no sign of it."""
    pgconn = connection.pgconn
    return pgconn.transaction_status != TransactionStatus.IDLE or pgconn.pipeline_status != PipelineStatus.OFF


def _parameters(dsn: str, *, may_prepare: bool) -> dict[str, Any]:
    """What connections are made with, unless the dsn says otherwise."""
    preparing = {} if may_prepare else {"prepare_threshold": None}
    naming = {} if "fallback_application_name" in conninfo_to_dict(dsn) else {"fallback_application_name": "perdure"}
    return {"autocommit": True, **preparing, **naming, **not_for_ever(dsn)}


def _refused(purpose: str, error: psycopg.Error) -> MissingRight:
    said = error.diag.message_primary or _line(error)
    # To a send that finds no live job, the job is read: to tell whether it has ended.
    kind = "viewer" if "all_jobs" in said or purpose in _READS else "starter" if purpose in _STARTS else "worker"
    return MissingRight(
        f"{purpose}: the database's user may not do that ({said}); it takes the rights of a {kind}: "
        f"`perdure migrate --roles` makes a role that has them, to be granted to this user"
    )


def _unreachable(error: Exception, purpose: str = "") -> DatabaseUnavailable:
    return DatabaseUnavailable(f"{purpose and f'{purpose}: '}no connection to the database: {_line(error)}")


def _closed(purpose: str) -> MisuseError:
    return MisuseError(f"{purpose}: the app is closed")


def _no_connection(purpose: str, pool: TriedPool | TriedBlockingPool, wait_seconds: float) -> DatabaseUnavailable:
    why = pool.failures.lately(2 * WAIT_SECONDS) or (
        f"the database is away, or all {pool.max_size} connections (execution.max_connections) are in use; inside "
        "ctx.transaction(), pass its own: connection=…"
    )
    return DatabaseUnavailable(f"{purpose}: no connection within {wait_seconds:.3g} s: {why}")


def _line(error: BaseException) -> str:
    return hide_passwords(" ".join(str(error).split()))
