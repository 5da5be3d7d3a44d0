"""A statement with its parameters and what to make of its rows, apart from who runs it.

So each verb is written once, and runs on async and sync connections alike, the user's own included: the cursor is
ours, so neither row factories nor adapters of the connection are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from psycopg import AsyncCursor, Cursor
from psycopg.pq import PipelineStatus
from psycopg.rows import tuple_row

from perdure.store import arrays, refusals
from perdure.store.sessions import WorkerConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import AsyncConnection, Connection

__all__ = ["Call", "run", "run_blocking"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One statement to run.

    Attributes:
        statement: The SQL, with psycopg's named placeholders.
        parameters: Their values.
        read: Makes the answer of the rows.
    """

    statement: bytes
    parameters: Mapping[str, object]
    read: Callable[[Sequence[tuple[Any, ...]]], T]


async def run(connection: AsyncConnection[Any], call: Call[T]) -> T:
    """Run a call on an async connection, in whatever transaction that is in."""
    if isinstance(connection, WorkerConnection) and not connection.session_is_ours:
        async with connection.transaction_of_its_own():
            return await _run(connection, call)
    return await _run(connection, call)


async def _run(connection: AsyncConnection[Any], call: Call[T]) -> T:
    cursor = AsyncCursor(connection, row_factory=tuple_row)  # of the client only: there is nothing to close
    arrays.register(cursor)
    with refusals.encodable(connection):
        await cursor.execute(call.statement, call.parameters, binary=True)
        rows = await cursor.fetchall() if _has_rows(cursor) else []
    return call.read(rows)


def run_blocking(connection: Connection[Any], call: Call[T]) -> T:
    """Run a call on a sync connection, in whatever transaction that is in."""
    cursor = Cursor(connection, row_factory=tuple_row)  # as above
    arrays.register(cursor)
    with refusals.encodable(connection):
        cursor.execute(call.statement, call.parameters, binary=True)
        rows = cursor.fetchall() if _has_rows(cursor) else []
    return call.read(rows)


def _has_rows(cursor: AsyncCursor[Any] | Cursor[Any]) -> bool:
    """Whether there is something to fetch: in a pipeline, which only the caller's connection may be in, there is.

    There the answer isn't known before it is fetched. All that runs on a connection of the caller's answers with rows.
    """
    return cursor.rownumber is not None or cursor.connection.pgconn.pipeline_status != PipelineStatus.OFF
