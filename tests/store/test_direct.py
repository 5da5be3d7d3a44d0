"""Lone statements go past the driver's cursor, and say and answer the same."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.store import arrays, calls, direct
from perdure.store.calls import Call
from perdure.store.sql import names_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ANSWER = (
    b"select %(text)s::text, %(small)s::smallint, %(int)s::int, %(big)s::bigint, %(float)s::float8, %(yes)s::boolean, "
    b"%(json)s::json, %(jsonb)s::jsonb, %(none)s::text, 7 %% 4, "
    b"array[1, -2]::bigint[], array[]::bigint[], array['a', null, 'b']::text[], %(packed)s::bigint[], "
    b"'2026-11-24 12:00:00.000001+02'::timestamptz, 'infinity'::timestamptz, '-infinity'::timestamptz, "
    b"'00000000-0000-0000-0000-000000000001'::uuid, %(time)s::timestamptz, %(times)s::timestamptz[] = array["
    b"'2026-11-24 12:00:00.000001+02', null]::timestamptz[], %(floats)s::float8[] = array[0.5, null]::float8[]"
)
_TIME = datetime(2026, 11, 24, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))


def _call(statement: bytes, **parameters: object) -> Call[list[tuple[Any, ...]]]:
    return Call(statement, parameters, list)


def _answer() -> Call[list[tuple[Any, ...]]]:
    return _call(
        _ANSWER,
        text="Rīga",
        small=-1,
        int=2**31 - 1,
        big=-(2**63),
        float=0.1,
        yes=True,
        json='{"a": 1}',
        jsonb="[1]",
        none=None,
        packed=arrays.int8s([5, 6]),
        time=_TIME,
        times=arrays.times([_TIME, None]),
        floats=arrays.float8s([0.5, None]),
    )


@pytest.fixture
async def connection(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        yield connection


async def test_both_ways_give_the_same_answer(connection: psycopg.AsyncConnection[Any], database: str) -> None:
    (by_cursor,) = await calls.run(connection, _answer())
    (found,) = await direct.run(connection, _answer())
    assert found == by_cursor
    assert found[14] == datetime(2026, 11, 24, 10, 0, 0, 1, tzinfo=UTC)
    assert found[14].utcoffset() == timedelta()
    assert found[18:] == (_TIME, True, True)
    with psycopg.connect(database, autocommit=True) as blocking:
        assert direct.run_blocking(blocking, _answer()) == [by_cursor]
        assert calls.run_blocking(blocking, _answer()) == [by_cursor]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_refusal_of_the_transactions_end_is_raised_and_nothing_is_left_of_it(
    connection: psycopg.AsyncConnection[Any], count: int
) -> None:
    await connection.execute("create table once (n int unique deferrable initially deferred)")
    await connection.execute("insert into once values (1)")
    asked = [*[_call(b"select 1")] * (count - 1), _call(b"insert into once values (%(n)s::int) returning n", n=1)]
    for _ in range(2):  # to be prepared, then prepared
        with pytest.raises(psycopg.errors.UniqueViolation):
            await (direct.run(connection, *asked) if count == 1 else direct.run_all(connection, asked, lambda: None))
        assert await direct.run(connection, _call(b"select count(*) from once")) == [(1,)]
        assert await direct.run_all(connection, [_call(b"select 2"), _call(b"select 3")], list) == [[(2,)], [(3,)]]


async def test_many_calls_are_one_transaction_and_answered_in_their_order(
    connection: psycopg.AsyncConnection[Any],
) -> None:
    moments: list[str] = []
    asked = [_call(b"select 1"), _answer(), _call(b"select txid_current()"), _call(b"select txid_current()")]
    for _ in range(2):  # to be prepared, then prepared
        one, answer, first, second = await direct.run_all(connection, asked, lambda: moments.append("sent"))
        assert (one, len(answer), first) == ([(1,)], 1, second)
    assert moments == ["sent", "sent"]
    by_cursor = await direct._run_all_by_cursors(connection, asked[:2], lambda: moments.append("by cursor"))
    assert by_cursor == [one, answer]


async def test_an_error_undoes_what_was_sent_with_it(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("create table kept (n int)")
    asked = [_call(b"insert into kept values (%(n)s::int) returning n", n=1), _call(b"select 1 / %(n)s::int", n=0)]
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await direct.run_all(connection, asked, lambda: None)
    assert await direct.run(connection, _call(b"select count(*) from kept")) == [(0,)]


async def test_a_connection_that_ends_in_the_midst_is_lost(connection: psycopg.AsyncConnection[Any]) -> None:
    end = _call(b"select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.OperationalError):
        await direct.run_all(connection, [_answer(), end, _answer()], lambda: None)
    assert connection.closed


async def test_large_calls_of_both_directions_dont_block_each_other(connection: psycopg.AsyncConnection[Any]) -> None:
    large = "x" * 8_000_000
    asked = [_call(b"select %(text)s::text", text=large)] * 4
    assert await direct.run_all(connection, asked, lambda: None) == [[(large,)]] * 4


async def test_a_statement_is_prepared_once_a_connection(connection: psycopg.AsyncConnection[Any]) -> None:
    for _ in range(3):
        await direct.run(connection, _answer())
    cursor = await connection.execute("select count(*) from pg_prepared_statements where name like 'perdure%'")
    assert await cursor.fetchone() == (1,)


async def test_what_somebody_has_discarded_is_prepared_anew(connection: psycopg.AsyncConnection[Any]) -> None:
    await direct.run(connection, _answer())
    await connection.execute("discard all")
    assert await direct.run(connection, _answer()) == await direct.run(connection, _answer())


async def test_in_a_transaction_what_was_discarded_is_an_error(connection: psycopg.AsyncConnection[Any]) -> None:
    async def discard_and_ask() -> None:
        async with connection.transaction():
            await connection.execute("deallocate all")
            await direct.run(connection, _answer())

    await direct.run(connection, _answer())
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        await discard_and_ask()
    assert len(await direct.run(connection, _answer())) == 1


async def test_an_error_is_the_drivers_and_harms_nothing(connection: psycopg.AsyncConnection[Any]) -> None:
    divide = b"select 1 / %(by)s::int"
    with pytest.raises(psycopg.errors.DivisionByZero):
        await direct.run(connection, _call(divide, by=0))
    assert await direct.run(connection, _call(divide, by=1)) == [(1,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        await direct.run(connection, _call(b"select from nowhere"))


@pytest.mark.parametrize(
    ("text", "error"), [("a\0b", psycopg.DataError), ("\ud800", UnicodeEncodeError)], ids=["NUL", "surrogate"]
)
async def test_text_that_cant_be_sent_is_refused_not_cut(
    connection: psycopg.AsyncConnection[Any], text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await direct.run(connection, _call(b"select %(text)s::text", text=text))


async def test_a_connection_of_another_encoding_is_the_cursors(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute("set client_encoding = 'latin1'")
    call = _call(b"select %(text)s::text, length(%(text)s::text)", text="é")
    assert await direct.run(connection, call) == [("é", 1)]  # bytes that are only passed on would come back the same


async def test_one_without_prepared_statements_is_the_cursors(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.prepare_threshold = None
    await direct.run(connection, _answer())
    cursor = await connection.execute("select count(*) from pg_prepared_statements")
    assert await cursor.fetchone() == (0,)


async def test_a_cancelled_call_ends_in_the_server_too(connection: psycopg.AsyncConnection[Any]) -> None:
    await direct.run(connection, _call(b"select pg_sleep(%(seconds)s::float8) is null", seconds=0.0))
    asleep = _call(b"select pg_sleep(%(seconds)s::float8) is null", seconds=600.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await direct.run(connection, asleep)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await direct.run_all(connection, [_answer(), asleep, _answer()], lambda: None)
    assert len(await direct.run(connection, _answer())) == 1


async def test_the_server_can_tell_every_parameters_type(migrated_database: str) -> None:
    names = names_of("background_tasks")
    files = sorted(
        file.name.removesuffix(".sql")
        for file in resources.files("perdure.store").joinpath("queries").iterdir()
        if file.name.endswith(".sql")
    )
    assert len(files) > 50
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        for number, name in enumerate(files):
            text, _parameters = direct._numbered(names.statements[name])
            prepared = connection.pgconn.prepare(b"s%d" % number, text)
            assert prepared.status == psycopg.pq.ExecStatus.COMMAND_OK, (name, prepared.get_error_message())
