"""Connections of another encoding than UTF-8: what that can't hold is refused, or can't be read, and harms no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perdure import App
from perdure.errors import PayloadRefused, PayloadUndecodable
from tests.support.clients import Approved, Imported, Meta, Progress, define

if TYPE_CHECKING:
    from tests.support.clients import Hands

REFUSAL = "'日' can't be sent over this connection, whose client_encoding is LATIN1; use one .* is UTF8"
UNREADABLE = (
    r"what is stored can't all be read \(.*\) over this connection, whose client_encoding is LATIN1; use one .* UTF8"
)
COUNTS = "select (select count(*) from background_tasks.all_jobs), (select count(*) from background_tasks.events)"


async def test_what_the_callers_connection_cant_hold_is_refused_and_not_stored(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job = await task.start(Meta("riga"))
    await own.execute("set client_encoding = latin1")
    for refused in (
        task.start(Meta("日本"), connection=own),
        task.start(Meta("riga"), Progress(0, ["日本"]), connection=own),
        task.start(Meta("riga"), queue="日本", connection=own),
        task.start_many([Meta("riga"), Meta("日本")], connection=own),
        anext(task.start_batches([Meta("日本")], connection=own)),
        task.send(job.id, Approved("日本"), connection=own),
    ):
        with pytest.raises(PayloadRefused, match=REFUSAL):
            await refused
    await task.start(Meta("Grüße"), connection=own)  # in the same transaction, which has come to no harm
    await own.commit()
    assert hands.sql(COUNTS) == [(2, 0)]


async def test_what_the_callers_sync_connection_cant_hold_is_refused_and_not_stored(
    app: App, task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await task.start(Meta("riga"))
    with psycopg.connect(migrated_database, client_encoding="LATIN1") as own:
        with pytest.raises(PayloadRefused, match=REFUSAL):
            app.blocking.start(task, Meta("日本"), connection=own)
        with pytest.raises(PayloadRefused, match=REFUSAL):
            app.blocking.start_many(task, [Meta("riga"), Meta("日本")], connection=own)
        with pytest.raises(PayloadRefused, match=REFUSAL):
            app.blocking.send(task, job.id, Approved("日本"), connection=own)
        app.blocking.start(task, Meta("Grüße"), connection=own)
    assert hands.sql(COUNTS) == [(2, 0)]


async def test_what_the_apps_own_connections_cant_hold_is_refused_and_not_stored(
    migrated_database: str, hands: Hands
) -> None:
    async with App(make_conninfo(migrated_database, client_encoding="LATIN1")) as app:
        task = define(app)
        with pytest.raises(PayloadRefused, match=REFUSAL):
            await task.start(Meta("日本"))
        with pytest.raises(PayloadRefused, match=REFUSAL):
            app.blocking.start_many(task, [Meta("日本")])
        await task.start(Meta("Grüße"))
        assert [job.metadata.shop async for job in app.jobs()] == ["Grüße"]
    assert hands.sql(COUNTS) == [(1, 0)]


async def test_what_the_apps_own_connections_cant_hold_is_said_to_be_unreadable_and_spoils_no_other(
    migrated_database: str, task: Any, hands: Hands
) -> None:
    jobs = [await task.start(Meta(shop)) for shop in ("riga", "日本", "Grüße")]
    async with App(make_conninfo(migrated_database, client_encoding="LATIN1")) as app:
        define(app)
        with pytest.raises(PayloadUndecodable, match=UNREADABLE):
            await app.job(jobs[1].id)
        with pytest.raises(PayloadUndecodable, match=UNREADABLE):
            await asyncio.to_thread(app.blocking.job, jobs[1].id)
        for job in jobs:
            hands.end(job, 6, result='{"rows": 5}')
        handles = [app._client.verbs.job(job._row) for job in jobs]
        for timeout in (600, 0):
            waiting = (handle.result(timeout=timeout) for handle in handles)
            first, unreadable, last = await asyncio.gather(*waiting, return_exceptions=True)
            assert first == last == Imported(5)
            with pytest.raises(PayloadUndecodable, match=UNREADABLE):
                raise unreadable


async def test_what_the_callers_connection_cant_hold_is_said_to_be_unreadable(
    app: App, task: Any, hands: Hands, own: psycopg.AsyncConnection[Any]
) -> None:
    job = await task.start(Meta("日本"))
    hands.end(job, 6)
    await own.execute("set client_encoding = latin1")
    with pytest.raises(PayloadUndecodable, match=UNREADABLE):  # it is read, to tell that it has ended
        await task.send(job.id, Approved("ann"), connection=own)
    await own.rollback()
    with psycopg.connect(own.info.dsn, client_encoding="LATIN1", autocommit=True) as connection:
        with pytest.raises(PayloadUndecodable, match=UNREADABLE):
            app.blocking.send(task, job.id, Approved("ann"), connection=connection)
        with pytest.raises(PayloadUndecodable, match=UNREADABLE), connection.pipeline():
            app.blocking.send(task, job.id, Approved("ann"), connection=connection)
