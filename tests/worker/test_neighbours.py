"""Whatever is wrong with one job, or its row, the others don't feel it: found by a review, each once a failure."""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest_asyncio

from perdure import App, Context, JobState, Suspended
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.worker.port import WorkerPort
from tests.support.jobs import job_until, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


@dataclass
class Ping:
    number: int


@pytest_asyncio.fixture
async def sql(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection in autocommit mode, to spoil things with."""
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("set search_path = background_tasks")
        yield connection


@pytest_asyncio.fixture
async def locker(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection that holds locks until it is told to roll back."""
    async with await psycopg.AsyncConnection.connect(migrated_database) as connection:
        await connection.execute("set search_path = background_tasks")
        await connection.commit()
        yield connection


async def test_a_row_at_the_end_of_its_numbers_is_claimed_like_any_other(
    app: App, sql: psycopg.AsyncConnection[Any]
) -> None:
    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    jobs = await task.start_many([1, 2])
    await sql.execute("update jobs set attempt = 2147483647, claim = 2147483647 where id = %s", [jobs[0].id])
    async with app.worker():
        assert [await job.result(timeout=10) for job in jobs] == [1, 2]


async def test_a_backlog_past_its_deadline_harms_nobody(
    migrated_database: str, sql: psycopg.AsyncConnection[Any]
) -> None:
    app = App(migrated_database, execution={"concurrency": 1})
    running, go = asyncio.Event(), asyncio.Event()

    @app.task("quick")
    async def quick(ctx: Context[int, None]) -> None: ...

    @app.task("holder", priority=50, scheduler_retry_count=0)
    async def holder(ctx: Context[None, None]) -> str:
        running.set()
        await go.wait()
        return "done"

    async with app, app.worker() as worker:
        await (await quick.start_many(range(300)))[-1].result(timeout=20)  # so that it claims ahead
        job = await holder.start()
        await running.wait()
        async with sql.transaction():
            late = await quick.start_many(range(400), deadline=timedelta(hours=1), connection=sql)
            await sql.execute("update jobs set deadline_at = now() where task = 'quick' and state = 0")
        await until(lambda: worker.in_hand > 1, "the worker has claimed ahead")
        go.set()
        assert await job.result(timeout=10) == "done"
        for one in late:
            await job_until(one, lambda job: job.state is JobState.FAILED)


async def test_payloads_that_cant_be_looked_at_let_their_job_wait(app: App, sql: psycopg.AsyncConnection[Any]) -> None:
    def upgrade(_kind: str, value: Any) -> Any:
        return value

    @app.task("strange", version=2, upgrades={1: upgrade})
    async def strange(ctx: Context[dict[str, float], None]) -> None: ...

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    odd, other = await strange.start({}), await task.start(1)
    await sql.execute("""update jobs set version = 1, metadata = '{"a": 1e5000}' where id = %s""", [odd.id])
    async with app.worker():
        assert await other.result(timeout=10) == 1
        await job_until(odd, lambda job: job.last_error is not None)
    assert (odd.state, odd.attempt) == (JobState.PENDING, 0)


async def test_an_attempt_that_had_begun_keeps_its_number_when_it_waits_for_other_code(
    app: App, sql: psycopg.AsyncConnection[Any], locker: psycopg.AsyncConnection[Any]
) -> None:
    charged, attempts = list[int](), list[int]()
    about, go = asyncio.Event(), asyncio.Event()

    def charge() -> int:
        charged.append(1)
        return 1

    @app.task("t", events=Ping)
    async def task(ctx: Context[None, None]) -> None:
        await ctx.step("charge", charge)
        attempts.append(ctx.attempt)
        about.set()
        await go.wait()
        await ctx.next_event()

    async with app.worker() as worker:
        job = await task.start()
        await task.send(job.id, Ping(1))
        await sql.execute("update events set event = '{}'")
        await about.wait()
        await locker.execute("select from jobs where id = %s for no key update", [job.id])
        go.set()
        # From outside it can't be told from one that hasn't been tried yet.
        await until(lambda: job.id in worker.desk._tries, "its return was tried, and found the row locked")
        await locker.rollback()
        await until(lambda: len(attempts) > 1, "it has another attempt")
    assert (attempts[:2], charged) == ([1, 2], [1])


async def test_a_claim_that_is_put_back_at_a_stop_waits_for_a_lock_to_go(
    migrated_database: str, locker: psycopg.AsyncConnection[Any]
) -> None:
    app = App(migrated_database, execution={"concurrency": 1, "shutdown_grace": 0.2, "max_lapses": 1})
    go = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[int, None]) -> None:
        if ctx.metadata < 0:
            await go.wait()

    async with app:
        worker = app.worker()
        await worker.__aenter__()
        await (await task.start_many(range(300)))[-1].result(timeout=20)
        await task.start(-1, connection=locker, priority=5)
        ahead = await task.start(1, connection=locker)
        await locker.commit()
        await until(lambda: worker.in_hand == 2, "one runs, one is claimed ahead")
        await locker.execute("select from jobs where id = %s for update", [ahead.id])
        stop = asyncio.create_task(worker.stop())
        await until(lambda: ahead.id in worker.desk._tries, "to put it back was tried, and found the row locked")
        await locker.rollback()
        await stop
        await ahead.refresh()
        assert (ahead.state, ahead.attempt) == (JobState.PENDING, 0)


async def test_a_sleep_ends_in_time_however_seldom_is_polled(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        await ctx.sleep(0.2)
        return 1

    async with app, app.worker():
        assert await (await task.start()).result(timeout=10) == 1


async def test_a_thread_that_cant_start_leaves_its_place_free(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database, execution={"threads": 1}, scheduling={"scheduler_retry_delays": [0]})
    start, failures = threading.Thread.start, [1, 2]

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("perdure job") and failures:
            failures.pop()
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    @app.task("t")
    def task(ctx: BlockingContext[None, None]) -> int:
        return ctx.attempt

    async with app, app.worker():
        assert await (await task.start()).result(timeout=10) == 3


async def test_a_job_that_can_be_neither_rescued_nor_expired_holds_up_no_other(
    migrated_database: str, sql: psycopg.AsyncConnection[Any]
) -> None:
    """An id that is in both tables: a table was restored in part, a sequence was reset."""
    app = App(migrated_database, execution={"lease_duration": 2, "max_lapses": 1})

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with app:
        async with app.worker():
            done, other = await task.start_many([0, 0])
            for job in (done, other):
                await job.result(timeout=10)
        later = {"at": timedelta(days=1), "deadline": timedelta(days=1)}
        double, twin, lost, expired = await task.start_many([1, 2, 3, 4], **later)
        await sql.execute("update jobs set id = %s where id = %s", [done.id, double.id])
        await sql.execute("update jobs set id = %s where id = %s", [other.id, twin.id])
        await sql.execute("update jobs set deadline_at = now() where id in (%s, %s)", [done.id, expired.id])
        await sql.execute(
            "update jobs set state = 2, worker_id = %s, claim = 1, attempt = 1, deadline_at = null "
            "where id in (%s, %s)",
            [uuid.uuid4(), other.id, lost.id],
        )
        async with app.worker():
            await job_until(expired, lambda job: job.state is JobState.FAILED)
            await job_until(lost, lambda job: job.state is JobState.FAILED)


async def test_a_job_whose_end_cant_be_stored_waits_longer_and_longer(
    migrated_database: str, sql: psycopg.AsyncConnection[Any]
) -> None:
    app = App(migrated_database, scheduling={"polling_delay": 0.05})
    attempts = list[int]()

    @app.task("t")
    async def task(ctx: Context[int, None]) -> None:
        attempts.append(ctx.attempt)

    async with app, app.worker():
        done = await task.start(0)
        await done.result(timeout=10)
        double = await task.start(1, at=timedelta(days=1))
        attempts.clear()
        await sql.execute("update jobs set id = %s, scheduled_at = now() where id = %s", [done.id, double.id])
        await until(lambda: len(attempts) == 2, "it has another attempt, after a second")
        row = await (await sql.execute("select unreadable, last_error from jobs")).fetchone()
    assert attempts == [1, 2]
    assert row is not None
    assert row[0] >= 1
    assert "neither its outcome nor its failure can be stored" in row[1]


async def test_a_lock_on_a_sleepers_row_holds_up_no_other_job(app: App, locker: psycopg.AsyncConnection[Any]) -> None:
    running, go = asyncio.Semaphore(0), asyncio.Event()

    @app.task("sleeper")
    async def sleeper(ctx: Context[None, None]) -> None:
        running.release()
        await go.wait()
        await ctx.sleep(3600)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with app.worker():
        sleepers = await sleeper.start_many([None, None, None])
        for _ in sleepers:
            await running.acquire()
        await locker.execute("select from jobs for no key update")
        go.set()
        for number in range(20):
            assert await (await task.start(number)).result(timeout=10) == number
        await locker.rollback()
        for job in sleepers:
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)


async def test_a_cancel_during_the_upgrade_of_a_def_job_comes_before_its_handler(
    app: App, sql: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, upgrading, go = list[int](), asyncio.Event(), asyncio.Event()
    upgrade = WorkerPort.upgrade

    async def slow(port: WorkerPort, attempt: Any, entry: Any) -> None:
        await upgrade(port, attempt, entry)
        upgrading.set()
        await go.wait()

    monkeypatch.setattr(WorkerPort, "upgrade", slow)

    @app.task("t", version=2, upgrades={1: lambda _kind, value: value})
    def task(ctx: BlockingContext[None, None]) -> None:
        ran.append(ctx.id)

    job = await task.start()
    await sql.execute("update jobs set version = 1")
    async with app.worker() as worker:
        await upgrading.wait()
        await app.cancel(job.id)
        await until(lambda: worker.executor.running[job.id].stop_reason is not None, "the cancel has come")
        go.set()
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
    assert ran == []


async def test_waits_of_whole_and_of_broken_seconds_share_a_batch(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"scheduler_retry_count": 1, "scheduler_retry_delays": [60]})
    together = asyncio.Barrier(3)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> Suspended:
        await together.wait()
        if ctx.metadata == 0:
            message = "waits for 60 s, which is an int"
            raise RuntimeError(message)
        return Suspended(until=timedelta(seconds=30.5) if ctx.metadata == 1 else None)

    async with app, app.worker():
        jobs = await task.start_many([0, 1, 2])
        await job_until(jobs[0], lambda job: job.state is JobState.RETRYING)
        for job in jobs[1:]:
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)


async def test_an_exception_whose_traceback_cant_be_made_is_a_raise_like_any_other(app: App) -> None:
    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> None:
        message = "odd"
        raise SyntaxError(message, ("f", 1, "a", "text"))

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert "odd" in str(job.error)


async def test_a_persist_that_a_stop_couldnt_write_keeps_nobody_waiting(
    migrated_database: str, locker: psycopg.AsyncConnection[Any]
) -> None:
    app = App(migrated_database, execution={"lease_duration": 2, "shutdown_grace": 0, "cancel_grace": 0.1})
    running, go = asyncio.Event(), asyncio.Event()
    ended = list[BaseException]()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        running.set()
        await go.wait()
        try:
            await ctx.persist()
        except BaseException as error:
            ended.append(error)
            raise

    async with app:
        worker = app.worker()
        await worker.__aenter__()
        job = await task.start()
        await running.wait()
        await locker.execute("select from jobs where id = %s for update", [job.id])
        go.set()
        await worker.stop()
        await until(lambda: bool(ended), "the handler has ended")
        await locker.rollback()
    assert type(ended[0]).__name__ in {"LeaseLost", "CancelledError"}


async def test_a_sleep_under_a_steps_key_says_so_and_leaves_its_result(
    app: App, sql: psycopg.AsyncConnection[Any]
) -> None:
    async def once() -> int:
        return 7

    @app.task("t", scheduler_retry_count=1, scheduler_retry_delays=[0])
    async def task(ctx: Context[None, None]) -> None:
        if ctx.attempt == 1:
            await ctx.step("pause", once)
            message = "then the code is changed"
            raise RuntimeError(message)
        await ctx.sleep(0.1, key="pause")

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert "'pause' is the key of a step" in str(job.error)
    assert await (await sql.execute("select result::text from steps")).fetchone() == ("7",)
