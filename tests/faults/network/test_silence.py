"""Connections that are silent for ever and look alive, each of its kind: who waits on one notices, and goes on.

A proxy that swallows everything answers the kernel's keepalives, so no time-out of TCP's helps.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import perdure.blocking
from perdure import App, Context, JobState
from perdure.errors import DatabaseUnavailable, LeaseLost
from tests.support.jobs import until
from tests.support.marks import mark
from tests.support.proxy import Weather

if TYPE_CHECKING:
    from perdure.worker.worker import Worker
    from tests.support.proxy import Proxy

LEASE_SECONDS = 2
SILENT = Weather(black_hole=True)


@dataclass
class Place:
    rows: int = 0


def _app(dsn: str, **scheduling: Any) -> App:
    return App(
        dsn,
        scheduling={"polling_delay": 0.1, "scheduler_retry_count": 1, "scheduler_retry_delays": [0], **scheduling},
        execution={"lease_duration": LEASE_SECONDS, "cancel_grace": 0.2, "shutdown_grace": 0},
    )


@pytest.fixture(autouse=True)
def effects(migrated_database: str) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("create table effects (n int)")


def _waits_seconds(worker: Worker) -> float:
    """For how long a renewal has gone without an answer."""
    asked_at_seconds = worker._heartbeat._asked_at_seconds
    return 0.0 if asked_at_seconds is None else time.monotonic() - asked_at_seconds


def _count(proxy: Proxy) -> int:
    with psycopg.connect(proxy.direct_dsn) as connection:
        [(count,)] = connection.execute("select count(*) from effects").fetchall()
        return int(count)


async def test_a_silent_heartbeat_renews_over_another_connection(proxy: Proxy) -> None:
    app = _app(proxy.dsn)
    async with app, app.worker() as worker:
        lease = worker.worker_id
        proxy.weather_of["perdure heartbeat"] = SILENT
        await until(lambda: _waits_seconds(worker) > 0.2, "a renewal is swallowed")
        proxy.weather_of.clear()  # new connections work; the one that renews never answers
        connection = worker._heartbeat._connection
        await until(lambda: worker._heartbeat._connection is not connection, "it renews over another connection")
        await asyncio.sleep(LEASE_SECONDS)  # for longer than the lease would have lasted
        assert worker.worker_id == lease


async def test_a_worker_in_a_black_hole_fences_itself_before_its_lease_ends_and_comes_back(proxy: Proxy) -> None:
    app, other = _app(proxy.dsn), _app(proxy.direct_dsn)
    stopped_at: list[float] = []
    begun = asyncio.Event()

    def define(app: App) -> Any:
        @app.task("lasts")
        async def lasts(ctx: Context[None, None]) -> int:
            begun.set()
            if ctx.attempt == 1:
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped_at.append(time.monotonic())
            return ctx.attempt

        return lasts

    task = define(app)
    define(other)
    async with app, other:
        worker = app.worker()
        async with worker:
            job = await task.start()
            await asyncio.wait_for(begun.wait(), 30)
            proxy.weather = SILENT
            async with other.worker():
                await until(lambda: bool(stopped_at), "the handler is stopped")
                assert stopped_at[0] < worker._heartbeat._valid_until_seconds
                assert await (await other.job(job.id)).result(timeout=30) == 2
            proxy.weather = Weather()
            await until(lambda: worker.worker_id is not None, "the worker has another lease")
            await other.tasks["lasts"].start()
            await until(lambda: len(worker.executor.running) == 1, "it takes jobs again")


@pytest.mark.parametrize("statement", ["claim", "persist", "finish", "release"])
async def test_a_silent_lane_is_left_after_a_lease(proxy: Proxy, statement: str) -> None:
    app = _app(proxy.dsn)

    @app.task("t")
    async def task(ctx: Context[None, Place]) -> int:
        ctx.execution_metadata.rows += 1
        await ctx.persist()
        if ctx.attempt == 1 and statement == "release":
            raise ConnectionError
        return ctx.attempt

    proxy.swallow(mark(statement))  # before the worker's first look, which is always by claim.sql
    async with app, app.worker():
        job = await task.start()
        assert await job.result(timeout=40) == (2 if statement == "release" else 1)
        assert proxy.broken.is_set()
        await until(lambda: not any(one.is_swallowed for one in proxy._connections.values()), "the lane is left")


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("what", [b"begin; set local", mark("fence")], ids=["begin", "commit"])
async def test_a_silent_transaction_is_left_after_a_lease(
    proxy: Proxy, kind: str, what: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where looking costs much, so that it is done seldom: that must delay nothing else.
    monkeypatch.setattr("perdure.worker.strays.rest_seconds", lambda *_took, most, **_least: most)
    app = _app(proxy.dsn)

    @app.task("async")
    async def awaits(ctx: Context[None, Place]) -> int:
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows += 1
        return ctx.execution_metadata.rows

    @app.task("thread")
    def threaded(ctx: perdure.blocking.Context[None, Place]) -> int:
        with ctx.transaction() as connection:
            connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows += 1
        return ctx.execution_metadata.rows

    async with app, app.worker():
        proxy.swallow(what)
        job = await app.tasks[kind].start()
        assert await job.result(timeout=40) == 1
        assert proxy.broken.is_set()
    assert _count(proxy) == 1


async def test_a_statement_of_a_handlers_own_is_broken_off_when_the_lease_is_lost(proxy: Proxy) -> None:
    """Else its thread would be lost for ever, and after a few of them the worker."""
    app = _app(proxy.dsn)
    raised: list[BaseException] = []

    @app.task("thread")
    def threaded(ctx: perdure.blocking.Context[None, Place]) -> int:
        if ctx.attempt == 1:
            try:
                with ctx.transaction() as connection:
                    connection.execute("insert into effects values (1)")
            except BaseException as error:
                raised.append(error)
                raise
        return ctx.attempt

    async with app, app.worker() as worker:
        proxy.swallow(b"insert into effects")
        job = await app.tasks["thread"].start()
        await until(proxy.broken.is_set, "the handler waits in its statement")
        proxy.weather_of["perdure heartbeat"] = SILENT
        await until(lambda: worker.worker_id is None, "the lease is lost")
        proxy.weather_of.clear()
        assert await job.result(timeout=40) == 2
        await until(lambda: bool(raised), "the thread has ended")
    assert _count(proxy) == 0


async def test_a_silent_listener_delays_by_a_poll_and_finds_out(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.store.notify._ROUND_TRIP_SECONDS", 0.5)
    app = _app(proxy.dsn)

    @app.task("quick")
    async def quick(_ctx: Context[None, None]) -> int:
        return 1

    async with app, app.worker() as worker:
        await until(lambda: worker._listener.is_listening, "it listens")
        connection = worker._listener._connection
        proxy.weather_of["perdure listener"] = SILENT
        assert await (await quick.start()).result(timeout=30) == 1  # both of them poll
        await until(lambda: worker._listener._connection is not connection, "it finds out")
        proxy.weather_of.clear()
        await until(lambda: worker._listener.is_listening, "it listens over another connection")


async def test_a_stop_in_a_black_hole_ends_with_the_lease_and_says_what_is_left(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    app, other = _app(proxy.dsn), _app(proxy.direct_dsn)
    begun = asyncio.Event()

    @app.task("lasts")
    async def lasts(ctx: Context[None, None]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with other:
        await app.open()
        worker = app.worker()
        await worker.start()
        await worker.ready.wait()
        job = await lasts.start()
        await asyncio.wait_for(begun.wait(), 30)
        proxy.weather = SILENT
        await asyncio.wait_for(worker.stop(), 40)
        proxy.weather = Weather()
        await app.close()
        assert "stopped without the database" in caplog.text or "has lost its lease" in caplog.text
        assert (await other.job(job.id)).state is JobState.RUNNING  # its lease lapses, and another worker has it


async def test_a_stop_waits_but_a_moment_for_a_silent_connection_over_which_it_would_wake_others(proxy: Proxy) -> None:
    app = _app(proxy.dsn)
    begun = asyncio.Event()

    @app.task("lasts")
    async def lasts(ctx: Context[None, None]) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with app, app.worker() as worker:
        job = await lasts.start()
        await asyncio.wait_for(begun.wait(), 30)
        proxy.swallow(b"pg_notify")
        await asyncio.wait_for(worker.stop(), 40)
        assert proxy.broken.is_set()
        await job.refresh()
        assert job.state is JobState.PENDING


async def test_a_connection_that_is_silent_while_the_schema_is_checked_keeps_no_worker_from_its_start(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.worker.borrowing._CHECK_SECONDS", 0.5)
    app = _app(proxy.dsn)
    async with app:
        proxy.swallow(b"has_table_privilege")
        with pytest.raises(DatabaseUnavailable, match="while its schema was checked"):
            await asyncio.wait_for(app.worker().start(), 40)
        assert proxy.broken.is_set()
        async with app.worker() as worker:
            assert worker.worker_id is not None


async def test_who_persists_is_told_of_the_lost_lease_though_it_is_just_asked_why_the_row_was_not_found(
    proxy: Proxy,
) -> None:
    app = _app(proxy.dsn)
    persisting = asyncio.Event()
    told: asyncio.Queue[BaseException] = asyncio.Queue()

    @app.task("t")
    async def task(ctx: Context[None, Place]) -> None:
        if ctx.attempt == 1:
            persisting.set()
            await locked.wait()
            try:
                await ctx.persist()
            except BaseException as error:
                told.put_nowait(error)
                raise

    locked = asyncio.Event()
    async with app, app.worker() as worker:
        job = await task.start()
        await asyncio.wait_for(persisting.wait(), 30)
        async with await psycopg.AsyncConnection.connect(proxy.direct_dsn) as own:
            await own.execute("select from background_tasks.jobs where id = %s for update", [job.id])
            proxy.swallow(mark("settlement"))
            locked.set()
            await asyncio.wait_for(proxy.broken.wait(), 30)
            proxy.weather = SILENT  # and nothing can be had any more
            await until(lambda: worker.worker_id is None, "the lease is lost")
            assert isinstance(await asyncio.wait_for(told.get(), 30), LeaseLost)
            assert worker.worker_id is None
        proxy.weather = Weather()
        await job.result(timeout=40)


async def test_a_pooled_connection_that_is_silent_is_not_lent(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
    monkeypatch.setattr("perdure.pools._TRIAL_SECONDS", 0.3)
    app = _app(proxy.dsn)

    @app.task("quick")
    async def quick(_ctx: Context[None, None]) -> int:
        return 1

    async with app:
        await quick.start()
        await asyncio.to_thread(app.blocking.start, quick, None)
        proxy.swallow(b"select pg_backend_pid()")
        await quick.start()
        assert proxy.broken.is_set()
        proxy.swallow(b"select pg_backend_pid()")
        await asyncio.to_thread(app.blocking.start, quick, None)
        assert proxy.broken.is_set()
        assert len([job async for job in app.jobs()]) == 4


async def test_a_database_that_swallows_everything_is_said_to_be_away(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
    monkeypatch.setattr("perdure.pools._TRIAL_SECONDS", 0.3)
    app = App(f"{proxy.dsn}&connect_timeout=2")

    @app.task("quick")
    async def quick(_ctx: Context[None, None]) -> int:
        return 1

    async with app:
        await quick.start()
        proxy.weather = SILENT
        with pytest.raises(DatabaseUnavailable, match="no connection within 10 s"):
            await quick.start()
        proxy.weather = Weather()
        await quick.start()
        assert len([job async for job in app.jobs()]) == 2
