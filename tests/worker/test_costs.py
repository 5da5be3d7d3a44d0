"""What jobs cost, in counts that no busy machine changes: a guard against slow creep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context
from perdure.worker.lane import Lane
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster import Cluster

JOBS = 2_000


@pytest.fixture
def own_database(private_cluster: Cluster) -> str:
    """A server of its own: WAL is counted for all databases of one."""
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    return dsn


@pytest_asyncio.fixture
async def observer(own_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(own_database, autocommit=True) as connection:
        yield connection


async def wal_bytes(observer: psycopg.AsyncConnection[Any]) -> int:
    row = await (
        await observer.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_drain_shares_its_round_trips_and_writes_little(
    own_database: str, observer: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(own_database, execution={"concurrency": 500})
    settling = 0
    send = Lane._send

    async def counted(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        nonlocal settling
        settling += "finish" in calls
        return await send(lane, calls)

    monkeypatch.setattr(Lane, "_send", counted)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with app:
        before = await wal_bytes(observer)
        jobs = await task.start_many(range(JOBS))
        started = await wal_bytes(observer)
        async with app.worker():
            for job in jobs:
                await job.result(timeout=30)
        ended = await wal_bytes(observer)
    # Measured: 10 to 15 round trips that settle; 335 and 804 bytes of WAL a job, without full pages, which a
    # checkpoint would add.
    assert 0 < settling <= 40
    assert (started - before) / JOBS < 500
    assert (ended - started) / JOBS < 1_200
