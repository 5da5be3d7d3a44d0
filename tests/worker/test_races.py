"""Races and odd handlers that a review of the worker found."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, Failed, JobState, LeaseLost, Raised, Suspended
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - the tasks' annotations are evaluated
from perdure.worker import rescuer
from perdure.worker.claimer import Claimer
from tests.support.jobs import job_until, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.store.calls import Call


@dataclass
class Progress:
    done: int = 0


@dataclass
class Unprintable:
    number: int = 1

    def __repr__(self) -> str:
        message = "no"
        raise RuntimeError(message)


@pytest.mark.parametrize("outcome", [Suspended, lambda: 7])
async def test_an_outcome_claims_nothing_of_a_transaction_that_is_still_open(
    app: App, migrated_database: str, outcome: Callable[[], Any]
) -> None:
    inside, never = asyncio.Event(), asyncio.Event()
    blocks: list[asyncio.Task[None]] = []

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int | Suspended:
        async def block() -> None:
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (1)")
                ctx.execution_metadata.done = 1
                inside.set()
                await never.wait()

        blocks.append(asyncio.create_task(block()))
        await inside.wait()
        ended: int | Suspended = outcome()
        return ended

    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (n int)")
        async with app.worker():
            job = await task.start()
            await job_until(job, lambda job: job.state in {JobState.SUSPENDED, JobState.COMPLETED})
            never.set()
            with pytest.raises(LeaseLost):
                await blocks[0]
        assert (await job.refresh()).execution_metadata == Progress(0)
        row = await (await connection.execute("select count(*) from effects")).fetchone()
        assert row == (0,)


async def test_a_lease_lost_of_the_handlers_own_is_a_raise_like_any_other(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        message = "of another job"
        raise LeaseLost(message)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert job.attempt == 1
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.LeaseLost"


async def test_an_error_that_cant_be_shown_is_stored_all_the_same(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None | Failed[Unprintable]:  # noqa: RUF036 - as people write it
        return Failed(Unprintable(), retry=False)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert job.last_error is not None
    assert "its repr can't be made" in job.last_error


async def test_an_attempt_that_was_told_that_its_lease_is_lost_is_an_attempt_though_the_renewal_comes_after_all(
    app: App,
) -> None:
    seen: list[int] = []

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        seen.append(ctx.attempt)
        if len(seen) == 1:
            # The renewal is late, and the loop hasn't turned yet; it comes as soon as the handler has been told.
            lease, worker_id = worker._heartbeat, worker.worker_id
            lease._valid_until_seconds = 0.0
            asyncio.get_running_loop().call_soon(renew, lease, worker_id)
        await ctx.persist()

    def renew(lease: Any, worker_id: Any) -> None:
        if lease._worker_id == worker_id:
            lease._valid_until_seconds = time.monotonic() + 30

    async with app.worker() as worker:
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.COMPLETED)
        assert seen == [1, 2]
        assert [attempt.ending.value for attempt in await job.history()] == ["lapsed", "job completed"]
    assert job.attempt == 2


def test_a_poke_while_a_claim_is_under_way_outlives_its_answer() -> None:
    claimer = Claimer(concurrency=10, batch_size=10)
    claimer.open = True
    pokes = claimer.pokes
    want = claimer.want(0)
    claimer.poke()
    claimer.claimed(want, 0, pokes=pokes)
    assert claimer.want(0) == 10


async def test_a_burst_of_starts_leaves_none_to_the_next_poll(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app, app.worker():
        for _ in range(40):
            jobs = await asyncio.gather(*(task.start() for _ in range(3)))
            for job in jobs:
                await job.result(timeout=10)


async def test_a_cancelled_stop_skips_the_grace_and_leaves_nothing_behind(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 3600, "cancel_grace": 0.2})
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.done = 7
        running.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    async with app:
        job = await task.start()
        worker = app.worker()
        await worker.start()
        await running.wait()
        stop = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)  # it has begun
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        await job.refresh()
        assert (job.state, job.execution_metadata) == (JobState.PENDING, Progress(7))
        async with app.pool.connection() as connection:
            workers = await (await connection.execute("select count(*) from background_tasks.workers")).fetchone()
        assert workers == (0,)
    assert not [thread for thread in threading.enumerate() if thread.name == "perdure heartbeat"]
    assert not [other for other in asyncio.all_tasks() - before if other.get_name().startswith("perdure")]


FORGETFUL = """
import asyncio, sys, threading
from perdure import App

app = App(sys.argv[1], execution={"lease_duration": 2})

async def begin_and_forget():
    await app.open()
    await app.worker().__aenter__()

asyncio.run(begin_and_forget())
for thread in threading.enumerate():
    if thread.name == "perdure heartbeat":
        thread.join()
"""


def test_a_worker_whose_loop_is_closed_gives_its_lease_back(migrated_database: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORGETFUL, migrated_database]
    subprocess.run(command, check=True, timeout=30)
    with psycopg.connect(migrated_database) as connection:
        assert connection.execute("select count(*) from background_tasks.workers").fetchone() == (0,)


async def test_def_jobs_that_wait_for_a_thread_are_not_hoarded(migrated_database: str) -> None:
    app = App(migrated_database, execution={"threads": 1, "concurrency": 10}, scheduling={"polling_delay": 0.1})
    first, go = threading.Event(), threading.Event()

    @app.task("blocking")
    def blocking(ctx: BlockingContext[int, None]) -> int:
        first.set()
        go.wait(timeout=30)
        return ctx.metadata

    @app.task("other")
    async def other(ctx: Context[None, None]) -> None: ...

    async with app, app.worker():
        jobs = await blocking.start_many([1, 2])
        assert await asyncio.to_thread(first.wait, 10)
        await (await other.start()).result(timeout=10)
        # The second is claimed, and goes back without an attempt, since it can't start.
        await job_until(jobs[1], lambda job: (job.state, job.attempt) == (JobState.RUNNING, 1))
        await job_until(jobs[1], lambda job: (job.state, job.attempt) == (JobState.PENDING, 0))
        go.set()
        assert [await job.result(timeout=10) for job in jobs] == [1, 2]


async def test_an_app_of_def_tasks_claims_no_more_than_it_has_threads_for(migrated_database: str) -> None:
    app = App(migrated_database, execution={"threads": 1, "concurrency": 10})
    first, go = threading.Event(), threading.Event()

    @app.task("blocking")
    def blocking(ctx: BlockingContext[int, None]) -> int:
        first.set()
        go.wait(timeout=30)
        return ctx.metadata

    async with app, app.worker() as worker:
        jobs = await blocking.start_many([1, 2, 3])
        assert await asyncio.to_thread(first.wait, 10)
        assert worker.in_hand == 1
        go.set()
        assert [await job.result(timeout=10) for job in jobs] == [1, 2, 3]


async def test_suspects_follow_each_other_without_waiting_for_the_next_sweep(migrated_database: str) -> None:
    app = App(migrated_database)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> None: ...

    async with app:
        jobs = await task.start_many(range(20))
        async with app.pool.connection() as connection:
            await connection.execute("update background_tasks.jobs set suspect = true, lapses = 2")
        async with app.worker():
            # One each longest sleep between sweeps would take three times as long as this waits.
            await job_until(jobs[-1], lambda job: job.state is JobState.COMPLETED)


async def test_suspects_for_which_no_thread_is_free_run_one_at_a_time_when_one_is(migrated_database: str) -> None:
    app = App(migrated_database, execution={"threads": 2})
    go, met, running = threading.Event(), threading.Event(), 0

    @app.task("busy")
    def busy(ctx: BlockingContext[int, None]) -> None:
        go.wait(30)

    @app.task("suspect")
    def suspect(ctx: BlockingContext[int, None]) -> None:
        nonlocal running
        running += 1
        if running > 1:
            met.set()
        met.wait(0.2)
        running -= 1

    async with app, app.worker(), app.pool.connection() as connection:
        for job in await busy.start_many([1, 2]):
            await job_until(job, lambda job: job.state is JobState.RUNNING)
        jobs = await suspect.start_many([1, 2, 3], at=timedelta(hours=1))
        await connection.execute(
            "update background_tasks.jobs set suspect = true, lapses = 2, scheduled_at = now() where task = 'suspect'"
        )
        await connection.commit()
        async with asyncio.timeout(30):
            claimed = "select sum(claim) >= 3 from background_tasks.jobs where task = 'suspect'"  # some again and again
            while (await (await connection.execute(claimed)).fetchone()) != (True,):
                await connection.commit()
                await asyncio.sleep(0.01)
        go.set()
        for job in jobs:
            await job.result(timeout=20)
    assert not met.is_set()


async def test_a_suspect_gets_its_run_under_load(migrated_database: str) -> None:
    app = App(migrated_database, execution={"concurrency": 2}, scheduling={"batch_size": 10})
    ran: list[int] = []

    @app.task("t")
    async def task(ctx: Context[int, None]) -> None:
        await asyncio.sleep(0.01)
        ran.append(ctx.metadata)

    async with app:
        jobs = await task.start_many(range(1000))
        async with app.pool.connection() as connection:
            await connection.execute(
                "update background_tasks.jobs set suspect = true, lapses = 2 where id = %s", [jobs[0].id]
            )
        async with app.worker():
            await job_until(jobs[0], lambda job: job.state is JobState.COMPLETED)
            assert len(ran) < 900


async def test_a_suspect_whose_claim_comes_while_the_worker_stops_is_put_back(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 10})
    claimed = asyncio.Event()
    run = rescuer.calls.run

    async def run_slowly(connection: psycopg.AsyncConnection[Any], call: Call[Any]) -> Any:
        answer = await run(connection, call)
        if call.statement == worker.names.statements["claim_suspect"]:
            claimed.set()
            await until(lambda: worker.stopping, "it stops")
        return answer

    monkeypatch.setattr(rescuer, "calls", SimpleNamespace(run=run_slowly))

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app:
        job = await task.start(at=timedelta(hours=1))
        worker = app.worker()
        await worker.__aenter__()
        async with app.pool.connection() as connection:
            await connection.execute(
                "update background_tasks.jobs set suspect = true, lapses = 2, scheduled_at = now()"
            )
        await claimed.wait()
        await worker.stop()
        await job.refresh()
        assert (job.state, job.attempt) == (JobState.PENDING, 0)


@pytest.mark.parametrize(("left_at", "state"), [("now()", JobState.COMPLETED), ("null", JobState.FAILED)])
async def test_a_worker_that_stopped_by_itself_is_no_lapse_of_the_jobs_it_couldnt_settle(
    migrated_database: str, left_at: str, state: JobState
) -> None:
    app = App(migrated_database, execution={"max_lapses": 1})

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app:
        job = await task.start()
        async with app.pool.connection() as connection:
            await connection.execute(
                f"""with gone as (
                    insert into background_tasks.workers (id, lease_until, lease_seconds, lapsed_at, left_at, host, pid,
                        concurrency, version) values (gen_random_uuid(), now(), 1, now(), {left_at}, '', 1, 1, '')
                    returning id
                ) update background_tasks.jobs set state = 2, claim = 1, attempt = 1, worker_id = gone.id from gone
                """.encode()
            )
        async with app.worker():
            await job_until(job, lambda job: job.state.is_final)
        assert job.state is state
