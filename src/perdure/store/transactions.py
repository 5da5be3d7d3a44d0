"""The two ends of a user's transaction: its BEGIN, and its last statements in one message with the COMMIT.

One message is of the simple protocol, which has no parameters: they are written into the text, quoted by libpq. Past
psycopg's cursors, which cost a lone statement as much as all the rest; a connection of another encoding than UTF-8 is
left to them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from psycopg import AsyncClientCursor, ClientCursor, generators
from psycopg.errors import error_from_result
from psycopg.pq import Escaping, ExecStatus
from psycopg.rows import tuple_row

from perdure.store import refusals
from perdure.store.sessions import time_out_milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import AsyncConnection, BaseConnection, Connection
    from psycopg.abc import PQGen
    from psycopg.pq import abc

    from perdure.store.calls import Call

__all__ = ["begin", "begin_blocking", "commit", "commit_blocking"]

_COMMIT: Final = b"; COMMIT"
_PLACE: Final = re.compile(rb"%(?:\((\w+)\)s|%)")
_DONE: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


async def begin(connection: AsyncConnection[Any], *, idle_seconds: float) -> None:
    """Begin a transaction that the server ends when nothing is asked of it for so long."""
    async with connection.lock:
        await connection.wait(_send(connection, _begin(idle_seconds)))


def begin_blocking(connection: Connection[Any], *, idle_seconds: float) -> None:
    """Do as `begin`, on a sync connection."""
    with connection.lock:
        connection.wait(_send(connection, _begin(idle_seconds)))


async def commit(connection: AsyncConnection[Any], given: Sequence[Call[Any]]) -> None:
    """Run calls, of whose answers nothing is wanted, and commit; the transaction is open still when one fails.

    Raises:
        PayloadRefused: The connection's encoding can't hold a text of theirs; nothing was sent.
    """
    text = _text(connection, given)
    if text is None:
        statement, parameters = _together(given)
        with refusals.encodable(connection):
            async with AsyncClientCursor(connection, row_factory=tuple_row) as cursor:
                await cursor.execute(statement, parameters, prepare=False)
        return
    async with connection.lock:
        await connection.wait(_send(connection, text))


def commit_blocking(connection: Connection[Any], given: Sequence[Call[Any]]) -> None:
    """Do as `commit`, on a sync connection."""
    text = _text(connection, given)
    if text is None:
        statement, parameters = _together(given)
        with refusals.encodable(connection), ClientCursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement, parameters, prepare=False)
        return
    with connection.lock:
        connection.wait(_send(connection, text))


def _begin(idle_seconds: float) -> bytes:
    return b"begin; set local idle_in_transaction_session_timeout = %d" % time_out_milliseconds(idle_seconds)


def _together(given: Sequence[Call[Any]]) -> tuple[bytes, dict[str, object]]:
    parameters = {name: value for call in given for name, value in call.parameters.items()}
    return b"; ".join(call.statement for call in given) + _COMMIT, parameters


def _send(connection: BaseConnection[Any], text: bytes) -> PQGen[None]:
    pgconn = connection.pgconn
    pgconn.send_query(text)
    for result in (yield from generators.execute(pgconn)):
        if result.status not in _DONE:
            raise error_from_result(result)


def _text(connection: BaseConnection[Any], given: Sequence[Call[Any]]) -> bytes | None:
    """Return the message; None when this is for psycopg's cursor."""
    if connection.pgconn.parameter_status(b"client_encoding") != b"UTF8":
        return None
    escaping = Escaping(connection.pgconn)
    return b"; ".join(_written(call, escaping) for call in given) + _COMMIT


def _written(call: Call[Any], escaping: abc.Escaping) -> bytes:
    def place(found: re.Match[bytes]) -> bytes:
        name = found[1]
        return b"%" if name is None else _literal(call.parameters[name.decode()], escaping)

    return _PLACE.sub(place, call.statement)


def _literal(value: object, escaping: abc.Escaping) -> bytes:
    """Write a value: as text, since each placeholder is cast to its type."""
    if value is None:
        return b"NULL"
    text = value if isinstance(value, str) else _plain(value)
    return bytes(escaping.escape_literal(text.encode()))


def _plain(value: object) -> str:
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, list):
        return "{" + ",".join(str(int(one)) for one in cast("list[int]", value)) + "}"
    message = f"a {type(value).__name__} can't be written into a message"
    raise TypeError(message)
