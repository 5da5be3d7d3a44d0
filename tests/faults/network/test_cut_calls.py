"""Every call of a client's, cut at every place: it is done or it isn't, the error says that nobody can know which, and
the same call, made again, does what the docs say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import (
    App,
    CancelRequested,
    JobEnded,
    JobQuery,
    JobState,
    NotFinal,
    NotSuspended,
    Proceeded,
    Retried,
    Sent,
)
from perdure.errors import DatabaseUnavailable, PerdureError
from tests.faults.network.cuts import cuts
from tests.support.clients import Approved, Hands, Meta, Progress, define, grown, suspended
from tests.support.marks import mark
from tests.support.proxy import LOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.proxy import Cut, Proxy

UNKNOWN = "whether the database has done it can't be known"
READ = "it can be read again"
every_cut = pytest.mark.parametrize("cut", cuts("calls"))


@pytest_asyncio.fixture
async def app(proxy: Proxy) -> AsyncIterator[App]:
    app = App(proxy.dsn, scheduling={"polling_delay": 0.1})
    define(app)
    async with app:
        yield app


@pytest.fixture
def hands(proxy: Proxy) -> Any:
    hands = Hands(proxy.direct_dsn)
    yield hands
    hands.close()


async def _cut(
    proxy: Proxy, statement: bytes, cut: Cut, call: Callable[[], Awaitable[Any]], said: str = UNKNOWN
) -> None:
    """Make a call whose statement is cut, and look at the error."""
    proxy.arm(statement, cut)
    with pytest.raises(DatabaseUnavailable, match=said):
        await call()
    await asyncio.wait_for(proxy.broken.wait(), 10)


@every_cut
async def test_start(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    task = app.tasks["orders.import"]
    await _cut(proxy, mark("start"), cut, lambda: task.start(Meta("riga")))
    assert hands.count() == (0 if cut in LOST else 1)
    job = await task.start(Meta("riga"))
    assert hands.count() == (1 if cut in LOST else 2)
    assert (await job.refresh()).state is JobState.PENDING


@every_cut
async def test_start_of_code_that_doesnt_await(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    task = app.tasks["orders.import"]
    await _cut(proxy, mark("start"), cut, lambda: asyncio.to_thread(app.blocking.start, task, Meta("riga")))
    assert hands.count() == (0 if cut in LOST else 1)
    await asyncio.to_thread(app.blocking.start, task, Meta("riga"))


@every_cut
async def test_start_many(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    task = app.tasks["orders.import"]
    shops = [Meta(f"shop {number}") for number in range(2_500)]  # three batches, the second of which is cut
    proxy.arm(mark("start_many"), cut, skip=1)
    with pytest.raises(DatabaseUnavailable, match=UNKNOWN) as caught:
        await task.start_many(shops)
    assert hands.count() == (1_000 if cut in LOST else 2_000)
    assert "1000" in "".join(caught.value.__notes__)  # how many are known to be stored
    assert len(await task.start_many(shops)) == 2_500


@every_cut
@pytest.mark.parametrize("at", ["start", "commit"])
async def test_start_in_the_callers_transaction(proxy: Proxy, app: App, hands: Hands, cut: Cut, at: str) -> None:
    task = app.tasks["orders.import"]
    hands.sql("create table orders (n int)")
    proxy.arm(b"COMMIT" if at == "commit" else mark("start"), cut)
    async with await psycopg.AsyncConnection.connect(proxy.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.OperationalError):  # the caller's connection, the caller's error
            await _order(task, connection)
    committed = at == "commit" and cut not in LOST
    assert (hands.count(), hands.sql("select count(*) from orders")) == (committed, [(committed,)])
    async with await psycopg.AsyncConnection.connect(proxy.dsn, autocommit=True) as connection:
        await _order(task, connection)
    assert hands.count() == committed + 1


async def _order(task: Any, connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.transaction():
        await connection.execute("insert into orders values (1)")
        await task.start(Meta("riga"), connection=connection)


@every_cut
async def test_proceed(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    job = await suspended(app.tasks["orders.import"], hands)
    await _cut(proxy, mark("proceed"), cut, lambda: app.proceed(job.id))
    assert (await job.refresh()).state is (JobState.SUSPENDED if cut in LOST else JobState.PROCEEDED)
    assert isinstance(await app.proceed(job.id), Proceeded if cut in LOST else NotSuspended)
    assert (await job.refresh()).state is JobState.PROCEEDED


@every_cut
@pytest.mark.parametrize("at", ["lock", "proceed", "commit"])
async def test_proceed_with_a_modification(proxy: Proxy, app: App, hands: Hands, cut: Cut, at: str) -> None:
    job = await suspended(app.tasks["orders.import"], hands)
    await _cut(proxy, b"COMMIT" if at == "commit" else mark(at), cut, lambda: app.proceed(job.id, grown))
    done = at == "commit" and cut not in LOST
    assert (await job.refresh()).state is (JobState.PROCEEDED if done else JobState.SUSPENDED)
    assert job.execution_metadata == Progress(1 if done else 0)
    assert isinstance(await app.proceed(job.id, grown), NotSuspended if done else Proceeded)
    assert (await job.refresh()).execution_metadata == Progress(1)  # once, not twice


@every_cut
async def test_send(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    task = app.tasks["orders.import"]
    job = await suspended(task, hands)
    await _cut(proxy, mark("send"), cut, lambda: task.send(job.id, Approved("ann")))
    stored = 0 if cut in LOST else 1
    assert await app.unread_events(job.id) == stored
    assert (await job.refresh()).state is (JobState.PROCEEDED if stored else JobState.SUSPENDED)
    assert await task.send(job.id, Approved("ann")) == Sent(job.id)
    assert await app.unread_events(job.id) == stored + 1  # as the guarantees say: it may exist


@every_cut
@pytest.mark.parametrize("at", ["hold", "find", "send", "commit"])
async def test_send_to_what_a_query_finds(proxy: Proxy, app: App, hands: Hands, cut: Cut, at: str) -> None:
    task = app.tasks["orders.import"]
    job = await suspended(task, hands)
    query = JobQuery(metadata={"shop": "riga"})
    await _cut(proxy, b"COMMIT" if at == "commit" else mark(at), cut, lambda: task.send(query, Approved("ann")))
    stored = int(at == "commit" and cut not in LOST)
    assert await app.unread_events(job.id) == stored
    assert (await job.refresh()).state is (JobState.PROCEEDED if stored else JobState.SUSPENDED)
    assert await task.send(query, Approved("ann")) == Sent(job.id)
    assert await app.unread_events(job.id) == stored + 1


@every_cut
async def test_cancel(proxy: Proxy, app: App, cut: Cut) -> None:
    job = await app.tasks["orders.import"].start(Meta("riga"))
    await _cut(proxy, mark("cancel"), cut, lambda: app.cancel(job.id))
    assert (await job.refresh()).state is (JobState.PENDING if cut in LOST else JobState.CANCELLED)
    assert isinstance(await app.cancel(job.id), CancelRequested if cut in LOST else JobEnded)
    assert (await job.refresh()).state is JobState.CANCELLED


@every_cut
async def test_cancel_of_a_job_that_runs(proxy: Proxy, app: App, hands: Hands, cut: Cut) -> None:
    job = await app.tasks["orders.import"].start(Meta("riga"))
    hands.run(job)
    await _cut(proxy, mark("request_cancel"), cut, lambda: app.cancel(job.id))
    assert hands.column(job, "cancel_requested") is (cut not in LOST)
    assert isinstance(await app.cancel(job.id), CancelRequested)
    assert hands.column(job, "cancel_requested") is True
    assert (await job.refresh()).state is JobState.RUNNING  # which its worker ends


@every_cut
async def test_retry(proxy: Proxy, app: App, cut: Cut) -> None:
    job = await app.tasks["orders.import"].start(Meta("riga"))
    await app.cancel(job.id)
    await _cut(proxy, mark("retry"), cut, lambda: app.retry(job.id))
    assert (await job.refresh()).state is (JobState.CANCELLED if cut in LOST else JobState.PENDING)
    assert isinstance(await app.retry(job.id), Retried if cut in LOST else NotFinal)
    assert (await job.refresh()).state is JobState.PENDING


@every_cut
@pytest.mark.parametrize("at", ["await", "get_many", "finished"])
async def test_result(proxy: Proxy, app: App, hands: Hands, cut: Cut, at: str) -> None:
    """Who waits is told, or doesn't notice: a poll that is cut is made again. Nothing happens to the job."""
    job = await app.tasks["orders.import"].start(Meta("riga"))
    proxy.arm(mark(at), cut)
    waiting = asyncio.create_task(job.result(timeout=30))
    await asyncio.wait_for(proxy.broken.wait(), 10)
    if at == "finished":
        hands.end(job, 6, result='{"rows": 7}')
        assert (await waiting).rows == 7
        return
    with pytest.raises(DatabaseUnavailable, match=READ):
        await waiting
    hands.end(job, 6, result='{"rows": 7}')
    assert (await job.result(timeout=30)).rows == 7


@every_cut
async def test_migrate(proxy: Proxy, cut: Cut, hands: Hands) -> None:
    schema = {"schema_name": "another"}
    async with App(proxy.dsn, persistence=schema) as app:
        proxy.arm(b"create table", cut)
        with pytest.raises((PerdureError, psycopg.OperationalError)):
            await app.migrate()
        assert proxy.broken.is_set()
        assert hands.sql("select from pg_namespace where nspname = 'another'") == []  # the schema comes with the first
        assert next(iter(await app.migrate())).number == 1
        assert await app.migrate() == []


@every_cut
async def test_the_commit_of_a_migration(proxy: Proxy, cut: Cut, hands: Hands) -> None:
    async with App(proxy.dsn, persistence={"schema_name": "another"}) as app:
        proxy.arm(b"COMMIT", cut, skip=1, whole=True)  # the first ends the look at what there is
        with pytest.raises((PerdureError, psycopg.OperationalError)):
            await app.migrate()
        ledger = hands.sql("select to_regclass('another.migrations') is not null")
        assert ledger == [(cut not in LOST,)]
        applied = [migration.number for migration in await app.migrate()]
        assert (1 in applied) == (cut in LOST)


@every_cut
async def test_queries(proxy: Proxy, app: App, cut: Cut) -> None:
    job = await app.tasks["orders.import"].start(Meta("riga"))
    await _cut(proxy, b"where id = ", cut, job.refresh, READ)
    backwards = JobQuery(order="descending")
    await _cut(proxy, mark("list"), cut, lambda: _all(app), READ)
    await _cut(proxy, mark("list_descending"), cut, lambda: _all(app, backwards), READ)
    await _cut(proxy, mark("history"), cut, job.history, READ)
    await _cut(proxy, mark("unread_events"), cut, lambda: app.unread_events(job.id), READ)
    assert (await job.refresh()).state is JobState.PENDING
    assert await _all(app) == await _all(app, backwards) == [job.id]


async def _all(app: App, query: JobQuery | None = None) -> list[int]:
    return [job.id async for job in app.jobs(query)]
