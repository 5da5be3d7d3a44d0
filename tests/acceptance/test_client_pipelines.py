"""Starting and sending on a connection of the caller's that is in a pipeline: answered at once, stored exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perdure import App, JobEnded, JobNotFound, JobQuery, MultipleJobsFound, Sent
from tests.support.clients import Approved, Meta

if TYPE_CHECKING:
    from tests.support.clients import Hands

STORED = "select id, metadata ->> 'shop' from background_tasks.all_jobs order by id"
SENT = "select job_id from background_tasks.events order by id"


@pytest.fixture(params=[False, True], ids=["in a transaction", "in autocommit mode"])
def autocommit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def start_and_send(task: Any, own: psycopg.AsyncConnection[Any]) -> list[tuple[int, str]]:
    """Use each verb that takes a connection, after and before statements of the caller's; return what was started."""
    await own.execute("select 1")
    jobs = [await task.start(Meta("one"), connection=own)]
    jobs += await task.start_many([Meta(f"many {number}") for number in range(1200)], connection=own)
    await own.execute("select 2")
    jobs += [job async for batch in task.start_batches([Meta("batch")] * 2, connection=own) for job in batch]
    assert await task.send(jobs[0].id, Approved("ann"), connection=own) == Sent(jobs[0].id)
    query = JobQuery(metadata={"shop": "many 7"})
    assert await task.send(query, Approved("bob"), connection=own) == Sent(jobs[8].id)
    return [(job.id, job.metadata.shop) for job in jobs]


def start_and_send_blocking(app: App, task: Any, own: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Do as `start_and_send`."""
    own.execute("select 1")
    jobs = [app.blocking.start(task, Meta("one"), connection=own)]
    jobs += app.blocking.start_many(task, [Meta(f"many {number}") for number in range(1200)], connection=own)
    own.execute("select 2")
    jobs += [job for batch in app.blocking.start_batches(task, [Meta("batch")] * 2, connection=own) for job in batch]
    assert app.blocking.send(task, jobs[0].id, Approved("ann"), connection=own) == Sent(jobs[0].id)
    query = JobQuery(metadata={"shop": "many 7"})
    assert app.blocking.send(task, query, Approved("bob"), connection=own) == Sent(jobs[8].id)
    return [(job.id, job.metadata.shop) for job in jobs]


async def test_in_a_pipeline_all_is_answered_and_stored_once(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], *, autocommit: bool
) -> None:
    await own.set_autocommit(autocommit)
    async with own.pipeline():
        started = await start_and_send(task, own)
    await own.commit()
    assert len(started) == 1203
    assert hands.sql(STORED) == started
    assert hands.sql(SENT) == [(started[0][0],), (started[8][0],)]


async def test_in_a_sync_pipeline_all_is_answered_and_stored_once(
    app: App, task: Any, hands: Hands, migrated_database: str, *, autocommit: bool
) -> None:
    with psycopg.connect(migrated_database, autocommit=autocommit) as own:
        with own.pipeline():
            started = start_and_send_blocking(app, task, own)
        own.commit()
    assert len(started) == 1203
    assert hands.sql(STORED) == started
    assert hands.sql(SENT) == [(started[0][0],), (started[8][0],)]


async def test_what_a_pipeline_rolls_back_is_not_stored(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], *, autocommit: bool
) -> None:
    await own.set_autocommit(autocommit)
    with pytest.raises(psycopg.errors.DivisionByZero):  # noqa: PT012 - the block is what is tested
        async with own.pipeline(), own.transaction():
            await start_and_send(task, own)
            await own.execute("select 1 / 0")
    await own.commit()
    assert hands.sql(STORED) == hands.sql(SENT) == []


async def test_a_send_by_query_shares_the_fate_of_the_callers_pipeline(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], *, autocommit: bool
) -> None:
    job = await task.start(Meta("riga"))
    hands.sql("create table orders (id int)")
    await own.set_autocommit(autocommit)
    with pytest.raises(psycopg.errors.DivisionByZero):  # noqa: PT012 - the block is what is tested
        async with own.pipeline():
            await own.execute("insert into orders values (1)")
            query = JobQuery(metadata={"shop": "riga"})
            assert await task.send(query, Approved("ann"), connection=own) == Sent(job.id)
            await own.execute("select 1 / 0")
    await own.rollback()
    assert hands.sql("select id from orders") == hands.sql(SENT) == []


async def test_a_send_by_query_shares_the_fate_of_the_callers_sync_pipeline(
    app: App, task: Any, hands: Hands, migrated_database: str, *, autocommit: bool
) -> None:
    job = await task.start(Meta("riga"))
    hands.sql("create table orders (id int)")
    with psycopg.connect(migrated_database, autocommit=autocommit) as own:
        with pytest.raises(psycopg.errors.DivisionByZero), own.pipeline():  # noqa: PT012 - the block is what is tested
            own.execute("insert into orders values (1)")
            query = JobQuery(metadata={"shop": "riga"})
            assert app.blocking.send(task, query, Approved("ann"), connection=own) == Sent(job.id)
            own.execute("select 1 / 0")
        own.rollback()
    assert hands.sql("select id from orders") == hands.sql(SENT) == []


async def test_in_a_pipeline_of_a_stricter_isolation_a_query_finds_its_job(
    task: Any, hands: Hands, migrated_database: str, *, autocommit: bool
) -> None:
    job = await task.start(Meta("riga"))
    strict = make_conninfo(migrated_database, options="-c default_transaction_isolation=repeatable\\ read")
    async with await psycopg.AsyncConnection.connect(strict, autocommit=autocommit) as own, own.pipeline():
        await own.execute("select 1")
        query = JobQuery(metadata={"shop": "riga"})
        assert await task.send(query, Approved("ann"), connection=own) == Sent(job.id)
    assert hands.sql(SENT) == [(job.id,)]


async def test_in_a_pipeline_a_send_to_who_gets_nothing_is_answered_so(
    task: Any, hands: Hands, own: psycopg.AsyncConnection[Any], *, autocommit: bool
) -> None:
    ended, *others = [await task.start(Meta("riga")) for _ in range(3)]
    hands.end(ended, 6)
    await own.set_autocommit(autocommit)
    async with own.pipeline():
        answer = await task.send(ended.id, Approved("ann"), connection=own)
        assert isinstance(answer, JobEnded)
        assert answer.job.id == ended.id
        assert await task.send(others[-1].id + 1, Approved("ann"), connection=own) == JobNotFound()
        found = await task.send(JobQuery(metadata={"shop": "riga"}), Approved("ann"), connection=own)
        assert isinstance(found, MultipleJobsFound)
        assert [job.id for job in found.jobs] == [job.id for job in others]
        query = JobQuery(metadata={"shop": "nowhere"})
        assert await task.send(query, Approved("ann"), connection=own) == JobNotFound()
    await own.commit()
    assert hands.sql(SENT) == []


async def test_in_a_sync_pipeline_a_send_to_an_ended_job_is_answered_so(
    app: App, task: Any, hands: Hands, migrated_database: str, *, autocommit: bool
) -> None:
    ended = app.blocking.start(task, Meta("riga"))
    hands.end(ended, 6)
    with psycopg.connect(migrated_database, autocommit=autocommit) as own, own.pipeline():
        assert isinstance(app.blocking.send(task, ended.id, Approved("ann"), connection=own), JobEnded)
    assert hands.sql(SENT) == []
