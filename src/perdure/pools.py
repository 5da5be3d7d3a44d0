"""psycopg's pools, with connections tried before they are lent: so a restarted database costs nobody a wait.

psycopg_pool has a `check` for this, but waits longer after each broken connection that it meets; of ten broken ones
the last is met after minutes. And a check before every use would double the cost of a start: here who was seen alive
just now is trusted, as long as no other connection turns out to be broken.

The trial also tells whether a pooler is in between: then nothing is prepared, since another may get the session.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from perdure.store.links import cut_after, cut_after_blocking
from perdure.store.sessions import session_is_ours, session_is_ours_blocking

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TriedBlockingPool", "TriedPool"]

_TRUSTED_SECONDS: Final = 1.0
_TRIAL_SECONDS: Final = 5.0
_RECONNECT_SECONDS: Final = 2.0  # after that only who needs a connection tries


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


class TriedPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """The async pool."""

    def __init__(self, dsn: str, parameters: Mapping[str, Any], *, max_size: int, wait_seconds: float) -> None:
        """Prepare a pool; nothing is connected before `open`."""
        self._trust = _Trust()
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
            connection = await super().getconn(max(0.0, until_seconds - time.monotonic()))
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

    async def putconn(self, conn: AsyncConnection[Any]) -> None:
        """Take a connection back."""
        self._trust.update(conn)
        await super().putconn(conn)

    async def _discard(self, connection: AsyncConnection[Any]) -> None:
        await connection.close()
        await self.putconn(connection)


class TriedBlockingPool(ConnectionPool[Connection[Any]]):
    """The sync pool."""

    def __init__(self, dsn: str, parameters: Mapping[str, Any], *, max_size: int, wait_seconds: float) -> None:
        """Open a pool; its connections are made when they are needed."""
        self._trust = _Trust()
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
                with cut_after_blocking(connection, _TRIAL_SECONDS):
                    if not session_is_ours_blocking(connection):
                        connection.prepare_threshold = None
            except psycopg.OperationalError:
                self._discard(connection)
            except BaseException:
                self._discard(connection)
                raise
            else:
                return connection

    def putconn(self, conn: Connection[Any]) -> None:
        """Take a connection back."""
        self._trust.update(conn)
        super().putconn(conn)

    def _discard(self, connection: Connection[Any]) -> None:
        connection.close()
        self.putconn(connection)
