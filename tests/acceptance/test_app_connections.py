"""An app's connections: lost with the database, all in use, and given back by calls that are cancelled."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from perdure import App, JobQuery
from perdure.errors import DatabaseUnavailable
from tests.support.clients import Meta, define

if TYPE_CHECKING:
    from tests.support.cluster import Cluster


async def test_a_restarted_database_costs_a_call_or_none(
    private_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = private_cluster.create_database()
    async with App(private_cluster.dsn(database)) as app:
        task = define(app)
        await app.migrate()
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 3600.0)
        await task.start(Meta("before"))
        private_cluster.stop("immediate")
        private_cluster.start()
        with pytest.raises(DatabaseUnavailable, match="whether the database has done it can't be known"):
            await task.start(Meta("just after"))
        await asyncio.gather(*(task.start(Meta("after")) for _ in range(20)))
        assert app.pool.get_stats()["pool_size"] > 3

        # Connections that lay unused for a while, here: at all, are tried before they are lent.
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
        private_cluster.stop("immediate")
        private_cluster.start()
        await asyncio.gather(*(task.start(Meta("again")) for _ in range(20)))
        async with app.pool.connection() as connection:
            await connection.execute("select 1")
        shops = [job.metadata.shop async for job in app.jobs()]
        assert shops == ["before"] + ["after"] * 20 + ["again"] * 20


async def test_when_no_connection_is_free_the_error_says_what_to_do(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with App(migrated_database, execution={"max_connections": 1}) as app:
        task = define(app)
        monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 0.05)
        app.pool.timeout = 0.05
        async with app.pool.connection() as connection:
            with pytest.raises(DatabaseUnavailable, match=r"start: no connection within 0\.05 s: .* all 1 connections"):
                await task.start(Meta("a"))
            with pytest.raises(DatabaseUnavailable, match=r"inside ctx\.transaction\(\), pass its own: connection=…"):
                await task.start(Meta("a"))
            await task.start(Meta("b"), connection=connection)
        await task.start(Meta("c"))


async def test_cancelled_calls_leave_the_pool_as_it_was(migrated_database: str) -> None:
    async with App(migrated_database, execution={"max_connections": 3}) as app:
        task = define(app)
        for after_turns in range(60):
            starting = [asyncio.create_task(task.start(Meta("a"))) for _ in range(5)]
            for _ in range(after_turns):
                await asyncio.sleep(0)
            for call in starting:
                call.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(task.start(Meta("after")) for _ in range(20)))
        stats = app.pool.get_stats()
        assert stats["pool_size"] == stats["pool_available"] <= 3
        assert len([job async for job in app.jobs(JobQuery(metadata={"shop": "after"}))]) == 20


async def test_a_connection_that_is_used_all_the_time_grows_no_older_than_others(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last one that came back is kept aside for the next call: now and then it must go through the pool, too.
    monkeypatch.setattr("perdure.pools._ASIDE_SECONDS", 0.05)
    async with App(migrated_database, execution={"max_connections": 1}) as app:
        task = define(app)

        async def backend() -> int:
            async with app.pool.connection() as connection:
                return connection.info.backend_pid

        app.pool.max_lifetime = 0.2  # of those that are made from now on
        first = await backend()
        async with app.pool.connection() as connection:
            await connection.close()
        second = await backend()
        assert second != first
        async with asyncio.timeout(20):
            while await backend() == second:
                await task.start(Meta("a"))


async def test_whoever_waits_gets_the_connection_that_comes_back(migrated_database: str) -> None:
    async with App(migrated_database, execution={"max_connections": 1}) as app:
        task = define(app)
        async with asyncio.timeout(20):
            for _ in range(20):
                await asyncio.gather(*(task.start(Meta("a")) for _ in range(5)))
                async with app.pool.connection() as connection:
                    await connection.execute("select 1")
        assert app.pool.get_stats()["pool_size"] == 1


@pytest.mark.parametrize("what", ["database", "user"])
def test_without_awaiting_too_a_dsn_that_is_refused_is_told_at_once_and_why(database: str, what: str) -> None:
    parts = urlsplit(database)
    user = "nobody-here" if what == "user" else parts.username
    name = "nowhere" if what == "database" else parts.path.removeprefix("/")
    app = App(f"postgresql://{user}:s3cret@{parts.hostname}:{parts.port}/{name}")
    task = define(app)
    try:
        for _ in range(2):
            began_seconds = time.monotonic()
            with pytest.raises(
                DatabaseUnavailable, match=r'FATAL: (database "nowhere"|role "nobody-here") does'
            ) as refusal:
                app.blocking.start(task, Meta("a"))
            assert time.monotonic() - began_seconds < 5.0
            assert str(refusal.value).startswith("start: no connection to the database: connection failed: ")
            assert "s3cret" not in "".join(traceback.format_exception(refusal.value))
    finally:
        app.blocking.close()


@pytest.mark.parametrize(
    ("host", "said"),
    [("127.0.0.1:1", "port 1 failed: Connection refused"), ("nowhere.invalid", "failed to resolve host")],
)
def test_without_awaiting_too_a_database_that_is_away_is_told_with_the_cause(
    monkeypatch: pytest.MonkeyPatch, host: str, said: str
) -> None:
    monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 1.0)
    app = App(f"postgresql://nobody:s3cret@{host}/nowhere")
    task = define(app)
    try:
        with pytest.raises(DatabaseUnavailable, match=said) as refusal:
            app.blocking.start(task, Meta("a"))
    finally:
        app.blocking.close()
    assert str(refusal.value).startswith("start: no connection within 1 s: ")
    assert "s3cret" not in "".join(traceback.format_exception(refusal.value))


async def test_a_database_that_went_away_is_told_with_the_cause(
    private_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with App(private_cluster.dsn()) as app:
        task = define(app)
        await app.migrate()
        await task.start(Meta("before"))
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
        monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 1.0)
        app.pool.timeout = 1.0
        private_cluster.stop()
        with pytest.raises(DatabaseUnavailable, match=r"start: no connection within 1 s: connection failed: "):
            await task.start(Meta("meanwhile"))
