"""The lease by the worker's own clock: how long it lasts, and what is done when nobody answers, or nothing turns."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context
from perdure.store import calls, leases
from perdure.store.sql import names_of
from perdure.worker.condition import Condition
from perdure.worker.heartbeat import Heartbeat
from tests.support.jobs import until
from tests.support.proxy import Proxy, Weather

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from perdure.store.calls import Call


async def test_a_lease_lasts_from_when_its_renewal_was_sent(app: App, migrated_database: str) -> None:
    """The server counts from before it has answered; whoever counts from the answer believes in it for too long."""
    async with (
        app.worker() as worker,
        await psycopg.AsyncConnection.connect(migrated_database) as holder,
        await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as observer,
    ):
        heartbeat = worker._heartbeat
        await until(lambda: heartbeat._asked_at_seconds is None, "it is registered")
        await holder.execute("select from background_tasks.workers for update")
        before = heartbeat._valid_until_seconds
        heartbeat.hurry()
        await until(lambda: heartbeat._asked_at_seconds is not None, "it renews")
        asked_at_seconds = heartbeat._asked_at_seconds
        assert asked_at_seconds is not None
        await until(lambda: time.monotonic() > asked_at_seconds + 1.5, "the answer is late")
        await holder.rollback()
        await until(lambda: heartbeat._valid_until_seconds > before, "it is renewed")
        query = "select extract(epoch from lease_until - clock_timestamp())::float8 from background_tasks.workers"
        row = await (await observer.execute(query)).fetchone()
        assert row is not None
        assert heartbeat.remaining_seconds <= row[0]


async def test_a_renewal_that_isnt_answered_is_made_over_another_connection(migrated_database: str) -> None:
    """Whoever takes the bytes and passes nothing on looks alive to the kernel."""
    async with Proxy(migrated_database) as proxy:
        app = App(proxy.dsn, execution={"lease_duration": 6, "shutdown_grace": 0})
        async with app, app.worker() as worker:
            heartbeat, lease = worker._heartbeat, worker.worker_id
            await until(lambda: heartbeat._asked_at_seconds is None, "it is registered")
            silent, before = heartbeat._connection, heartbeat._valid_until_seconds
            proxy.weather_of["perdure heartbeat"] = Weather(black_hole=True)
            heartbeat.hurry()
            await until(lambda: silent is not None and silent.closed, "it has given that connection up")
            proxy.weather_of.clear()
            await until(lambda: heartbeat._valid_until_seconds > before, "it has renewed over another")
            assert worker.worker_id == lease


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_time_in_which_the_whole_process_was_frozen_is_no_stall(
    loop: asyncio.AbstractEventLoop,
    exits: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nothing(_worker_id: uuid.UUID) -> Any: ...

    now_seconds = time.monotonic()
    monkeypatch.setattr("perdure.worker.heartbeat.time.monotonic", lambda: now_seconds)
    heartbeat = Heartbeat(
        "",
        names_of("background_tasks"),
        keeps_sessions=True,
        lease_seconds=30,
        max_stall_seconds=10,
        registration=nothing,
        loop=loop,
        on_lease=nothing,
        on_lost=nothing,
        condition=Condition(),
    )
    now_seconds += 3600
    heartbeat._check_stall()
    assert exits == []
    for _ in range(3):  # but a loop that doesn't turn while its thread does is blocked
        now_seconds += 2.5
        heartbeat._check_stall()
    assert exits == [1]
    assert "the event loop hasn't turned for" in capsys.readouterr().err


def test_a_process_that_is_frozen_in_a_renewal_behind_a_pooler_keeps_its_row_locked_for_a_lease_at_most(
    loop: asyncio.AbstractEventLoop, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, renewed, thawed = names_of("background_tasks"), threading.Event(), threading.Event()

    def register(worker_id: uuid.UUID) -> Call[None]:
        return leases.register(
            names, worker_id, lease_seconds=1, host="", pid=1, concurrency=1, queues=None, version="1"
        )

    def freeze_once_renewed(connection: psycopg.Connection[Any], call: Call[Any]) -> Any:
        answer = calls.run_blocking(connection, call)
        if call.statement == names.statements["renew_lease"]:
            renewed.set()
            assert thawed.wait(60)
        return answer

    monkeypatch.setattr("perdure.worker.heartbeat.calls", SimpleNamespace(run_blocking=freeze_once_renewed))
    heartbeat = Heartbeat(
        migrated_database,
        names,
        keeps_sessions=False,
        lease_seconds=1,
        max_stall_seconds=1000,
        registration=register,
        loop=loop,
        on_lease=lambda _worker_id: None,
        on_lost=lambda _worker_id: None,
        condition=Condition(),
    )
    heartbeat.start()
    try:
        assert renewed.wait(30)
        with psycopg.connect(migrated_database) as other:
            other.execute("set lock_timeout = '20s'")
            assert len(other.execute("select from background_tasks.workers for update").fetchall()) == 1
    finally:
        thawed.set()
        loop.run_until_complete(heartbeat.stop())


# More than the kernel takes; more than the server's time-outs take; the most that is allowed.
@pytest.mark.parametrize("days", [2, 30, 36_500])
async def test_a_lease_may_be_as_long_as_the_configuration_allows(migrated_database: str, days: int) -> None:
    app = App(migrated_database, execution={"lease_duration": timedelta(days=days)})

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        async with ctx.transaction() as connection:
            await connection.execute("select 1")
        return 1

    async with app, app.worker():
        assert await (await task.start()).result(timeout=20) == 1
