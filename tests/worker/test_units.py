"""What is written together: an event with what was done with it, a step alone, an outcome behind what is on its way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context, JobState, Suspended
from perdure.attempt import StopReason
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.worker.port import WorkerPort
from tests.support.jobs import job_until, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOCK = 4711


@dataclass
class Sum:
    total: int = 0
    seen: list[int] = field(default_factory=list)


@pytest_asyncio.fixture
async def connection(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of the test's own, to a table `effects` whose commits wait for an advisory lock."""
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute(
            f"""create table effects (n int);
            create function gate() returns trigger language plpgsql as
                'begin perform pg_advisory_xact_lock_shared({LOCK}); return null; end';
            create constraint trigger gate after insert on effects deferrable initially deferred
                for each row execute function gate()""".encode()
        )
        yield connection


async def commit_waits(connection: psycopg.AsyncConnection[Any]) -> None:
    """Wait until a commit is on its way, and held up."""
    async with asyncio.timeout(10):
        waits = "select from pg_locks where locktype = 'advisory' and not granted"
        while not (await connection.execute(waits)).rowcount:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


# --- a step's function has ended ---


async def test_a_step_of_a_def_handler_that_ends_during_a_stop_is_kept(app: App) -> None:
    called: list[int] = []
    began, may_end = threading.Event(), threading.Event()

    def charge() -> int:
        called.append(1)
        began.set()
        may_end.wait(10)
        return 7

    @app.task("t")
    def task(ctx: BlockingContext[None, None]) -> int:
        return ctx.step("charge", charge)

    job = await task.start()
    async with app.worker() as worker:
        await asyncio.to_thread(began.wait, 10)
        worker.cancel_grace_seconds = 10.0
        worker.executor.stop_all(StopReason.SHUTDOWN)
        may_end.set()
    assert (await job.refresh()).state is JobState.PENDING
    async with app.worker():
        assert await job.result(timeout=10) == 7
    assert called == [1]


async def test_parallel_steps_that_have_ended_are_all_kept_when_a_stop_comes(app: App) -> None:
    count, called = 40, list[int]()
    all_ended = asyncio.Event()

    async def square(number: int) -> int:
        called.append(number)
        if len(called) == count:
            all_ended.set()
        await all_ended.wait()
        return number * number

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return sum(await asyncio.gather(*(ctx.step(f"square {n}", square, n) for n in range(count))))

    job = await task.start()
    async with app.worker() as worker:
        await all_ended.wait()
        await asyncio.sleep(0)  # each function has ended, and waits to be written
        worker.cancel_grace_seconds = 10.0
        worker.executor.stop_all(StopReason.SHUTDOWN)
    assert (await job.refresh()).state is JobState.PENDING
    async with app.worker():
        assert await job.result(timeout=10) == sum(n * n for n in range(count))
    assert sorted(called) == list(range(count))


async def test_a_step_that_is_awaited_inside_a_transaction_that_began_after_it_is_stored_alone(app: App) -> None:
    called: list[int] = []
    may_end, began = asyncio.Event(), asyncio.Event()

    async def charge() -> int:
        called.append(1)
        began.set()
        await may_end.wait()
        return 7

    @app.task("t", scheduler_retry_count=1)
    async def task(ctx: Context[None, Sum]) -> str:
        step = asyncio.create_task(ctx.step("charge", charge))
        if not called:
            await began.wait()
        async with contextlib.AsyncExitStack() as stack:
            if ctx.attempt == 1:
                await stack.enter_async_context(ctx.transaction())
                ctx.execution_metadata.total = 1
            may_end.set()
            charged = await step
            if ctx.attempt == 1:
                message = "in the block"
                raise RuntimeError(message)
        return f"{charged} {ctx.execution_metadata.total}"

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == "7 0"
    assert called == [1]


# --- events ---


@pytest.mark.parametrize("ending", ["stop", "sleep"])
async def test_an_event_is_not_used_up_by_a_step_or_a_sleep_between_it_and_its_use(app: App, ending: str) -> None:
    given, hold, log = asyncio.Event(), asyncio.Event(), list[int]()

    async def logged(number: int) -> int:
        log.append(number)
        return 2 * number

    @app.task("t", events=int)
    async def task(ctx: Context[None, Sum]) -> int | Suspended:
        event = await ctx.next_event()
        if event is None:
            return Suspended()
        ctx.execution_metadata.seen.append(event)
        doubled = await ctx.step("double", logged, event)
        given.set()
        if ending == "sleep":
            await ctx.sleep(0.05)
        elif ctx.attempt == 1:
            await hold.wait()
        ctx.execution_metadata.total += doubled
        return ctx.execution_metadata.total

    job = await task.start()
    await task.send(job.id, 7)
    async with app.worker():
        await given.wait()
        if ending == "sleep":
            await job_until(job, lambda job: job.state.is_final)
    if ending == "stop":
        await job.refresh()
        assert (job.state, job.execution_metadata) == (JobState.PENDING, Sum())
        async with app.worker():
            await job_until(job, lambda job: job.state.is_final)
    assert (await job.result(timeout=10), log, job.execution_metadata) == (14, [7], Sum(14, [7]))
    assert await app.unread_events(job.id) == 0


async def test_a_stop_does_not_put_the_checkpoint_back_behind_rows_for_an_event_asked_for_during_the_commit(
    app: App, connection: psycopg.AsyncConnection[Any]
) -> None:
    committed, hold, got = asyncio.Event(), asyncio.Event(), list[object]()
    ask = asyncio.Event()

    @app.task("t", events=int)
    async def task(ctx: Context[None, Sum]) -> int:
        async def read() -> None:
            await ask.wait()
            got.append(await ctx.next_event())

        reader = asyncio.create_task(read())
        async with ctx.transaction() as own:
            got.append(await ctx.next_event())
            await own.execute("insert into effects values (1)")
            ctx.execution_metadata.total += 1
        await reader
        committed.set()
        await hold.wait()
        return 0

    await connection.execute(f"select pg_advisory_lock({LOCK})".encode())
    job = await task.start()
    for number in (1, 2):
        await task.send(job.id, number)
    async with app.worker():
        await commit_waits(connection)
        ask.set()
        await asyncio.sleep(0.05)  # time in which it would come, did it not wait
        assert got == [1]  # the other comes after the commit
        await connection.execute(f"select pg_advisory_unlock({LOCK})".encode())
        await committed.wait()
    await job.refresh()
    rows = await (await connection.execute("select n from effects")).fetchall()
    assert (job.state, job.execution_metadata, rows, got) == (JobState.PENDING, Sum(1), [(1,)], [1, 2])
    assert await app.unread_events(job.id) == 1


async def test_an_event_is_given_once_in_an_attempt_whoever_asks_in_a_transaction(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, second, answers = WorkerPort.next_event, asyncio.Event(), list[int]()

    async def late(port: WorkerPort, attempt: Any) -> Any:
        event = await real(port, attempt)
        answers.append(1)
        if len(answers) == 1:  # the first answer comes after the second, and after the commit, if these don't wait
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(second.wait(), 0.3)
        return event

    monkeypatch.setattr(WorkerPort, "next_event", late)

    @app.task("t", events=int)
    async def task(ctx: Context[None, None]) -> list[int | None]:
        async with ctx.transaction():
            one = asyncio.create_task(ctx.next_event())
            await until(lambda: bool(answers), "the first has been answered")
            other = await ctx.next_event()
        second.set()
        return [await one, other]

    job = await task.start()
    await task.send(job.id, 7)
    async with app.worker():
        assert await job.result(timeout=10) == [7, None]


async def test_an_event_that_the_handler_does_not_want_yet_wakes_it_once_and_stays(app: App) -> None:
    attempts: list[int] = []

    @app.task("t", events=int)
    async def task(ctx: Context[None, Sum]) -> list[int] | Suspended:
        attempts.append(ctx.attempt)
        if ctx.woken_by != "proceed":
            return Suspended()
        seen = ctx.execution_metadata.seen
        while (event := await ctx.next_event()) is not None:
            seen.append(event)
        return seen

    async with app.worker():
        job = await task.start()
        await task.send(job.id, 1)
        for number, runs in ((2, 3), (3, 4)):
            await job_until(job, lambda job: job.state is JobState.SUSPENDED and job.attempt >= 1)
            await task.send(job.id, number)
            await job_until(job, lambda job, runs=runs: job.attempt >= runs - 1)  # type: ignore[misc]
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        await asyncio.sleep(0.3)  # longer than the polling delay: were it called again and again, it would be by now
        assert len(attempts) <= 4
        await app.proceed(job.id)
        assert await job.result(timeout=10) == [1, 2, 3]


async def test_a_handler_that_takes_one_event_an_attempt_gets_them_all(app: App) -> None:
    @app.task("t", events=int)
    async def task(ctx: Context[None, Sum]) -> list[int] | Suspended:
        event = await ctx.next_event()
        if event is not None:
            ctx.execution_metadata.seen.append(event)
        if ctx.attempt % 2:
            await ctx.persist()  # which consumes it as well as the outcome
        return ctx.execution_metadata.seen if event == 9 else Suspended()

    job = await task.start()
    for number in range(10):
        await task.send(job.id, number)
    async with app.worker():
        assert await job.result(timeout=10) == list(range(10))


# --- outcomes ---


@pytest.mark.parametrize("ending", ["suspended", "result", "stop"])
async def test_an_outcome_follows_a_persist_that_is_on_its_way(app: App, ending: str) -> None:
    tasks: list[asyncio.Task[None]] = []
    on_its_way = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Sum]) -> int | Suspended:
        ctx.execution_metadata.total = 1
        tasks.append(asyncio.create_task(ctx.persist()))
        await asyncio.sleep(0)
        ctx.execution_metadata.total = 2
        on_its_way.set()
        if ending == "stop":
            await asyncio.Event().wait()
        return Suspended() if ending == "suspended" else 0

    job = await task.start()
    async with app.worker() as worker:
        await on_its_way.wait()
        if ending == "stop":
            worker.executor.stop_all(StopReason.SHUTDOWN)
        else:
            await job_until(job, lambda job: job.state is not JobState.RUNNING)
    assert (await job.refresh()).execution_metadata == Sum(2)
    assert tasks[0].exception() is None
    expected = {"suspended": JobState.SUSPENDED, "result": JobState.COMPLETED, "stop": JobState.PENDING}
    assert job.state is expected[ending]


async def test_a_stop_is_held_until_it_is_known_whether_a_persist_was_written(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 0, "cancel_grace": 15})
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Sum]) -> None:
        running.set()
        ctx.execution_metadata.total = 1
        try:
            await ctx.persist()
        finally:
            ctx.execution_metadata.total = 2

    def at_the_gate() -> bool:
        query = "select from pg_locks where locktype = 'advisory' and not granted"
        return gate.execute(query).rowcount == 1

    with psycopg.connect(migrated_database, autocommit=True) as gate:
        gate.execute("""
            create function slow() returns trigger language plpgsql
                as $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
            create trigger slow before update on background_tasks.jobs for each row
                when (new.execution_metadata->>'total' = '1' and new.state = 2) execute function slow();
        """)
        gate.execute("select pg_advisory_lock(1)")
        async with app:
            async with app.worker() as worker:
                job = await task.start()
                await running.wait()
                await until(at_the_gate, "the checkpoint is on its way")
                worker.executor.stop_all(StopReason.SHUTDOWN)
                await asyncio.sleep(0)  # it has come to the handler, if it does
                await asyncio.sleep(0)
                gate.execute("select pg_advisory_unlock(1)")
            await job.refresh()
            assert (job.state, job.execution_metadata) == (JobState.PENDING, Sum(2))
