"""A worker of another time line of the database may write nothing, however it comes to the server that has taken over.

What a standby has lost its primary may have acknowledged: then ids of jobs, numbers of claims and of checkpoints come
again, and mean something else. Here the time line is changed under connections that stay as they are, which is how it
looks from behind a pooler. With real servers: `test_failover.py`.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest_asyncio

from perdure import App, Context, LeaseLost, StopReason
from perdure.store import calls, claims, leases
from perdure.store.sql import names_of
from tests.support.jobs import settled_in, until
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import pytest

    from tests.support.cluster import Cluster

NAMES = names_of("background_tasks")
FAIL_OVER = """
    create or replace function background_tasks.timeline() returns text language sql as 'select text ''0000002A'''
"""


@dataclass
class Progress:
    rows: int = 0


@pytest_asyncio.fixture
async def table(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (job bigint, by text)")
        yield connection


def an_app(dsn: str, *, lease_seconds: float) -> App:
    return App(
        dsn,
        scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0},
        execution={"lease_duration": lease_seconds, "shutdown_grace": 0, "cancel_grace": 1},
    )


async def test_what_is_held_is_given_up_and_the_new_life_goes_on_under_another_id(
    migrated_database: str, table: psycopg.AsyncConnection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = an_app(migrated_database, lease_seconds=2)
    begun = asyncio.Event()
    seen: list[tuple[int, StopReason | None]] = []

    @app.task("hold")
    async def hold(ctx: Context[None, None]) -> int:
        if ctx.attempt == 1:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append((ctx.attempt, ctx.stop_reason))
        return ctx.attempt

    async with app, app.worker() as worker:
        job = await hold.start()
        await begun.wait()
        first = worker.worker_id
        await table.execute(FAIL_OVER)
        assert await job.result(timeout=30) == 2
        assert seen == [(1, StopReason.LEASE_LOST)]
        assert worker.worker_id not in {None, first}
    (line,) = [record.message for record in caplog.records if "has lost its lease" in record.message]
    assert line == (
        f"worker {first} has lost its lease (another server has taken over, which may lack the last of what this "
        "worker had written): its jobs are left to others"
    )


async def test_all_writes_are_refused_before_the_worker_knows(
    migrated_database: str, table: psycopg.AsyncConnection[Any]
) -> None:
    app = an_app(migrated_database, lease_seconds=600)  # the next renewal is far away
    begun, go_on = asyncio.Event(), asyncio.Event()
    refused: list[int] = []

    @app.task("writes")
    async def writes(ctx: Context[None, Progress]) -> int:
        begun.set()
        await go_on.wait()
        try:
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (%s, %s)", [ctx.id, ctx.attempt])
                ctx.execution_metadata.rows += 1
        except LeaseLost:
            refused.append(ctx.execution_metadata.rows)
        return ctx.attempt

    async with app, app.worker() as worker:
        first = worker.worker_id
        job = await writes.start()
        await begun.wait()
        await settled_in(worker)
        await table.execute(FAIL_OVER)
        go_on.set()
        await until(lambda: bool(worker.desk.ids()), "its outcome isn't at the desk")
        assert (refused, worker.worker_id) == ([0], first)
        worker._heartbeat.hurry()
        assert await job.result(timeout=30) == 2
    rows = await (await table.execute("select by from effects")).fetchall()
    assert rows == [("2",)]


async def test_nothing_is_claimed_under_the_lease_of_another_life(
    migrated_database: str, table: psycopg.AsyncConnection[Any]
) -> None:
    app = an_app(migrated_database, lease_seconds=600)

    @app.task("quick")
    async def quick(ctx: Context[None, None]) -> int:
        return ctx.attempt

    async with app, app.worker() as worker:
        first = worker.worker_id
        assert first is not None
        await settled_in(worker)
        await table.execute(FAIL_OVER)
        job = await quick.start()
        assert await claimed(table, first, suspect=False) == []
        await table.execute("update background_tasks.jobs set suspect = true")
        assert await claimed(table, first, suspect=True) == []
        worker._heartbeat.hurry()
        assert await job.result(timeout=30) == 1
        assert worker.worker_id != first


async def claimed(table: psycopg.AsyncConnection[Any], worker: UUID, *, suspect: bool) -> list[int]:
    if suspect:
        return [job.id for job in await calls.run(table, claims.claim_suspect(NAMES, worker, queues=None))]
    return [job.id for job in (await calls.run(table, claims.claim(NAMES, worker, want=10, queues=None))).jobs]


async def test_a_sweep_ends_the_leases_of_another_life_and_blames_nobody(
    table: psycopg.AsyncConnection[Any],
) -> None:
    old, new = uuid.uuid4(), uuid.uuid4()
    await register(table, old)
    await table.execute(FAIL_OVER)
    await register(table, new)
    assert (await calls.run(table, leases.sweep(NAMES, new))).lapsed == [old]
    rows = await (await table.execute("select id, lapsed_at, left_at from background_tasks.workers")).fetchall()
    found = {row[0]: row[1:] for row in rows}
    assert None not in found[old]
    assert found[new] == (None, None)
    assert not await calls.run(table, leases.renew(NAMES, old))
    assert await calls.run(table, leases.renew(NAMES, new))


async def register(table: psycopg.AsyncConnection[Any], worker: UUID) -> None:
    facts: dict[str, Any] = {"host": "h", "pid": 1, "concurrency": 1, "queues": None, "version": "0"}
    await calls.run(table, leases.register(NAMES, worker, lease_seconds=600, **facts))


async def test_the_time_line_is_the_servers_own(every_migrated_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(every_migrated_database, autocommit=True) as connection:
        row = await (await connection.execute("select background_tasks.timeline()")).fetchone()
    assert row == ("00000001",)


async def test_a_server_that_doesnt_tell_its_time_line_has_one(every_database: str, every_cluster: Cluster) -> None:
    role, name = f"untold_{uuid.uuid4().hex[:8]}", every_database.rpartition("/")[2]
    async with await psycopg.AsyncConnection.connect(every_database, autocommit=True) as connection:
        await connection.execute(f"create role {role} login".encode())
        try:
            await connection.execute(f"grant create on database {name} to {role}".encode())
            await connection.execute("revoke execute on function pg_current_wal_lsn() from public")
            migrate_database(every_database.replace("postgres@", f"{role}@"))
            row = await (await connection.execute("select background_tasks.timeline()")).fetchone()
            assert row == ("",)
        finally:
            await connection.execute(f"drop owned by {role}; drop role {role}".encode())
