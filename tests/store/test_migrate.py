"""Migrations: each exactly once, wholly or not at all, whoever else migrates."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from perdure.errors import MigrationFailed, SchemaOutdated, SchemaTooNew, ServerTooOld
from perdure.store import calls, jobs, migrate
from perdure.store.migrate import Migration
from perdure.store.sql import names_of
from tests.store.workbench import SCHEMA
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


Connection = psycopg.AsyncConnection[Any]
NAMES = names_of(SCHEMA)


@pytest.fixture
async def connection(every_database: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(every_database, autocommit=True) as made:
        yield made


async def _catalog(connection: Connection, schema: str) -> list[tuple[Any, ...]]:
    """Return what the schema consists of: tables, columns, constraints, indexes, functions, settings."""
    cursor = await connection.execute(
        """
        with mine as (select oid from pg_namespace where nspname = %(schema)s)
        select 'relation', relname::text, relkind::text, reloptions::text
        from pg_class where relnamespace in (select oid from mine)
        union all
        select 'column', c.relname::text, a.attname::text, concat_ws(
            ' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attnum, pg_get_expr(d.adbin, d.adrelid))
        from pg_attribute as a join pg_class as c on c.oid = a.attrelid
            left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where c.relnamespace in (select oid from mine) and a.attnum > 0
        union all
        select 'constraint', conname::text, '', pg_get_constraintdef(oid)
        from pg_constraint where connamespace in (select oid from mine)
        union all
        select 'index', indexname::text, '', indexdef from pg_indexes where schemaname = %(schema)s
        union all
        select 'view', viewname::text, '', definition from pg_views where schemaname = %(schema)s
        union all
        select 'function', proname::text, prosrc::text, '' from pg_proc where pronamespace in (select oid from mine)
        order by 1, 2, 3, 4
        """,
        {"schema": schema},
    )
    return await cursor.fetchall()


async def _ledger(connection: Connection, schema: str = SCHEMA) -> list[tuple[Any, ...]]:
    query = sql.SQL("select number, name, major, checksum from {}.migrations order by number")
    return await (await connection.execute(query.format(sql.Identifier(schema)))).fetchall()


def _with(monkeypatch: pytest.MonkeyPatch, *more: str, major: int = 1) -> list[Migration]:
    """Add migrations after the real ones; returns the new ones."""
    real = migrate.migrations()
    added = [
        Migration(len(real) + place, f"more_{place}", major, text, f"checksum {place}")
        for place, text in enumerate(more, start=1)
    ]
    monkeypatch.setattr(migrate, "migrations", lambda: [*real, *added])
    return added


# --- once ---


async def test_a_fresh_install_applies_all_and_again_nothing(connection: Connection) -> None:
    ours = migrate.migrations()
    assert await migrate.migrate(connection, NAMES) == ours
    assert await _ledger(connection) == [(each.number, each.name, each.major, each.checksum) for each in ours]
    catalog = await _catalog(connection, SCHEMA)
    assert await migrate.migrate(connection, NAMES) == []
    assert await _catalog(connection, SCHEMA) == catalog
    await migrate.check_schema(connection, NAMES)


async def test_the_state_of_a_schema_says_what_is_applied_pending_and_changed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await migrate.schema_state(connection, NAMES)
    assert (state.exists, state.applied, list(state.pending)) == (False, (), migrate.migrations())
    await migrate.migrate(connection, NAMES)
    (added,) = _with(monkeypatch, "select 1;")
    await connection.execute(f"update {SCHEMA}.migrations set checksum = 'other' where number = 1".encode())
    state = await migrate.schema_state(connection, NAMES)
    assert (state.exists, state.applied, state.pending, state.major, state.changed) == (True, (1,), (added,), 1, (1,))


async def test_ten_migrators_at_once_apply_each_migration_once(
    every_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, "create table {schema}.second (n int);", "create table {schema}.third (n int);")
    connections = [await psycopg.AsyncConnection.connect(every_database, autocommit=True) for _ in range(10)]
    try:
        done = await asyncio.gather(*(migrate.migrate(connection, NAMES) for connection in connections))
        assert sorted(each.number for one in done for each in one) == [1, 2, 3]
        assert [row[0] for row in await _ledger(connections[0])] == [1, 2, 3]
        await migrate.check_schema(connections[0], NAMES)
    finally:
        for connection in connections:
            await connection.close()


# --- wholly or not at all ---


async def test_a_failing_migration_is_rolled_back_wholly_and_named(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(connection, NAMES)
    catalog, ledger = await _catalog(connection, SCHEMA), await _ledger(connection)
    _with(monkeypatch, "create table {schema}.half (n int); select 1 / 0;", "create table {schema}.later (n int);")
    with pytest.raises(MigrationFailed) as caught:
        await migrate.migrate(connection, NAMES)
    assert str(caught.value) == "migration 002_more_1 failed and was rolled back: division by zero"
    assert await _catalog(connection, SCHEMA) == catalog
    assert await _ledger(connection) == ledger
    assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


async def test_what_was_applied_before_a_failing_migration_stays(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, "create table {schema}.good (n int);", "create table {schema}.good (n int);")
    with pytest.raises(MigrationFailed, match=r"migration 003_more_2 failed and was rolled back: .*already exists"):
        await migrate.migrate(connection, NAMES)
    assert [row[0] for row in await _ledger(connection)] == [1, 2]
    monkeypatch.undo()
    _with(monkeypatch, "", "create table {schema}.better (n int);")
    assert [each.number for each in await migrate.migrate(connection, NAMES)] == [3]


async def test_a_migration_that_the_administrator_cuts_short_is_named_too(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, "set local statement_timeout = '20ms'; select pg_sleep(10);")
    with pytest.raises(MigrationFailed, match=r"migration 002_more_1 failed and was rolled back: .*statement timeout"):
        await migrate.migrate(connection, NAMES)


async def test_a_lost_connection_is_no_failed_migration(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, "select pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(psycopg.OperationalError):
        await migrate.migrate(connection, NAMES)


# --- locks ---


async def test_a_busy_table_delays_a_migration_and_is_not_blocked_by_it(
    every_database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(connection, NAMES)
    _with(monkeypatch, "alter table {schema}.jobs add column added int;")
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrate, "_ATTEMPTS", 1000)
    async with await psycopg.AsyncConnection.connect(every_database) as user:
        await user.execute(f"select from {SCHEMA}.jobs".encode())  # holds its lock until its transaction ends
        migration = asyncio.create_task(migrate.migrate(connection, NAMES))
        for _ in range(3):  # readers come through, at the latest after the time-out
            await user.execute("set local lock_timeout = '5s'")
            await user.execute(f"select from {SCHEMA}.jobs".encode())
            await asyncio.to_thread(_wait_for_lock_attempt, every_database)
        assert not migration.done()
    assert [each.number for each in await migration] == [2]


def _wait_for_lock_attempt(dsn: str) -> None:
    query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with psycopg.connect(dsn, autocommit=True) as look:
        wait_until(lambda: bool((look.execute(query).fetchone() or (0,))[0]), "no migration waits for a lock")


async def test_a_lock_that_cannot_be_had_fails_the_migration_with_a_sentence(
    every_database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(connection, NAMES)
    _with(monkeypatch, "alter table {schema}.jobs add column added int;")
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrate, "_ATTEMPTS", 3)
    async with await psycopg.AsyncConnection.connect(every_database) as user:
        await user.execute(f"select from {SCHEMA}.jobs".encode())
        with pytest.raises(MigrationFailed) as caught:
            await migrate.migrate(connection, NAMES)
    expected = "migration 002_more_1: no lock could be had in 3 attempts of 20ms; nothing was changed"
    assert str(caught.value) == expected
    assert [row[0] for row in await _ledger(connection)] == [1]


# --- what can't be worked on ---


async def test_a_schema_that_is_not_there_says_what_to_do(connection: Connection) -> None:
    with pytest.raises(SchemaOutdated) as caught:
        await migrate.check_schema(connection, NAMES)
    assert str(caught.value) == (
        "schema 'background_tasks' doesn't exist in this database yet: run `perdure migrate` (or app.migrate())"
    )


async def test_a_schema_of_someone_else_is_as_one_that_is_not_there(connection: Connection) -> None:
    await connection.execute(f"create schema {SCHEMA}".encode())
    with pytest.raises(SchemaOutdated, match="doesn't exist"):
        await migrate.check_schema(connection, NAMES)
    await migrate.migrate(connection, NAMES)
    await migrate.check_schema(connection, NAMES)


async def test_a_schema_that_is_behind_says_what_it_lacks(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(connection, NAMES)
    _with(monkeypatch, "select 1;", "select 2;")
    with pytest.raises(SchemaOutdated) as caught:
        await migrate.check_schema(connection, NAMES)
    assert str(caught.value) == (
        "schema 'background_tasks' lacks the migrations 002_more_1, 003_more_2: "
        "run `perdure migrate` (or app.migrate())"
    )


async def test_a_schema_of_a_newer_major_version_is_refused_by_workers_and_migrators(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        _with(newer, "create table {schema}.future (n int);", major=2)
        newer.setattr(migrate, "MAJOR", 2)
        await migrate.migrate(connection, NAMES)
    for refused in (migrate.check_schema, migrate.migrate):
        with pytest.raises(SchemaTooNew) as caught:
            await refused(connection, NAMES)
        assert str(caught.value) == (
            "schema 'background_tasks' is of major version 2, this perdure understands 1: "
            "upgrade perdure in this process"
        )


async def test_a_schema_of_a_newer_minor_version_is_worked_on(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        _with(newer, "alter table {schema}.jobs add column future int;")
        await migrate.migrate(connection, NAMES)
    await migrate.check_schema(connection, NAMES)
    assert await migrate.migrate(connection, NAMES) == []


async def test_an_old_server_is_refused_by_workers_and_migrators(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", property(lambda _self: 130016))
    for refused in (migrate.check_schema, migrate.migrate):
        with pytest.raises(ServerTooOld) as caught:
            await refused(connection, NAMES)
        assert str(caught.value) == "the server is PostgreSQL 13, perdure needs 14 or newer"


# --- the script ---


async def test_the_script_makes_the_same_schema_as_migrating(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, "create table {schema}.second (n int);")
    await migrate.migrate(connection, NAMES)
    expected, ledger = await _catalog(connection, SCHEMA), await _ledger(connection)
    await connection.execute(f"drop schema {SCHEMA} cascade".encode())
    await connection.execute(migrate.script(NAMES).encode())
    assert await _catalog(connection, SCHEMA) == expected
    assert await _ledger(connection) == ledger
    assert await migrate.migrate(connection, NAMES) == []
    await migrate.check_schema(connection, NAMES)


# --- other schemas ---


async def test_a_migrator_does_not_wait_for_one_of_another_schema(
    every_database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "200ms")
    monkeypatch.setattr(migrate, "_ATTEMPTS", 1)
    other = names_of("other")
    async with await psycopg.AsyncConnection.connect(every_database) as holder:
        await holder.execute("select pg_advisory_xact_lock(%s)", [NAMES.advisory_key])
        assert await migrate.migrate(connection, other) == migrate.migrations()
        with pytest.raises(MigrationFailed, match="no lock could be had"):
            await migrate.migrate(connection, NAMES)


async def test_calls_run_on_async_connections_too(connection: Connection) -> None:
    await migrate.migrate(connection, NAMES)
    assert await calls.run(connection, jobs.get(NAMES, 1)) is None
