"""The proxy does what the others rely on: each cut comes where it says, and the weather is what it is set to."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.proxy import CUTS, LOST, Weather

if TYPE_CHECKING:
    from tests.support.proxy import Cut, Proxy

INSERT = "insert into seen values (1)"
_BUSY = """
    select count(*) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
        and state <> 'idle'
"""


def _look(proxy: Proxy, statement: str = "select count(*) from seen") -> Any:
    with psycopg.connect(proxy.direct_dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return row[0]


async def _connect(proxy: Proxy, **options: Any) -> psycopg.AsyncConnection[Any]:
    connection = await psycopg.AsyncConnection.connect(proxy.dsn, autocommit=True, **options)
    await connection.execute("create table if not exists seen (n int)")
    return connection


@pytest.mark.parametrize("way", ["text", "parameters", "prepared", "pipeline", "block"])
@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_leaves_it_done_or_not(proxy: Proxy, cut: Cut, way: str) -> None:
    connection = await _connect(proxy, prepare_threshold=None if way == "parameters" else 0)
    if way == "prepared":
        await connection.execute(INSERT + " returning n")  # so that its name alone is sent the next time
        await connection.execute("delete from seen")
    proxy.arm(b"COMMIT" if way == "block" else b"into seen", cut)
    with pytest.raises(psycopg.OperationalError):
        await _insert(connection, way)
    await asyncio.wait_for(proxy.broken.wait(), 10)
    assert connection.closed
    assert _look(proxy) == (0 if cut in LOST else 1)


async def _insert(connection: psycopg.AsyncConnection[Any], way: str) -> None:
    match way:
        case "text":
            await connection.execute(INSERT, prepare=False)
        case "prepared":
            await connection.execute(INSERT + " returning n")
        case "parameters":
            await connection.execute("insert into seen values (%s)", [1])
        case "pipeline":
            async with connection.pipeline():
                await connection.execute("select 1")
                await connection.execute(INSERT)
                await connection.execute("select 2")
        case _:
            async with connection.transaction():
                await connection.execute(INSERT)


async def test_an_unready_client_hears_that_the_statement_is_done(proxy: Proxy) -> None:
    connection = await _connect(proxy)
    proxy.arm(b"into seen", "unready")
    pgconn = connection.pgconn
    pgconn.send_query(INSERT.encode())
    while pgconn.is_busy():
        pgconn.consume_input()
        await asyncio.sleep(0)
    result = pgconn.get_result()
    assert result is not None
    assert result.command_status == b"INSERT 0 1"
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("select 1")
    await connection.close()


@pytest.mark.parametrize("way", ["text", "parameters", "prepared", "pipeline"])
async def test_a_late_message_arrives_when_it_is_delivered_and_with_it_its_batch(proxy: Proxy, way: str) -> None:
    connection = await _connect(proxy, prepare_threshold=None if way == "parameters" else 0)
    if way == "prepared":
        await connection.execute(INSERT + " returning n")
        await connection.execute("delete from seen")
    proxy.arm(b"into seen", "late")
    with pytest.raises(psycopg.OperationalError):
        await _insert(connection, way)
    assert _look(proxy) == 0
    assert _look(proxy, _BUSY) == 0  # nothing of it has come: no transaction is open
    answers = await proxy.deliver()
    assert answers == (["SELECT 1", "INSERT 0 1", "SELECT 1"] if way == "pipeline" else ["INSERT 0 1"])
    assert _look(proxy) == 1


async def test_what_is_said_to_a_late_message_that_is_refused(proxy: Proxy) -> None:
    connection = await _connect(proxy)
    proxy.arm(b"into seen", "late")
    with pytest.raises(psycopg.OperationalError):
        await connection.execute(INSERT)
    with psycopg.connect(proxy.direct_dsn, autocommit=True) as direct:
        direct.execute("alter table seen add check (n > 1)")
    assert await proxy.deliver() == ["23514"]


async def test_only_what_is_armed_is_cut_and_only_once(proxy: Proxy) -> None:
    connection = await _connect(proxy)
    proxy.arm(b"into seen", "before", skip=1)
    await connection.execute(INSERT)
    with pytest.raises(psycopg.OperationalError):
        await connection.execute(INSERT)
    async with await _connect(proxy) as again:
        await again.execute(INSERT)
    assert _look(proxy) == 2


async def test_a_black_hole_swallows_all_and_breaks_nothing(proxy: Proxy) -> None:
    connection = await _connect(proxy, application_name="swallowed")
    other = await _connect(proxy)
    proxy.weather_of["swallowed"] = Weather(black_hole=True)
    asked = asyncio.create_task(connection.execute("select 1"))
    await other.execute(INSERT)
    done, _ = await asyncio.wait({asked}, timeout=0.3)
    assert not done
    assert _look(proxy, "select count(*) from pg_stat_activity where application_name = 'swallowed'") == 1
    proxy.cut_all()
    with pytest.raises(psycopg.OperationalError):
        await asked
    await other.close()


async def test_delays_and_rates_take_their_time(proxy: Proxy) -> None:
    connection = await _connect(proxy)
    proxy.weather.delay_seconds = 0.1
    began = time.monotonic()
    await connection.execute("select 1")
    assert time.monotonic() - began >= 0.2
    proxy.weather = Weather(rate=100_000)
    began = time.monotonic()
    await connection.execute("select repeat('x', 50000), repeat('x', 50000)")
    await connection.execute("select 1")
    assert time.monotonic() - began >= 0.5
    await connection.close()


async def test_who_connects_may_be_sent_away(proxy: Proxy) -> None:
    connection = await _connect(proxy)
    proxy.weather.refuses = True
    with pytest.raises(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(proxy.dsn)
    await connection.execute("select 1")
    await connection.close()
