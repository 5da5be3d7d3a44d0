"""Due jobs that nobody is notified of are found all the same, long before the next poll."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest_asyncio

from perdure import App, Context, JobState
from perdure.worker.claimer import Claimer
from perdure.worker.floors import Floors
from perdure.worker.lane import Lane
from perdure.worker.looks import Looks
from tests.support.jobs import is_in, job_until, settled_in, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

OLD = "scheduled_at = now() - interval '1 d'"


@dataclass
class Length:
    is_long: bool


@pytest_asyncio.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    """An open app whose workers as good as never poll."""
    async with App(migrated_database, scheduling={"polling_delay": timedelta(days=1)}) as app:
        yield app


async def change(app: App, assignments: str, job_id: int) -> None:
    """Change a job behind everybody's back."""
    async with app.pool.connection() as connection:
        await connection.execute(f"update background_tasks.jobs set {assignments} where id = {job_id}")


async def test_a_job_that_came_to_an_old_place_is_found_after_the_next_claim(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app.worker() as worker:
        await (await task.start()).result(timeout=10)
        old = await task.start(at=timedelta(hours=1))
        await change(app, OLD, old.id)
        now_seconds = asyncio.get_running_loop().time()
        worker.claimer.floors.looked_everywhere(now_seconds - 0.05, now_seconds)  # so that the next one isn't due yet
        await (await task.start()).result(timeout=10)  # by a claim that begins behind it
        await old.result(timeout=20)


async def test_a_band_that_a_claim_has_passed_by_has_no_floor(app: App) -> None:
    """What is due in a small priority while a batch of a larger one is claimed is behind that one's floor."""
    release = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await release.wait()

    small = await task.start(priority=0)
    await change(app, OLD, small.id)  # further back than a claim looks now and then
    await task.start_many([None] * 2, priority=1)
    async with app.worker(concurrency=2) as worker:
        await until(lambda: worker.in_hand == 2 and worker._listener.is_listening, "nobody asks it to look everywhere")
        floors, now_seconds = worker.claimer.floors, asyncio.get_running_loop().time()
        floors._everywhere_at_seconds = now_seconds + 1000
        release.set()
        await asyncio.wait_for(small.result(), 10)
        assert floors.everywhere_in_seconds(now_seconds) > 900


async def test_a_job_of_a_band_that_was_missing_is_found_as_soon_as_that_is_noticed(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app.worker() as worker:
        await (await task.start()).result(timeout=10)
        await until(lambda: worker.claimer.sleeping and not worker.claimer._maybe_due, "no claim is under way")
        now_seconds = asyncio.get_running_loop().time()
        worker.claimer.floors.took_all(time.time())
        worker.claimer.floors.looked_everywhere(now_seconds - 0.5, now_seconds)  # so that the next one isn't due yet
        lost = await task.start(queue="lost", at=timedelta(hours=1))
        await change(app, OLD, lost.id)
        async with app.pool.connection() as connection:
            await connection.execute("delete from background_tasks.bands where queue = 'lost'")
        for service in worker._services:
            service.poke()
        await lost.result(timeout=10)


async def test_a_job_that_could_not_be_read_is_tried_again_when_it_is_due(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    job = await task.start(7)
    await change(app, """metadata = '"no number"'""", job.id)
    async with app.worker():
        await job_until(job, lambda job: job.last_error is not None)
        await change(app, "metadata = '8'", job.id)
        assert await job.result(timeout=10) == 8


async def test_what_was_put_back_is_looked_for_again(app: App) -> None:
    release = asyncio.Event()

    @app.task("mixed")
    async def mixed(ctx: Context[Length, None]) -> None:
        if ctx.metadata.is_long:
            await release.wait()

    async with app.worker(concurrency=2) as worker:
        # Short ones first, so that the worker measures that it may claim ahead.
        for job in await mixed.start_many([Length(is_long=False)] * 300):
            await job.result(timeout=10)
        long_ones = await mixed.start_many([Length(is_long=True)] * 2)
        for job in long_ones:
            await is_in(job, JobState.RUNNING)
        ahead = await mixed.start(Length(is_long=False))
        await until(lambda: worker.in_hand == 3, "it is claimed ahead")
        await until(lambda: worker.in_hand == 2, "it is put back")
        release.set()
        for job in (*long_ones, ahead):
            await job.result(timeout=10)


async def test_a_worker_that_may_have_said_it_is_awake_says_that_it_sleeps(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_so, release = asyncio.Event(), asyncio.Event()
    send = Lane._send

    async def losing(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        answers = await send(lane, calls)
        if not said_so.is_set() and any(call.parameters.get("sleeping") is False for call in calls.values()):
            said_so.set()
            release.set()
            claimer = lane._claimer
            await until(lambda: not (worker.in_hand or claimer._maybe_due), "the other lane has claimed in vain")
            assert lane._connection is not None
            await lane._connection.close()
            message = "the answer is lost"
            raise psycopg.OperationalError(message)
        return answers

    monkeypatch.setattr(Lane, "_send", losing)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await release.wait()

    worker = app.worker(concurrency=1)
    async with worker:
        await until(lambda: worker.claimer.sleeping, "it sleeps")
        first = await task.start()
        await is_in(first, JobState.RUNNING)
        for _ in range(4):  # in vain: every slot is taken
            worker.wake()
            await asyncio.sleep(0)
        await asyncio.wait_for(said_so.wait(), 10)
        await first.result(timeout=10)
        async with app.pool.connection() as connection, asyncio.timeout(10):
            while True:  # the row is what starters look at
                cursor = await connection.execute("select sleeping from background_tasks.workers")
                if await cursor.fetchone() == (True,):
                    break
                await asyncio.sleep(0.01)
        await (await task.start()).result(timeout=10)


def test_a_few_free_slots_wait_for_the_large_claim_under_way() -> None:
    claimer = Claimer(concurrency=100, batch_size=100)
    claimer.open = True
    assert claimer.want(0) == 100
    claimer.claimed(100, 100, pokes=claimer.pokes)
    assert claimer.want(40) == 60
    assert claimer.want(30) == 0  # these ten would get what comes after the sixty
    claimer.claimed(60, 60, pokes=claimer.pokes)
    assert claimer.want(90) == 10


async def test_a_job_that_came_while_the_worker_went_to_sleep_is_found(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    send, started = Lane._send, list[Any]()

    async def starting(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if not started and any(call.parameters.get("sleeping") is True for call in calls.values()):
            started.append(await task.start())  # it has claimed in vain, and nobody sees it sleep yet
        return await send(lane, calls)

    monkeypatch.setattr(Lane, "_send", starting)
    monkeypatch.setattr(Looks, "everywhere", lambda _looks, _floors: None)  # which would find it, if it were due
    async with app.worker():
        await until(lambda: bool(started), "it goes to sleep")
        await started[0].result(timeout=10)


async def test_what_is_deferred_is_found_by_a_claim_that_doesnt_look_everywhere(app: App) -> None:
    """To look everywhere may cost much, and jobs that can't be read may come all the time."""

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with app.worker() as worker:
        await until(lambda: worker._listener.is_listening, "it has looked for what was notified before")
        await (await task.start(1)).result(timeout=10)
        await until(lambda: not worker.desk.is_looking, "no look everywhere is under way")
        floors, now_seconds = worker.claimer.floors, asyncio.get_running_loop().time()
        floors._everywhere_at_seconds = now_seconds + 1000
        job = await task.start(7, at=timedelta(hours=1))
        await change(app, """metadata = '"no number"', scheduled_at = clock_timestamp()""", job.id)
        await (await task.start(2)).result(timeout=10)
        await job_until(job, lambda job: job.last_error is not None)
        await change(app, "metadata = '8'", job.id)
        assert await job.result(timeout=10) == 8
        assert floors.everywhere_in_seconds(now_seconds) > 900


async def test_what_the_row_of_a_lost_lease_says_isnt_taken_for_the_new_ones(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost = Lane._send, list[Any]()

    async def losing(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        answers = await send(lane, calls)
        if not lost and any(call.parameters.get("sleeping") is True for call in calls.values()):
            lost.append(worker.worker_id)
            async with app.pool.connection() as connection:
                await connection.execute("update background_tasks.workers set lapsed_at = clock_timestamp()")
            worker._heartbeat.hurry()
            await until(lambda: worker.worker_id not in {None, *lost}, "it has another lease")
        return answers

    monkeypatch.setattr(Lane, "_send", losing)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    worker = app.worker()
    async with worker:
        await until(lambda: bool(lost) and worker.worker_id not in {None, *lost}, "it has another lease")
        async with app.pool.connection() as connection, asyncio.timeout(10):
            while True:
                cursor = await connection.execute(
                    "select sleeping from background_tasks.workers where lapsed_at is null"
                )
                if await cursor.fetchone() == (True,):
                    break
                await asyncio.sleep(0.01)
        await (await task.start()).result(timeout=10)


async def test_no_job_waits_for_a_claim_that_looks_everywhere(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One notification wakes one lane: that one lets another claim beside it."""

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    send, held, done = Lane._send, list[Lane](), asyncio.Event()

    async def holding(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if began and lane._looks_everywhere:
            held.append(lane)
            await done.wait()
        return await send(lane, calls)

    def is_asleep() -> bool:
        """So that whoever starts a job notifies it, and it hears that."""
        claimer, waiters = worker.claimer, worker.desk._waiters
        is_idle = claimer.sleeping and not claimer._maybe_due and len(waiters) == len(worker.lanes)
        return is_idle and worker._listener.is_listening

    began = False
    monkeypatch.setattr(Lane, "_send", holding)
    for look in ("after_sleep", "everywhere"):  # which would wake the other lane by and by
        monkeypatch.setattr(Looks, look, lambda *_arguments: None)
    async with app.worker() as worker:
        for service in worker._services:  # so would they
            await service.stop()
        await settled_in(worker)
        await until(is_asleep, "it sleeps")
        await (await task.start()).result(timeout=10)
        await until(is_asleep, "it sleeps again")
        worker.claimer._mean_seconds = 0.001  # on a busy machine, too: else there is no room for two claims
        began = True
        worker.claimer.floors.look_everywhere()
        await (await task.start()).result(timeout=10)
        assert held
        done.set()


async def test_a_look_everywhere_that_has_failed_is_not_made_again_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be cut each time, since it takes longer than a lease."""

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    send, failed = Lane._send, list[float]()

    async def failing(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if began and lane._looks_everywhere:
            assert lane._connection is not None
            await asyncio.sleep(0.1)
            await lane._connection.close()
            failed.append(asyncio.get_running_loop().time())
            message = "it took too long"
            raise psycopg.OperationalError(message)
        return await send(lane, calls)

    began = False
    monkeypatch.setattr(Lane, "_send", failing)
    async with app.worker() as worker:
        await (await task.start()).result(timeout=10)
        began = True
        worker.claimer.look_everywhere()
        worker.wake()
        await until(lambda: bool(failed), "it has failed")
        await until(lambda: not worker.desk.is_looking, "it has ended")
        assert worker.claimer.floors.everywhere_in_seconds(failed[0]) > 1


async def test_claims_that_leave_a_locked_job_out_order_one_look_however_many_they_are() -> None:
    """Each look orders the next: as many as there were claims would go on for as long as the job's row is locked."""
    floors, looked_at_seconds = Floors(), list[float]()

    def look() -> None:
        looked_at_seconds.append(asyncio.get_running_loop().time())
        looks.after_left_out(floors, left_out=True)

    looks = Looks(look)
    for _ in range(30):  # a poll, notifications
        looks.after_left_out(floors, left_out=True)
    await until(lambda: len(looked_at_seconds) >= 8, "it looks again and again")
    assert looked_at_seconds[7] - looked_at_seconds[0] > 0.5


async def test_a_look_behind_the_floors_is_not_put_off_by_one_that_was_ordered_for_later() -> None:
    """One that was ordered while a look everywhere was under way: that may be over, and the next due, much sooner."""
    looked = asyncio.Event()
    looks, floors = Looks(looked.set), Floors()
    now_seconds = asyncio.get_running_loop().time()
    floors.choose(now_seconds, may_look_everywhere=True)  # under way: the next is due in seconds, as far as is known
    looks.everywhere(floors)
    floors.looked_everywhere(now_seconds, now_seconds + 0.001)
    looks.everywhere(floors)
    async with asyncio.timeout(2):
        await looked.wait()
