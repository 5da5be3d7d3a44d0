"""The worker's own connections: their settings, and what becomes of these where the server's session isn't ours.

A pooler in transaction mode (pgbouncer's) gives the session to somebody else after each transaction. What is set or
prepared in it then reaches others, and isn't there for us. So behind any pooler nothing is prepared, and settings are
made for each transaction anew. Connections that users see have no settings, but they do prepare statements.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncCursor, Cursor, IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from perdure.store.links import CONNECT_SECONDS, cut_after, not_for_ever
from perdure.store.resolving import resolved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from typing import Self

    from psycopg import AsyncConnection, BaseConnection, Connection

    from perdure.store.sql import Names

__all__ = [
    "ISOLATION",
    "PLANNER",
    "WorkerConnection",
    "session_is_ours",
    "session_is_ours_blocking",
    "settle_blocking",
    "time_out_milliseconds",
]

ISOLATION: Final = {"default_transaction_isolation": "read committed"}
PLANNER: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Only one plan is sensible for each of a worker's statements; these keep the planner to it on tables it knows
nothing of."""

_BACKEND: Final = b"select pg_backend_pid()"
_HAS_TRANSACTION_TIMEOUT: Final = 170_000
_LONGEST_TIME_OUT_MILLISECONDS: Final = 2**31 - 1


def time_out_milliseconds(seconds: float) -> int:
    """Return what a time-out of the server's is set to: it takes 1 to 2,147,483,647 (24 days), and 0 is none."""
    return max(1, min(_LONGEST_TIME_OUT_MILLISECONDS, int(seconds * 1000)))


def settle_blocking(connection: Connection[Any], names: Names, settings: Mapping[str, str], *, may_keep: bool) -> bool:
    """Make settings of a sync connection's session, and answer whether it is ours; where it isn't, nothing is set."""
    row = connection.execute(*_settle(connection, names, settings, may_keep=may_keep)).fetchone()
    return row is not None and bool(row[0])


def _settle(
    connection: BaseConnection[Any], names: Names, settings: Mapping[str, str], *, may_keep: bool
) -> tuple[bytes, Mapping[str, object]]:
    parameters = {
        "may_keep": may_keep,
        "pid": connection.info.backend_pid,
        "settings": list(settings),
        "values": list(settings.values()),
    }
    return names.statements["session"], parameters


async def session_is_ours(connection: AsyncConnection[Any]) -> bool:
    """Whether no pooler is in between, which gives its clients ids of processes that are of its own making.

    Asked by a cursor of our own: those who have had the connection may have given it other rows and cursors.
    """
    cursor = AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(_BACKEND, prepare=False)
    return await cursor.fetchone() == (connection.info.backend_pid,)


def session_is_ours_blocking(connection: Connection[Any]) -> bool:
    """As `session_is_ours`, of a sync connection."""
    cursor = Cursor(connection, row_factory=tuple_row)
    cursor.execute(_BACKEND, prepare=False)
    return cursor.fetchone() == (connection.info.backend_pid,)


class WorkerConnection(psycopg.AsyncConnection[Any]):
    """A lane's connection: with the planner's settings and a limit for transactions, wherever these can be kept.

    Attributes:
        session_is_ours: Whether the settings are the session's. If not, run statements in `transaction_of_its_own`.
    """

    session_is_ours = True
    _begin = b""
    _settings = b""

    @classmethod
    async def open(cls, dsn: str, names: Names, *, lease_seconds: float, may_keep: bool) -> Self:
        """Connect and make the settings.

        Args:
            dsn: The database.
            names: The schema's names.
            lease_seconds: How long a transaction may take: a process that is frozen in one must not keep its jobs from
                being rescued for longer.
            may_keep: Whether the session may be taken for ours when no pooler is noticed.
        """
        connection = await cls.connect(
            await resolved(dsn),
            autocommit=True,
            prepare_threshold=None,
            application_name="perdure worker",
            client_encoding="UTF8",
            **not_for_ever(dsn),
        )
        try:
            with cut_after(connection, CONNECT_SECONDS):
                await connection._settle(names, lease_seconds, may_keep=may_keep)  # noqa: SLF001 - its own
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _settle(self, names: Names, lease_seconds: float, *, may_keep: bool) -> None:
        limit = str(time_out_milliseconds(lease_seconds))
        has_limit = self.info.server_version >= _HAS_TRANSACTION_TIMEOUT
        settings = PLANNER | ({"transaction_timeout": limit} if has_limit else {})
        cursor = await self.execute(*_settle(self, names, ISOLATION | settings, may_keep=may_keep))
        row = await cursor.fetchone()
        self.session_is_ours = row is not None and bool(row[0])
        if self.session_is_ours:
            self.prepare_threshold = 0
            return
        await self.set_isolation_level(IsolationLevel.READ_COMMITTED)
        settings["idle_in_transaction_session_timeout"] = limit
        self._settings = "; ".join(f"set local {name} = '{value}'" for name, value in settings.items()).encode()
        self._begin = b"begin isolation level read committed; " + self._settings

    @contextlib.asynccontextmanager
    async def transaction_of_its_own(self) -> AsyncGenerator[None]:
        """Run the block in a transaction with the worker's settings; in one that is open already, just make them."""
        if self.info.transaction_status is not TransactionStatus.IDLE:
            await self.execute(self._settings)
            yield
            return
        await self.execute(self._begin)
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                await self.rollback()
            raise
        await self.commit()
