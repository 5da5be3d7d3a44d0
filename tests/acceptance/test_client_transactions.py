"""Starting jobs in a transaction of the caller's: they share its fate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.errors import JobNotFoundError, MisuseError
from tests.support.clients import Meta

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure import App
    from tests.support.clients import Hands


@pytest.fixture
def sync(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database) as connection:
        yield connection


@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_a_job_started_in_the_callers_transaction_shares_its_fate(
    task: Any, own: Any, hands: Hands, ending: str
) -> None:
    await own.execute("create table orders (id int)")
    job = await task.start(Meta("riga"), connection=own)
    many = await task.start_many([Meta("a"), Meta("b")], connection=own)
    assert own.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
    with pytest.raises(JobNotFoundError, match=rf"no job {job.id} \(orders\.import\): the transaction"):
        await job.refresh()
    await getattr(own, ending)()
    assert hands.count() == (3 if ending == "commit" else 0)
    if ending == "commit":
        assert [(await each.refresh()).id for each in (job, *many)] == [job.id, many[0].id, many[1].id]


async def test_workers_are_told_when_the_callers_transaction_commits(app: App, task: Any, own: Any) -> None:
    async with await psycopg.AsyncConnection.connect(app.dsn, autocommit=True) as listener:
        await listener.execute(f'listen "{app.names.work_channel}"'.encode())
        await task.start(Meta("riga"))  # nobody sleeps, so nobody is told
        await task.start(Meta("riga"), connection=own, queue="one")
        await task.start_many([Meta("riga")], connection=own, queue="many")
        await own.commit()
        told = [notification.payload async for notification in listener.notifies(timeout=20, stop_after=2)]
        assert told == ["one", "many"]


async def test_the_callers_connection_keeps_its_settings(task: Any, migrated_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(migrated_database, row_factory=psycopg.rows.dict_row) as own:
        show = "select name, setting from pg_settings where source = 'session' order by name"
        before = await (await own.execute(show)).fetchall()
        await task.start(Meta("riga"), connection=own)
        assert own.row_factory is psycopg.rows.dict_row
        assert own.autocommit is False
        assert await (await own.execute(show)).fetchall() == before


async def test_a_sync_connection_is_refused_with_a_pointer_to_blocking(task: Any, sync: Any, hands: Hands) -> None:
    with pytest.raises(MisuseError, match=r"is a sync connection, .*use app\.blocking\.start\(…\)"):
        await task.start(Meta("riga"), connection=sync)
    with pytest.raises(MisuseError, match=r"use app\.blocking\.start_many\(…\)"):
        await task.start_many([Meta("riga")], connection=sync)
    with pytest.raises(MisuseError, match=r"connection= is builtins\.str; it takes a psycopg\.AsyncConnection"):
        await task.start(Meta("riga"), connection="postgresql:///")
    assert hands.count() == 0
