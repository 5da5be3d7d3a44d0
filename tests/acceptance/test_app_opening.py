"""An app is made, opened and closed; and says what it lacks: its database, its tables, or being open."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from perdure import App
from perdure.errors import DatabaseUnavailable, MisuseError, SchemaOutdated
from perdure.pools import TriedPool
from tests.support.clients import SESSIONS, Approved, Hands, Meta, define, until_found

LISTENERS = f"{SESSIONS} and query ilike 'listen %%'"  # %% is a %


class StandInServer:
    """What of an embedded server an app uses; its database is another's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


async def cancel_until_done(task: asyncio.Task[None]) -> None:
    """Cancel a task that has begun with each turn of the event loop, and make sure that it tells so in the end."""
    await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_an_app_that_is_not_open_says_so(migrated_database: str) -> None:
    app = App(migrated_database)
    task = define(app)
    for use in (task.start(Meta("a")), app.proceed(1), app.cancel(1), app.job(1), app.migrate(), anext(app.jobs())):
        with pytest.raises(MisuseError, match=r"the app isn't open: use `async with app:`"):
            await use
    with pytest.raises(MisuseError, match=r"worker: the app isn't open"):
        app.worker()
    async with app:
        job = await task.start(Meta("a"))
    with pytest.raises(MisuseError, match=r"result: the app isn't open"):
        await job.result()


async def test_opens_count_and_an_app_can_be_opened_again(migrated_database: str) -> None:
    app = App(migrated_database)
    task = define(app)
    async with app:
        async with app:
            await task.start(Meta("a"))
        await task.start(Meta("b"))
    await app.close()
    async with app:
        assert [job.metadata.shop async for job in app.jobs()] == ["a", "b"]


@pytest.mark.parametrize(
    ("parameter", "name"), [("", "perdure"), ("application_name=shop", "shop"), ("fallback_application_name=s", "s")]
)
async def test_connections_have_a_name_unless_the_dsn_gives_one(
    migrated_database: str, parameter: str, name: str
) -> None:
    dsn = f"{migrated_database}{'&' if '?' in migrated_database else '?'}{parameter}"
    async with App(dsn) as app, app.pool.connection() as connection:
        assert await (await connection.execute("show application_name")).fetchone() == (name,)


async def test_opening_at_once_from_many_places_opens_once(migrated_database: str) -> None:
    app = App(migrated_database)
    await asyncio.gather(*(app.open() for _ in range(10)))
    pool = app.pool
    for _ in range(9):
        await app.close()
        assert app.pool is pool
    await app.close()
    assert pool.closed


async def test_a_close_closes_all_however_often_it_is_cancelled(migrated_database: str, hands: Hands) -> None:
    app = App(migrated_database)
    task = define(app)
    await app.open()
    await asyncio.to_thread(app.blocking.start, task, Meta("a"))
    job = await task.start(Meta("b"))
    waiting = asyncio.create_task(job.result())
    await until_found(hands, f"select 1 from background_tasks.jobs where awaited and id = {job.id}", finds=True)
    await until_found(hands, LISTENERS, finds=True)
    await cancel_until_done(asyncio.create_task(app.close()))
    with pytest.raises(MisuseError, match=r"the app (was closed|isn't open)"):
        async with asyncio.timeout(20):
            await waiting
    await until_found(hands, SESSIONS, finds=False)
    async with app:
        await job.refresh()


async def test_an_opening_leaves_nothing_open_however_often_it_is_cancelled(
    migrated_database: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, is_migrating = StandInServer(migrated_database), asyncio.Event()

    async def migrate(*_: Any) -> None:
        is_migrating.set()
        await asyncio.Event().wait()

    monkeypatch.delenv("PERDURE_DSN", raising=False)
    monkeypatch.setattr("perdure.embedded.acquire", lambda: server)
    app = App()
    monkeypatch.setattr(app, "_migrate", migrate)
    opening = asyncio.create_task(app.open())
    async with asyncio.timeout(20):
        await is_migrating.wait()
    connections = list(app.pool._pool)  # held, lest they be closed since nobody has them any more
    assert connections
    await cancel_until_done(opening)
    assert server.is_closed
    await until_found(hands, SESSIONS, finds=False)


async def test_a_pool_leaves_nothing_open_however_often_its_opening_is_cancelled(
    migrated_database: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pool, connections, is_open = TriedPool.open, list[Any](), asyncio.Event()

    async def open_and_stay(pool: TriedPool, **options: Any) -> None:
        await open_pool(pool, **options)
        connections.extend(pool._pool)  # held, lest they be closed since nobody has them any more
        is_open.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(TriedPool, "open", open_and_stay)
    opening = asyncio.create_task(App(migrated_database).open())
    async with asyncio.timeout(20):
        await is_open.wait()
    assert connections
    await cancel_until_done(opening)
    await until_found(hands, SESSIONS, finds=False)


async def test_what_else_is_open_is_closed_even_if_the_pool_could_not_be(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = StandInServer(migrated_database)
    monkeypatch.delenv("PERDURE_DSN", raising=False)
    monkeypatch.setattr("perdure.embedded.acquire", lambda: server)
    app = App()
    await app.open()
    close = app._client.close

    async def close_and_fail() -> None:
        await close()
        raise OSError("no such socket")  # noqa: EM101, TRY003 - whatever it may be

    monkeypatch.setattr(app._client, "close", close_and_fail)
    pool = await asyncio.to_thread(app.blocking_pool)
    with pytest.raises(OSError, match="no such socket"):
        await app.close()
    assert pool.closed
    assert server.is_closed


async def test_without_a_database_opening_says_so_in_a_line() -> None:
    app = App("postgresql://someone:secret@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable) as refusal:
        await app.open()
    message = str(refusal.value)
    assert message.startswith("no connection to the database: ")
    assert "127.0.0.1" in message
    assert "secret" not in message
    assert "\n" not in message


async def test_without_its_tables_a_verb_says_to_migrate_and_migrating_helps(database: str) -> None:
    async with App(database, persistence={"schema_name": 'odd "name" %s'}) as app:
        task = define(app)
        with pytest.raises(SchemaOutdated, match="perdure migrate"):
            await task.start(Meta("a"))
        async with await psycopg.AsyncConnection.connect(database) as own:
            with pytest.raises(SchemaOutdated, match="perdure migrate"):
                await task.start(Meta("a"), connection=own)
        async with await psycopg.AsyncConnection.connect(database) as own:
            await own.execute(b'create schema "odd ""name"" %s"')
        with pytest.raises(SchemaOutdated, match="perdure migrate"):
            await task.send(1, Approved("ann"))
        assert await app.migrate()
        assert await app.migrate() == []
        await task.start(Meta("a"))
        assert [job.metadata async for job in app.jobs()] == [Meta("a")]


async def test_an_app_reads_its_settings_from_a_file(tmp_path: Any, migrated_database: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"Scheduling": {"BatchSize": 7, "PollingDelay": "00:00:00.500"}}')
    app = App.from_file(file, dsn=migrated_database, execution={"max_connections": 3})
    assert app.config.scheduling.batch_size == 7
    assert app.config.scheduling.polling_delay == timedelta(milliseconds=500)
    async with app:
        assert app.pool.max_size == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"queues": "slow"}, "queues='slow' isn't allowed; a text alone; give a list: queues=['slow']"),
        ({"queues": []}, "queues=[] isn't allowed; it is a list of queues' names, at least one, or None for all"),
        ({"queues": 5}, "queues=5 isn't allowed; it is a list of queues' names"),
        ({"queues": ["slow", "a\0"]}, "queues: queue='a\\x00' isn't allowed; a queue's name has 1 to 63 printable"),
        ({"queues": [""]}, "queues: queue='' isn't allowed"),
        ({"queues": [5]}, "queues: queue=5 isn't allowed"),
        ({"concurrency": 0}, "concurrency=0 isn't allowed; it is a whole number from 1 to 2147483647"),
        ({"concurrency": 2**31}, "concurrency=2147483648 isn't allowed"),
        ({"concurrency": 1.5}, "concurrency=1.5 isn't allowed"),
        ({"concurrency": "3"}, "concurrency='3' isn't allowed"),
        ({"concurrency": True}, "concurrency=True isn't allowed"),
        ({"shutdown_grace": timedelta(seconds=-1)}, "isn't allowed; it is 0 s to 36500 days, as a timedelta, seconds"),
        ({"shutdown_grace": "soon"}, "shutdown_grace='soon' isn't allowed"),
        ({"shutdown_grace": "5"}, "shutdown_grace='5' isn't allowed (seconds are written as a number, without quotes)"),
    ],
)
async def test_a_worker_is_refused_what_it_cannot_be(app: App, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError) as refusal:
        app.worker(**arguments)
    assert str(refusal.value).startswith("worker: ")
    assert said in str(refusal.value)
