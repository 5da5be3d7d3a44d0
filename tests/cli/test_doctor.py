"""`perdure doctor`: a line for each check, what to do where something is wrong, exit code 1 when there is a problem."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.connections import connect
from perdure.store.doctor import Finding, examine
from perdure.store.sql import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.cli.conftest import CommandLine
    from tests.support.cluster import Cluster

NAMES = Names("background_tasks")


async def _examine(dsn: str, names: Names = NAMES) -> dict[str, Finding]:
    return {finding.check: finding async for finding in examine(functools.partial(connect, dsn), names)}


async def _levels(dsn: str) -> dict[str, str]:
    return {check: finding.level for check, finding in (await _examine(dsn)).items()}


# --- the command ---


def test_a_healthy_database_has_no_problem(perdure: CommandLine, every_migrated_database: str) -> None:
    ended = perdure("doctor", "--dsn", every_migrated_database)
    assert (ended.code, ended.err) == (0, "")
    checks = [line[8:].partition(":")[0] for line in ended.out.splitlines()]
    assert checks == [
        *["connection", "server", "writable", "encoding", "settings", "clock", "pooler", "notifications", "rights"],
        *["schema", "workers", "tasks", "retention"],
    ]
    assert "problem" not in ended.out
    assert "retention: finished jobs are kept: nothing deletes them by itself (about 0 now, " in ended.out
    assert ended.out.endswith(" -> how to delete old ones: docs/operations.md#deleting-finished-jobs\n")
    assert "workers: no worker is running -> start one: perdure worker MODULE:APP" in ended.out


def test_a_missing_schema_is_a_problem_and_exits_with_1(perdure: CommandLine, database: str) -> None:
    ended = perdure.inside("doctor", "--dsn", database)
    assert ended.code == 1
    line = "problem schema: the schema 'background_tasks' isn't there -> run: perdure migrate"
    assert ended.out.splitlines()[-1] == line


def test_a_database_that_is_away_is_a_problem_and_no_error(perdure: CommandLine) -> None:
    ended = perdure.inside("doctor")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("problem connection: postgresql://nobody@127.0.0.1:1/nowhere (PERDURE_DSN): ")
    assert ended.out.count("\n") == 1


def test_json_holds_the_same(perdure: CommandLine, database: str) -> None:
    findings = perdure.inside("doctor", "--dsn", database, "--output", "json").json
    assert findings[0]["check"] == "connection"
    assert findings[-1] == {
        "check": "schema",
        "level": "problem",
        "text": "the schema 'background_tasks' isn't there",
        "advice": "run: perdure migrate",
    }


# --- each check, on servers that are so ---


async def test_a_user_without_rights_is_named_with_what_is_denied(migrated_database: str, visitor: str) -> None:
    dsn = make_conninfo(migrated_database, user=visitor)
    found = (await _examine(dsn))["rights"]
    assert (found.level, found.text) == ("problem", f"the user '{visitor}' may not use the schema")
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(f"grant usage on schema background_tasks to {visitor}".encode())
        connection.execute(f"grant select on all tables in schema background_tasks to {visitor}".encode())
        found = (await _examine(dsn))["rights"]
        assert (found.level, found.text) == ("note", f"the user '{visitor}' may only read")
        denied = "attempts, bands, events, finished_jobs, job_ids, jobs, steps, workers"
        assert found.advice.startswith(f"a worker uses {denied} as well: `perdure migrate --roles` makes the role")
        rest = (
            "insert, update, delete on all tables in schema background_tasks",
            "usage on all sequences in schema background_tasks",
        )
        for right in rest:
            connection.execute(f"grant {right} to {visitor}".encode())
    assert (await _levels(dsn))["rights"] == "ok"


@pytest.fixture
def visitor(cluster: Cluster, migrated_database: str) -> Iterator[str]:
    """A role that may do nothing in the database yet; its rights go with the database."""
    name = f"visitor_{uuid.uuid4().hex}"
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(f"create role {name} login".encode())
        yield name
        connection.execute(f"drop owned by {name}".encode())
        connection.execute(f"drop role {name}".encode())


@pytest.mark.parametrize(
    ("setting", "check", "level"),
    [
        ("default_transaction_read_only=on", "writable", "problem"),
        ("default_transaction_isolation=serializable", "settings", "problem"),
        ("statement_timeout=5s", "settings", "note"),
        ("statement_timeout=5min", "settings", "note"),
    ],
)
async def test_settings_that_get_in_the_way(migrated_database: str, setting: str, check: str, level: str) -> None:
    dsn = make_conninfo(migrated_database, options=f"-c {setting.replace(' ', chr(92) + ' ')}")
    findings = [finding async for finding in examine(functools.partial(connect, dsn), NAMES)]
    found = [finding for finding in findings if finding.check == check]
    name = setting.partition("=")[0]
    told = [finding for finding in found if name in finding.text or finding.level == "problem"]
    assert [finding.level for finding in told] == ([] if setting.endswith("5min") else [level])


async def test_an_encoding_that_cant_hold_payloads_is_a_problem(cluster: Cluster) -> None:
    cluster.execute(psycopg.sql.SQL("create database latin encoding 'LATIN1' template template0"))
    try:
        found = (await _examine(cluster.dsn("latin")))["encoding"]
        assert (found.level, found.text.partition(",")[0]) == ("problem", "the database's encoding is LATIN1")
    finally:
        cluster.drop_database("latin")


async def test_clocks_that_are_apart_are_a_problem(migrated_database: str) -> None:
    names = Names("background_tasks")
    names.statements._texts["doctor_clock"] = b"select clock_timestamp() - interval '1 hour'"
    found = (await _examine(migrated_database, names))["clock"]
    assert found.level == "problem"
    assert "3600.0" in found.text or "3599.9" in found.text


async def test_notifications_that_dont_arrive_are_worth_a_note(
    cluster: Cluster, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store.doctor._NOTIFICATION_SECONDS", 0.2)
    # The third connection, which notifies, is to another database: as good as a pooler that swallows it.
    places = iter([migrated_database, migrated_database, cluster.dsn("postgres")])

    async def elsewhere() -> psycopg.AsyncConnection[Any]:
        return await connect(next(places))

    findings = {finding.check: finding async for finding in examine(elsewhere, NAMES)}
    assert findings["notifications"].level == "note"
    assert "pooler in transaction mode" in findings["notifications"].text


async def test_a_pooler_in_between_is_noticed(migrated_database: str, pooler: Callable[[str], str]) -> None:
    found = (await _examine(pooler(migrated_database)))["pooler"]
    assert (found.level, found.text) == ("note", "a pooler such as pgbouncer is in between")
    assert (await _levels(migrated_database))["pooler"] == "ok"


async def test_jobs_that_nobody_can_read_are_a_problem(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(
            "insert into background_tasks.jobs (scheduled_at, created_at, priority, unreadable, queue, task, metadata, "
            "execution_metadata) values (now(), now(), 0, 1, 'default', 'old.task', '{}', '{}')"
        )
    found = (await _examine(migrated_database))["tasks"]
    assert found.level == "problem"
    assert "'old.task'" in found.text


async def test_workers_are_counted_by_their_leases(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute(
            "insert into background_tasks.workers (id, lease_until, lease_seconds, host, pid, concurrency, version) "
            "select gen_random_uuid(), clock_timestamp() + span * interval '1 h', 30, 'h', 1, 1, '1' "
            "from unnest(array[1, 1, -1]) as span"
        )
    found = (await _examine(migrated_database))["workers"]
    assert (found.level, found.text) == ("ok", "2 with a valid lease")


async def test_a_changed_and_a_newer_schema_are_problems(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("update background_tasks.migrations set checksum = 'x'")
        assert "other versions of the migrations 001" in (await _examine(migrated_database))["schema"].text
        connection.execute("update background_tasks.migrations set major = 99")
        assert (await _examine(migrated_database))["schema"].advice == "upgrade perdure here"


@pytest.fixture
async def pooler() -> AsyncIterator[Callable[[str], str]]:
    """A TCP proxy that tells its clients process ids of its own making, as poolers do; gives the dsn through it."""
    async with contextlib.AsyncExitStack() as stack:
        target: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            parts = conninfo_to_dict(target[0])
            back, forth = await asyncio.open_connection(str(parts["host"]), int(str(parts["port"])))
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                await asyncio.gather(_copy(reader, forth), _copy_with_other_pid(back, writer))
            forth.close()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await stack.enter_async_context(server)
        port = server.sockets[0].getsockname()[1]

        def through(dsn: str) -> str:
            target.append(dsn)
            return make_conninfo(dsn, port=port, sslmode="disable", gssencmode="disable")

        yield through


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def _copy_with_other_pid(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        kind = await reader.readexactly(1)
        length = await reader.readexactly(4)
        body = await reader.readexactly(struct.unpack(">i", length)[0] - 4)
        if kind == b"K":
            body = struct.pack(">i", 1) + body[4:]
        writer.write(kind + length + body)
