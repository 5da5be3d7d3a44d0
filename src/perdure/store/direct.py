"""Runs a call's statement past the driver's cursor: prepared here, its parameters as text, answered in binary.

On our own connections only. For a lone statement psycopg's cursor costs as much as all the rest: it finds a dumper for
each parameter, and decides about preparing. Here the server says of what types they are, once a connection. What isn't
plain (lists, text that can't be sent) is left to the cursor, and so is a connection of another encoding, or without
prepared statements.
"""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from psycopg import AsyncCursor, OperationalError, errors, generators
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus

from perdure.store import arrays, calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import AsyncConnection, BaseConnection, Connection, abc
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

    from perdure.store.calls import Call

__all__ = ["run", "run_all", "run_blocking"]

T = TypeVar("T")
Rows: TypeAlias = list[tuple[Any, ...]]

_PLACE: Final = re.compile(r"%(?:\((\w+)\)s|%)")
_numbers = itertools.count(1)


class _Known(NamedTuple):
    """What is known of a connection.

    Attributes:
        transformer: Reads its answers.
        names: Of the statements that are prepared on it.
    """

    transformer: abc.Transformer
    names: dict[bytes, bytes]


class _Context(NamedTuple):
    """What psycopg reads values by."""

    adapters: AdaptersMap
    connection: BaseConnection[Any] | None


_connections: WeakKeyDictionary[BaseConnection[Any], _Known] = WeakKeyDictionary()


class _Parameters(NamedTuple):
    """A statement's parameters, in its order; each in the text or the binary format."""

    values: list[bytes | None]
    formats: list[Format]


async def run(connection: AsyncConnection[Any], call: Call[T]) -> T:
    """Run a call on an async connection of ours, in whatever transaction that is in."""
    parameters = _parameters(connection, call)
    if parameters is None:
        return await calls.run(connection, call)
    try:
        rows = await connection.wait(_execute(connection, call.statement, parameters))
    except errors.InvalidSqlStatementName:
        if not _may_go_on(connection):
            raise
        return await calls.run(connection, call)
    return call.read(rows)


async def run_all(
    connection: AsyncConnection[Any], given: Sequence[Call[Any]], before_end: Callable[[], None]
) -> list[Any]:
    """Run calls on an async connection of ours, in one round trip and one transaction.

    Args:
        connection: Ours, in no transaction.
        given: What to run, in this order.
        before_end: Called when all is sent but the transaction's end.
    """
    parameters = [_parameters(connection, call) for call in given]
    plain = [one for one in parameters if one is not None]
    if len(plain) < len(given):
        return await _run_all_by_cursors(connection, given, before_end)
    statements = [call.statement for call in given]
    answers = await connection.wait(_execute_all(connection, statements, plain, before_end))
    return [call.read(rows) for call, rows in zip(given, answers, strict=True)]


async def _run_all_by_cursors(
    connection: AsyncConnection[Any], given: Sequence[Call[Any]], before_end: Callable[[], None]
) -> list[Any]:
    cursors = [AsyncCursor(connection) for _ in given]
    async with connection.pipeline():
        for cursor, call in zip(cursors, given, strict=True):
            arrays.register(cursor)
            await cursor.execute(call.statement, call.parameters, binary=True)
        before_end()
    return [
        call.read(await cursor.fetchall() if cursor.rownumber is not None else ())
        for cursor, call in zip(cursors, given, strict=True)
    ]


def run_blocking(connection: Connection[Any], call: Call[T]) -> T:
    """Run a call on a sync connection of ours, in whatever transaction that is in."""
    parameters = _parameters(connection, call)
    if parameters is None:
        return calls.run_blocking(connection, call)
    try:
        rows = connection.wait(_execute(connection, call.statement, parameters))
    except errors.InvalidSqlStatementName:
        if not _may_go_on(connection):
            raise
        return calls.run_blocking(connection, call)
    return call.read(rows)


def _parameters(connection: BaseConnection[Any], call: Call[Any]) -> _Parameters | None:
    """Return the call's parameters; None when this is for the cursor."""
    if connection.prepare_threshold is None or connection.pgconn.parameter_status(b"client_encoding") != b"UTF8":
        return None
    names, given = _numbered(call.statement)[1], call.parameters
    values: list[bytes | None] = []
    formats = [Format.TEXT] * len(names)
    for index, name in enumerate(names):
        value = given[name]
        match value:
            case None:
                values.append(None)
            case str() if "\0" not in value:
                try:
                    values.append(value.encode())
                except UnicodeEncodeError:
                    return None
            case int():
                values.append(b"%d" % value)  # `str` of a number that is an enum's member may be its name
            case float() | UUID() | datetime():
                values.append(str(value).encode())
            case arrays.Packed():
                values.append(value.pack(connection))
                formats[index] = Format.BINARY
            case _:
                return None
    return _Parameters(values, formats)


def _execute(connection: BaseConnection[Any], statement: bytes, parameters: _Parameters) -> PQGen[Rows]:
    pgconn, names = connection.pgconn, _known(connection).names
    name = names.get(statement)
    if name is None:
        name = _new_name()
        pgconn.send_prepare(name, _numbered(statement)[0])
        _check((yield from generators.execute(pgconn)))
        names[statement] = name
    pgconn.send_query_prepared(name, parameters.values, parameters.formats, Format.BINARY)
    return _rows(connection, _check((yield from generators.execute(pgconn))))


def _execute_all(
    connection: BaseConnection[Any],
    statements: Sequence[bytes],
    parameters: Sequence[_Parameters],
    before_end: Callable[[], None],
) -> PQGen[list[Rows]]:
    pgconn, names = connection.pgconn, _known(connection).names
    pgconn.enter_pipeline_mode()
    new: dict[int, tuple[bytes, bytes]] = {}  # by the place of the answer to its preparation
    places = 0
    for statement, given in zip(statements, parameters, strict=True):
        name = names.get(statement)
        if name is None:
            name = _new_name()
            new[places] = statement, name
            pgconn.send_prepare(name, _numbered(statement)[0])
            places += 1
        pgconn.send_query_prepared(name, given.values, given.formats, Format.BINARY)
        places += 1
    yield from generators.send(pgconn)
    before_end()
    pgconn.pipeline_sync()
    yield from generators.send(pgconn)
    answers: list[PGresult] = []
    refused: list[PGresult] = []
    for place in range(places):
        results = yield from generators.fetch_many(pgconn)
        if not results:
            break  # the connection is lost; what the server has said of it may be among the answers
        answers.append(results[-1])
        if place in new and results[-1].status == ExecStatus.COMMAND_OK:
            statement, name = new[place]
            names[statement] = name  # even if what follows fails
    else:
        refused = yield from _fetch_end(pgconn)
        pgconn.exit_pipeline_mode()
    for result in (*answers, *refused):
        _check([result])
    if len(answers) < places:
        message = "the connection was lost before everything was answered"
        raise OperationalError(message)
    return [_rows(connection, result) for place, result in enumerate(answers) if place not in new]


def _fetch_end(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """Fetch the answer to the transaction's end, and return why it is refused: notifications are sent by it."""
    refused: list[PGresult] = []
    while results := (yield from generators.fetch_many(pgconn)):
        if results[-1].status == ExecStatus.PIPELINE_SYNC:
            break
        refused += results
    return refused


def _known(connection: BaseConnection[Any]) -> _Known:
    known = _connections.get(connection)
    if known is None:
        context = _Context(AdaptersMap(connection.adapters), None)
        arrays.register(context)
        known = _connections[connection] = _Known(Transformer(context), {})
    return known


def _new_name() -> bytes:
    """Return a name for a statement: never the same twice, for the answer to its preparation may get lost."""
    return b"perdure_%d" % next(_numbers)


def _rows(connection: BaseConnection[Any], result: PGresult) -> Rows:
    transformer = _known(connection).transformer
    transformer.set_pgresult(result)
    rows = transformer.load_rows(0, result.ntuples, tuple)
    transformer.set_pgresult(None)
    return rows


def _check(results: Sequence[PGresult]) -> PGresult:
    result = results[-1]
    if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
        raise errors.error_from_result(result)
    return result


def _may_go_on(connection: BaseConnection[Any]) -> bool:
    """Forget what was prepared, since somebody has discarded it; tell whether nothing else was lost by that."""
    _connections.pop(connection, None)
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


@lru_cache(maxsize=512)
def _numbered(statement: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement with the server's placeholders for psycopg's, and the names of its parameters in order."""
    numbers: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name = found[1]
        return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    text = _PLACE.sub(place, statement.decode())
    return text.encode(), tuple(numbers)
