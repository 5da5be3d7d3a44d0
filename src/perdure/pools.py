"""psycopg's pools, with connections tried before they are lent: so a restarted database costs nobody a wait.

psycopg_pool has a `check` for this, but waits longer after each broken connection that it meets; of ten broken ones
the last is met after minutes. And a check before every use would double the cost of a start: here who was seen alive
just now is trusted, as long as no other connection turns out to be broken.

The trial also tells whether a pooler is in between: then nothing is prepared, since another may get the session.

Whoever had a connection may have set other rows and cursors for itself: it gets psycopg's own again when it comes back.

Whoever starts job after job gets the same connection each time: the async pool keeps the last one that came back aside,
as long as nobody waits for one. psycopg_pool's own way costs a lone start more than its statement does in the client.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, AsyncCursor, AsyncServerCursor, Connection, Cursor, ServerCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from perdure.store.links import cut_after, cut_after_blocking
from perdure.store.refusals import reason
from perdure.store.sessions import session_is_ours, session_is_ours_blocking

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TriedBlockingPool", "TriedPool"]

_TRUSTED_SECONDS: Final = 1.0
_TRIAL_SECONDS: Final = 5.0
# So often, and when it isn't used for so long, one that is kept aside goes through the pool, which ends old ones.
_ASIDE_SECONDS: Final = 1.0
_RECONNECT_SECONDS: Final = 2.0  # after that only who needs a connection tries

_FINAL: Final = re.compile(r'FATAL:  (?:(?:database|role) ".*" does not exist|password authentication failed)')


class _Trust:
    """Which connections need not be tried."""

    def __init__(self) -> None:
        self._seen_at_seconds: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    def covers(self, connection: object) -> bool:
        return time.monotonic() - self._seen_at_seconds.get(connection, float("-inf")) < _TRUSTED_SECONDS

    def update(self, connection: AsyncConnection[Any] | Connection[Any]) -> None:
        """Learn from a connection that comes back: what has broken one may have broken them all."""
        if connection.closed:
            self._seen_at_seconds.clear()
        else:
            self._seen_at_seconds[connection] = time.monotonic()


class _Failures:
    """Why the last connection couldn't be made."""

    def __init__(self) -> None:
        self._reason = ""
        self._at_seconds = float("-inf")

    def note(self, error: BaseException | None) -> None:
        """Learn that one couldn't be made, or could."""
        self._reason, self._at_seconds = "" if error is None else reason(error), time.monotonic()

    def lately(self, within_seconds: float) -> str:
        """Return why; nothing, if that is longer ago."""
        return self._reason if time.monotonic() - self._at_seconds <= within_seconds else ""


class TriedPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """The async pool."""

    def __init__(self, dsn: str, parameters: Mapping[str, Any], *, max_size: int, wait_seconds: float) -> None:
        """Prepare a pool; nothing is connected before `open`."""
        self._trust = _Trust()
        self.failures = _Failures()
        self._aside: AsyncConnection[Any] | None = None
        self._waiting_here = 0
        self._timer: asyncio.TimerHandle | None = None
        self._goes_through = False
        self._returning: asyncio.Task[None] | None = None
        self._is_closing = False
        super().__init__(
            dsn,
            kwargs=dict(parameters),
            min_size=1,
            max_size=max_size,
            timeout=wait_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            name="perdure",
            open=False,
        )

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[Any]:  # noqa: ASYNC109 - the base's
        """Lend a connection that is alive."""
        until_seconds = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection, self._aside = self._aside, None
            if connection is None:
                connection = await self._lent(max(0.0, until_seconds - time.monotonic()))
            if self._trust.covers(connection):
                return connection
            try:
                with cut_after(connection, _TRIAL_SECONDS):
                    if not await session_is_ours(connection):
                        connection.prepare_threshold = None
            except psycopg.OperationalError:
                await self._discard(connection)
            except BaseException:
                await self._discard(connection)
                raise
            else:
                return connection

    def get_stats(self) -> dict[str, int]:
        """Return what psycopg_pool counts; a connection that is kept aside is available."""
        stats = super().get_stats()
        stats["pool_available"] += self._aside is not None
        return stats

    async def _lent(self, wait_seconds: float) -> AsyncConnection[Any]:
        self._waiting_here += 1  # so that none is kept aside meanwhile
        try:
            return await super().getconn(wait_seconds)
        finally:
            self._waiting_here -= 1

    async def putconn(self, conn: AsyncConnection[Any]) -> None:
        """Take a connection back, with psycopg's rows and cursors as it was lent."""
        conn.row_factory, conn.cursor_factory, conn.server_cursor_factory = tuple_row, AsyncCursor, AsyncServerCursor
        self._trust.update(conn)
        if (
            self._aside is None
            and not (self._waiting_here or self._goes_through or self._is_closing)
            and conn.pgconn.transaction_status == TransactionStatus.IDLE
        ):
            self._aside = conn
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_ASIDE_SECONDS, self._look_aside)
            return
        self._goes_through = False
        await super().putconn(conn)

    def _look_aside(self) -> None:
        self._timer = None
        connection, self._aside = self._aside, None
        self._goes_through = connection is None  # it is lent just now
        if connection is not None:
            self._returning = asyncio.create_task(super().putconn(connection))

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - the base's
        """Close it, and its connections as they come back."""
        self._is_closing = True
        connection, self._aside = self._aside, None
        if self._timer is not None:
            self._timer.cancel()
        if connection is not None:
            await super().putconn(connection)
        await super().close(timeout)

    async def _discard(self, connection: AsyncConnection[Any]) -> None:
        await connection.close()
        await self.putconn(connection)

    async def _connect(self, timeout: float | None = None) -> AsyncConnection[Any]:  # noqa: ASYNC109 - the base's
        """Connect; let a task be cancelled that does.

        psycopg_pool's own takes the cancellation for a connection that couldn't be made, and goes on. A program that
        ends without closing its app, while the pool grows, would wait for it in `asyncio.run` for ever.
        """
        try:
            connection = await super()._connect(timeout)
        except psycopg.OperationalError as error:
            self.failures.note(error)
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                asyncio.get_running_loop().call_soon(task.cancel)
            raise
        self.failures.note(None)
        return connection


class TriedBlockingPool(ConnectionPool[Connection[Any]]):
    """The sync pool."""

    def __init__(self, dsn: str, parameters: Mapping[str, Any], *, max_size: int, wait_seconds: float) -> None:
        """Open a pool; its connections are made when they are needed."""
        self._trust = _Trust()
        self.failures = _Failures()
        super().__init__(
            dsn,
            kwargs=dict(parameters),
            min_size=0,
            max_size=max_size,
            timeout=wait_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            name="perdure blocking",
            open=True,
        )

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """Lend a connection that is alive."""
        until_seconds = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = super().getconn(max(0.0, until_seconds - time.monotonic()))
            if self._trust.covers(connection):
                return connection
            try:
                # Who waits in a thread can't be told that the time is over: so the trial ends with it.
                with cut_after_blocking(connection, min(_TRIAL_SECONDS, until_seconds - time.monotonic())):
                    if not session_is_ours_blocking(connection):
                        connection.prepare_threshold = None
            except psycopg.OperationalError:
                self._discard(connection)
            except BaseException:
                self._discard(connection)
                raise
            else:
                return connection

    def _connect(self, timeout: float | None = None) -> Connection[Any]:
        """Connect; tell all who wait at once of a refusal that waiting doesn't change."""
        try:
            connection = super()._connect(timeout)
        except psycopg.OperationalError as error:
            self.failures.note(error)
            if _is_final(error):
                with self._lock:
                    waiting = [*self._waiting]
                    self._waiting.clear()
                for client in waiting:
                    client.fail(error)
            raise
        self.failures.note(None)
        return connection

    def putconn(self, conn: Connection[Any]) -> None:
        """Take a connection back, with psycopg's rows and cursors as it was lent."""
        conn.row_factory, conn.cursor_factory, conn.server_cursor_factory = tuple_row, Cursor, ServerCursor
        self._trust.update(conn)
        super().putconn(conn)

    def _discard(self, connection: Connection[Any]) -> None:
        connection.close()
        self.putconn(connection)


def _is_final(error: psycopg.OperationalError) -> bool:
    """Tell whether the server refuses what the dsn says; libpq has no code for that, so it is known in English only."""
    said = str(error)
    return _FINAL.search(said) is not None and "\n- " not in said  # of several hosts, another may be away
