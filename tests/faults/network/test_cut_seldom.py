"""What a worker asks for seldom, cut at every place: it is asked again, is done once, and its job comes to its end."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context, JobCancelled, JobFailed
from tests.faults.network.cuts import cuts
from tests.faults.network.late import make_app
from tests.support.clients import Hands
from tests.support.jobs import settled_in, until
from tests.support.marks import mark
from tests.support.proxy import LOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perdure import Job
    from tests.support.proxy import Cut, Proxy

_RESULT_SECONDS = 40
_TOMORROW = timedelta(days=1)
_LAPSE = "update background_tasks.workers set lease_until = clock_timestamp() - interval '1 s' where id = %s"
_LEASES = "select lapsed_at is null from background_tasks.workers where id = %s"
_OLD = """
    insert into background_tasks.workers (id, lease_until, lapsed_at, lease_seconds, host, pid, concurrency, version)
    values (gen_random_uuid(), now() - interval '2 days', now() - interval '2 days', 30, 'old', 1, 1, '1')
"""


@dataclass
class Place:
    """A checkpoint."""

    rows: int = 0


class Shop:
    """An app behind the proxy and one before it, with one task; how often it has begun, and when it may end."""

    def __init__(self, proxy: Proxy, *, lease_seconds: float) -> None:
        self.proxy, self.hands = proxy, Hands(proxy.direct_dsn)
        self.app, self.other = (make_app(dsn, lease_seconds=lease_seconds) for dsn in (proxy.dsn, proxy.direct_dsn))
        self.began = 0
        self.end = asyncio.Event()
        for app in (self.app, self.other):
            self._define(app)

    def _define(self, app: App) -> None:
        @app.task("job", version=2, upgrades={1: lambda _kind, data: _grown(data)})
        async def job(ctx: Context[Place, Place]) -> int:
            self.began += 1
            await ctx.progress(1)
            await ctx.persist()
            await self.end.wait()
            return ctx.metadata.rows

        @app.task("lasts")
        async def lasts(ctx: Context[None, None]) -> int:
            self.began += 1
            await self.end.wait()
            return ctx.attempt

        @app.task("commits")
        async def commits(ctx: Context[None, Place]) -> int:
            self.began += 1
            while ctx.execution_metadata.rows < 3:
                with contextlib.suppress(psycopg.OperationalError):
                    async with ctx.transaction() as connection:
                        await connection.execute("insert into effects values (%s)", [ctx.execution_metadata.rows])
                        ctx.execution_metadata.rows += 1
            return 3

    async def start(self, **columns: object) -> Job[Any, Any, Any, Any]:
        """Start a job, of which some columns are set before anybody claims it."""
        job = await self.other.tasks["job"].start(Place(), at=_TOMORROW)
        now = self.hands.sql("select clock_timestamp()")[0][0]
        self.hands.make(job, **{"scheduled_at": now, **columns})
        return job

    async def once(self, job: Job[Any, Any, Any, Any], rows: int = 0) -> None:
        """Let the job end: it was run once."""
        self.end.set()
        assert await job.result(timeout=_RESULT_SECONDS) == rows
        assert self.began == 1
        assert (await job.refresh()).attempt == 1


def _grown(data: Any) -> Any:
    return {"rows": data.get("rows", 0) + 1}


def every_cut(name: str) -> pytest.MarkDecorator:
    """Try each cut on this; on a push, one of them."""
    return pytest.mark.parametrize("cut", cuts(f"seldom {name}", both=False))


@pytest_asyncio.fixture
async def shop(proxy: Proxy, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    shop = Shop(proxy, lease_seconds=getattr(request, "param", 30))
    async with shop.app, shop.other:
        yield shop
    shop.hands.close()


async def _cut(shop: Shop) -> None:
    await until(lambda: not shop.proxy.is_armed and shop.proxy.broken.is_set(), "it is cut")


@every_cut("claim_suspect")
async def test_claim_of_a_suspect(shop: Shop, cut: Cut) -> None:
    job = await shop.start(suspect=True, lapses=2)
    shop.proxy.arm(mark("claim_suspect"), cut)
    async with shop.app.worker() as worker:
        await _cut(shop)
        worker._strays.poke()
        await shop.once(job)


@every_cut("expire")
async def test_end_of_what_is_past_its_deadline(shop: Shop, cut: Cut) -> None:
    job = await shop.other.tasks["job"].start(Place(), at=_TOMORROW)
    past = shop.hands.sql("select clock_timestamp() - interval '1 s'")[0][0]
    shop.hands.make(job, deadline_at=past)
    shop.proxy.arm(mark("expire"), cut)
    async with shop.app.worker():
        await _cut(shop)
        with pytest.raises(JobFailed):
            await job.result(timeout=_RESULT_SECONDS)
    assert shop.began == 0
    assert "deadline" in str(job.last_error)


@every_cut("revive")
async def test_revival_of_what_waited_for_this_code(shop: Shop, cut: Cut) -> None:
    tomorrow = shop.hands.sql("select clock_timestamp() + interval '1 day'")[0][0]
    job = await shop.start(unreadable=3, scheduled_at=tomorrow)
    shop.proxy.arm(mark("revive"), cut)
    async with shop.app.worker():
        await _cut(shop)
        await shop.once(job)


@every_cut("upgrade")
async def test_upgrade_of_payloads(shop: Shop, cut: Cut) -> None:
    job = await shop.start(version=1)
    shop.proxy.arm(mark("upgrade"), cut)
    async with shop.app.worker():
        await _cut(shop)
        await shop.once(job, rows=1)  # upgraded once
    columns = "version, checkpoint, metadata, execution_metadata"
    stored = shop.hands.sql(f"select {columns} from background_tasks.finished_jobs")
    assert stored == [(2, 2, {"rows": 1}, {"rows": 1})]


@every_cut("report_progress")
async def test_report_of_progress(shop: Shop, cut: Cut) -> None:
    job = await shop.start()
    shop.proxy.arm(mark("report_progress"), cut)
    async with shop.app.worker():
        await _cut(shop)
        await shop.once(job)
    [(progress,)] = shop.hands.sql("select progress ->> 'done' from background_tasks.finished_jobs")
    assert progress == (None if cut in LOST else "1")  # newer progress would follow, if there were some


@every_cut("cancelling")
async def test_look_for_cancel_requests(shop: Shop, cut: Cut) -> None:
    job = await shop.start()
    async with shop.app.worker():
        await until(lambda: shop.began == 1, "it runs")
        shop.proxy.arm(mark("cancelling"), cut)
        await shop.other.cancel(job.id)
        await _cut(shop)
        with pytest.raises(JobCancelled):
            await job.result(timeout=_RESULT_SECONDS)
    assert shop.began == 1


@every_cut("settlement")
@pytest.mark.parametrize("write", ["persist", "finish"])
async def test_question_what_has_become_of_a_write(shop: Shop, write: str, cut: Cut) -> None:
    job = await shop.start()
    shop.proxy.arm(mark(write), "after")
    shop.proxy.arm(mark("settlement"), cut)
    async with shop.app.worker():
        await shop.once(job)
        await _cut(shop)


@every_cut("question about a COMMIT")
@pytest.mark.parametrize(
    ("commit", "statement"),
    [("before", "take_checkpoint_number"), ("after", "take_checkpoint_number"), ("after", "settlement")],
)
async def test_question_about_a_commit(shop: Shop, commit: Cut, statement: str, cut: Cut) -> None:
    shop.hands.sql("create table effects (n int)")
    job = await shop.other.tasks["commits"].start()
    shop.proxy.arm(mark("fence"), commit, skip=1)
    shop.proxy.arm(mark(statement), cut)
    async with shop.app.worker():
        await shop.once(job, rows=3)
    await _cut(shop)
    assert shop.hands.sql("select n from effects order by n") == [(0,), (1,), (2,)]


@pytest.mark.parametrize("shop", [300], indirect=True, ids=["renewed seldom"])  # so that it isn't the first to notice
@every_cut("report of a lost lease")
@pytest.mark.parametrize("statement", ["loss", "remove_worker", "forgive"])
async def test_report_of_a_worker_that_had_lost_its_lease(shop: Shop, statement: str, cut: Cut) -> None:
    job = await shop.other.tasks["lasts"].start()
    async with shop.app.worker() as worker:
        await until(lambda: shop.began == 1, "it runs")
        await settled_in(worker)
        await worker._rescuer.stop()  # which might be the first to find its own loss
        worker.claimer.open = False  # until it has another lease
        shop.hands.sql(_LAPSE, worker.worker_id)
        async with shop.other.worker(queues=["another"]):
            await until(lambda: shop.hands.column(job, "lapses") == 1, "its lapse is counted")
        shop.proxy.arm(mark(statement), cut)
        worker._heartbeat.hurry()
        await _cut(shop)
        await until(lambda: shop.began == 2, "it runs again")
        await until(lambda: shop.hands.column(job, "lapses") == 0, "nobody is blamed for it")
        shop.end.set()
        assert await job.result(timeout=_RESULT_SECONDS) == 2
    assert shop.began == 2


@every_cut("remove_worker")
async def test_return_of_a_lease(shop: Shop, cut: Cut) -> None:
    """It isn't asked again: the worker ends, and its lease ends by itself."""
    async with shop.app.worker() as worker:
        lease = worker.worker_id
        shop.proxy.arm(mark("remove_worker"), cut)
    await _cut(shop)
    assert shop.hands.sql(_LEASES, lease) == ([(True,)] if cut in LOST else [])
    shop.hands.sql(_LAPSE, lease)
    async with shop.other.worker():
        await until(lambda: shop.hands.sql(_LEASES, lease) in ([(False,)], []), "another finds that it has ended")
        await shop.once(await shop.start())


@every_cut("forget_workers")
async def test_removal_of_old_workers(shop: Shop, cut: Cut) -> None:
    shop.hands.sql(_OLD)
    shop.proxy.arm(mark("forget_workers"), cut)
    async with shop.app.worker():
        await _cut(shop)
        await until(
            lambda: not shop.hands.sql("select from background_tasks.workers where host = 'old'"), "it is forgotten"
        )
