"""A worker whose lease lapsed, and that is alive after all: no lapse is counted for it."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context, LeaseLost
from perdure.store import calls, leases
from perdure.store.settles import Deferral, PutBack
from perdure.worker import reporting
from perdure.worker.batch import Batch
from perdure.worker.desk import Desk
from perdure.worker.inquiry import inquire
from perdure.worker.rescuer import rescue
from perdure.worker.seldom import Seldom
from tests.support.jobs import settled_in, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from perdure import Job
    from perdure.store.calls import Call
    from perdure.worker.worker import Worker

LAPSE = "update background_tasks.workers set lapsed_at = clock_timestamp()"
OTHER: dict[str, Any] = {"host": "h", "pid": 1, "concurrency": 1, "queues": None, "version": "0"}


class Scene:
    """A worker that runs a job, and doesn't know yet that its lease has lapsed."""

    def __init__(self, worker: Worker, job: Job[None, None, None, None], table: psycopg.AsyncConnection[Any]) -> None:
        self.worker = worker
        self.job = job
        self.table = table
        self.again = asyncio.Event()
        self.end = asyncio.Event()
        self.at_the_end: Callable[[Context[None, None]], Awaitable[None]] | None = None

    async def lapses(self) -> int:
        query = "select lapses from background_tasks.jobs where id = %s"
        row = await (await self.table.execute(query, [self.job.id])).fetchone()
        assert row is not None
        return int(row[0])


@pytest_asyncio.fixture
async def scene(app: App, migrated_database: str) -> AsyncIterator[Scene]:
    running, again, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
    made: list[Scene] = []

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        (running if ctx.attempt == 1 else again).set()
        await end.wait()
        if ctx.attempt == 1 and made[0].at_the_end is not None:
            await made[0].at_the_end(ctx)

    async with (
        await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table,
        app.worker() as worker,
    ):
        job = await task.start()
        await running.wait()
        await worker._rescuer.stop()  # which might be the first to find its own loss, as any other worker's
        await settled_in(worker)
        scene = Scene(worker, job, table)
        scene.again, scene.end = again, end
        made.append(scene)
        await table.execute(LAPSE)
        yield scene
        end.set()


async def test_a_worker_that_is_back_blames_none_of_the_jobs_that_it_had_lost(scene: Scene) -> None:
    """Nor does it take back what was counted for the loss of others, before."""
    await scene.table.execute("update background_tasks.jobs set lapses = 2")  # with one more it would be failed
    worker, lost = scene.worker, scene.worker.worker_id
    worker._heartbeat.hurry()
    await until(lambda: worker.worker_id not in {None, lost} and not worker.lost, "it has reported")
    assert await scene.lapses() == 2
    worker._rescuer.start()  # which runs it, as a suspect
    await asyncio.wait_for(scene.again.wait(), 15)


async def test_a_worker_that_is_back_takes_back_what_others_have_counted_meanwhile(scene: Scene) -> None:
    worker, names, table = scene.worker, scene.worker.names, scene.table
    lost, other = worker.worker_id, uuid.uuid4()
    assert lost is not None
    worker.claimer.open = False  # until it has another lease
    await calls.run(table, leases.register(names, other, lease_seconds=60, **OTHER))
    count = await rescue(table, names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
    assert count == 1  # and so is its lapse, unless the worker has just heard of that
    worker._heartbeat.hurry()
    async with asyncio.timeout(15):
        while await scene.lapses():  # noqa: ASYNC110 - nobody is notified of it
            await asyncio.sleep(0.01)
    await asyncio.wait_for(scene.again.wait(), 15)


async def _until_none_is_counted(scene: Scene) -> None:
    async with asyncio.timeout(15):
        while await scene.lapses():  # noqa: ASYNC110 - nobody is notified of it
            await asyncio.sleep(0.01)


async def test_a_job_that_is_locked_when_its_worker_reports_again_is_forgiven(
    scene: Scene, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own next claim locks it."""
    worker, names, table = scene.worker, scene.worker.names, scene.table
    lost, other = worker.worker_id, uuid.uuid4()
    assert lost is not None
    looked, run = asyncio.Event(), calls.run

    async def watched(connection: psycopg.AsyncConnection[Any], call: Call[Any]) -> Any:
        answer = await run(connection, call)
        if call.statement == names.statements["forgive"]:
            looked.set()
        return answer

    monkeypatch.setattr(calls, "run", watched)
    worker.claimer.open = False  # until it has another lease
    await calls.run(table, leases.register(names, other, lease_seconds=60, **OTHER))
    count = await rescue(table, names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
    assert (count, await scene.lapses()) == (1, 1)
    async with await psycopg.AsyncConnection.connect(migrated_database) as holder:
        await holder.execute("select from background_tasks.jobs for no key update")
        worker._heartbeat.hurry()
        await asyncio.wait_for(looked.wait(), 15)
    await _until_none_is_counted(scene)


async def test_a_worker_that_is_back_takes_back_what_was_counted_for_jobs_whose_outcome_was_on_its_way(
    scene: Scene, migrated_database: str
) -> None:
    worker, names, table = scene.worker, scene.worker.names, scene.table
    lost, other = worker.worker_id, uuid.uuid4()
    assert lost is not None
    await calls.run(table, leases.register(names, other, lease_seconds=60, **OTHER))
    worker.claimer.open = False  # until it has another lease: a claim that waits for the lock would come in between
    async with await psycopg.AsyncConnection.connect(migrated_database) as holder:
        await holder.execute("lock table background_tasks.jobs in share row exclusive mode")
        scene.end.set()
        await until(lambda: scene.job.id in worker.desk.ids(), "its outcome is on its way")
        scene.end.clear()
        count = await rescue(holder, names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
        assert count == 1  # and so is its lapse
        worker._heartbeat.hurry()
        await until(lambda: worker.worker_id not in {None, lost}, "it has another lease")
        await holder.commit()  # before that it couldn't report
    async with asyncio.timeout(15):
        while await scene.lapses():  # noqa: ASYNC110 - nobody is notified of it
            await asyncio.sleep(0.01)
    await asyncio.wait_for(scene.again.wait(), 15)


async def test_a_worker_that_is_back_takes_back_what_was_counted_for_an_attempt_that_knew_of_the_loss_before_it(
    app: App, migrated_database: str
) -> None:
    begun, go_on, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        if ctx.attempt > 1:
            return
        begun.set()
        await go_on.wait()
        try:
            await ctx.persist()
        except LeaseLost:
            refused.set()
            raise

    other = uuid.uuid4()
    async with (
        await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table,
        app.worker() as worker,
    ):
        await worker._rescuer.stop()
        job, lost = await task.start(), worker.worker_id
        await begun.wait()
        assert lost is not None
        await table.execute(LAPSE)
        await calls.run(table, leases.register(worker.names, other, lease_seconds=60, **OTHER))
        assert await rescue(table, worker.names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
        await table.execute("update background_tasks.jobs set scheduled_at = 'infinity'")  # so that nothing resets it
        # As when a process was frozen: the attempt asks first whether the time of its lease is over.
        worker._heartbeat._valid_until_seconds = 0.0
        go_on.set()
        await asyncio.wait_for(refused.wait(), 15)
        await _until_taken_back(table, job.id)


async def test_a_worker_that_is_back_takes_back_what_was_counted_for_an_outcome_that_came_too_late(
    scene: Scene,
) -> None:
    """It learned of the loss by that outcome, as where the database's clock was set on."""
    worker, names, table = scene.worker, scene.worker.names, scene.table
    lost, other = worker.worker_id, uuid.uuid4()
    assert lost is not None
    worker.claimer.open = False
    await calls.run(table, leases.register(names, other, lease_seconds=60, **OTHER))
    assert await rescue(table, names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
    await table.execute("update background_tasks.jobs set scheduled_at = 'infinity'")  # so that nothing resets it
    scene.end.set()
    await until(lambda: not (worker.in_hand or worker.desk.ids()), "its outcome was refused")
    assert await scene.lapses() == 1
    worker._heartbeat.hurry()
    await _until_taken_back(table, scene.job.id)


@pytest.mark.parametrize("how", ["put back", "deferred"])
async def test_a_job_that_was_given_back_too_late_is_remembered_for_the_report(scene: Scene, how: str) -> None:
    desk, batch, worker = Desk(), Batch(), scene.worker
    another_claim = 99
    if how == "deferred":
        batch.deferrals = [Deferral(scene.job.id, another_claim, b"why")]
    else:
        batch.put_backs = [PutBack(scene.job.id, another_claim)]
    assert worker.worker_id is not None
    await scene.table.execute("update background_tasks.jobs set lapsed_worker_id = %s", [worker.worker_id])
    await inquire(scene.table, worker.names, desk, worker.worker_id, batch)
    assert desk.blamed == {scene.job.id}


async def test_what_came_too_late_and_is_blamed_on_nobody_is_forgotten(scene: Scene) -> None:
    """As what has landed unheard, and is written again: a worker would grow with each connection that breaks."""
    desk, worker = Desk(), scene.worker
    assert worker.worker_id is not None
    await inquire(scene.table, worker.names, desk, worker.worker_id, Batch(put_backs=[PutBack(scene.job.id, 99)]))
    assert desk.blamed == set()


async def test_an_attempt_that_takes_a_lease_for_lost_that_is_kept_has_no_report_end_it(scene: Scene) -> None:
    worker, lost, kept = scene.worker, uuid.uuid4(), scene.worker.worker_id
    assert kept is not None
    await scene.table.execute("update background_tasks.workers set lapsed_at = null")
    worker.lost[kept].append(scene.job.id)
    worker.lost[lost].append(scene.job.id)
    await reporting.report_again(worker, kept)
    assert [*worker.lost] == [kept]
    scene.end.set()
    await scene.job.result(timeout=15)
    assert len(await worker.app.history(scene.job.id)) == 1


async def test_a_worker_that_is_back_takes_back_what_was_counted_for_a_claim_whose_answer_came_too_late(
    scene: Scene,
) -> None:
    worker, names, table = scene.worker, scene.worker.names, scene.table
    lost, other = worker.worker_id, uuid.uuid4()
    assert lost is not None
    await calls.run(table, leases.register(names, other, lease_seconds=60, **OTHER))
    assert await rescue(table, names, lost, other, worker.limits_of, ever_reported=False, seldom=Seldom())
    (claimed,) = (attempt.job for attempt in worker.executor.running.values())
    worker.claimer.open = False
    await table.execute("update background_tasks.jobs set scheduled_at = 'infinity'")
    worker.executor.running.clear()  # as if it hadn't been read
    worker._heartbeat.hurry()
    await until(lambda: worker.worker_id not in {None, lost} and not worker.lost, "it has reported")
    assert await scene.lapses() == 1
    worker.take_claimed([claimed], lost)
    await _until_taken_back(table, scene.job.id)


async def _until_taken_back(table: psycopg.AsyncConnection[Any], job_id: int) -> None:
    query = "select from background_tasks.jobs where id = %s and lapses = 0"
    async with asyncio.timeout(15):
        while not (await table.execute(query, [job_id])).rowcount:  # noqa: ASYNC110 - nobody is notified of it
            await asyncio.sleep(0.01)


async def test_what_a_worker_that_is_back_has_rescued_is_found_though_its_claims_have_passed_its_place_by(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = scene.worker

    async def rescue_later(connection: psycopg.AsyncConnection[Any], **options: Any) -> int:
        floors = worker.claimer.floors
        await until(lambda: floors._others_at_seconds is not None, "claims have looked everywhere")
        await until(lambda: not worker.desk.is_looking, "that is over")
        floors._everywhere_at_seconds = asyncio.get_running_loop().time() + 1000
        return await rescue(connection, **options)

    monkeypatch.setattr(reporting, "rescue", rescue_later)
    await scene.table.execute("update background_tasks.jobs set scheduled_at = now() - interval '1 d'")
    worker._heartbeat.hurry()
    await asyncio.wait_for(scene.again.wait(), 15)


async def test_a_job_that_is_locked_when_its_code_comes_is_due_as_soon_as_it_isnt(
    app: App, migrated_database: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        pass

    job = await task.start()
    async with await psycopg.AsyncConnection.connect(migrated_database) as holder:
        await holder.execute(
            "update background_tasks.jobs set unreadable = 40, scheduled_at = clock_timestamp() + interval '60 s'"
        )
        await holder.commit()
        await holder.execute("select from background_tasks.jobs for update")
        async with app.worker() as worker:
            await (await task.start()).result(timeout=15)  # by now it has looked
            assert worker._short_tasks  # and goes on to look
            await holder.rollback()
            await job.result(timeout=15)


LOOKED_AT = """
    create sequence looks;
    create function defer() returns trigger language plpgsql as $$
    begin
        perform nextval('looks');
        new.scheduled_at := old.scheduled_at;
        return new;
    end
    $$;
    create trigger defer before update on background_tasks.jobs for each row execute function defer()
"""


async def test_a_job_that_is_deferred_at_once_when_its_code_comes_is_looked_at_once(
    app: App, migrated_database: str
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    await task.start(at=timedelta(hours=1))
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table:
        await table.execute("update background_tasks.jobs set unreadable = 40")
        await table.execute(LOOKED_AT)
        async with app.worker() as worker:
            await until(lambda: not worker._short_tasks, "it has reported")
            assert await (await table.execute("select last_value from looks")).fetchone() == (1,)


async def test_a_report_that_the_database_refuses_is_made_again(app: App, migrated_database: str) -> None:
    # It once ended with the first refusal: jobs that waited for this code went on waiting.
    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return ctx.id

    job = await task.start(at=timedelta(hours=1))
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table:
        await table.execute("update background_tasks.jobs set unreadable = 3")
        await table.execute("alter table background_tasks.jobs rename to elsewhere")
        async with app.worker() as worker:
            await until(lambda: "report after a lost lease" in worker.condition._troubled, "it is refused")
            await table.execute("alter table background_tasks.elsewhere rename to jobs")
            assert await job.result(timeout=20) == job.id
