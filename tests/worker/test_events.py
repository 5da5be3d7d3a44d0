"""Events: durable, in order, consumed with the checkpoint that used them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from perdure import App, Context, Failed, JobState, Sent, Suspended, WokenBy
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.errors import MisuseError
from tests.support.jobs import job_until


@dataclass
class Added:
    number: int


@dataclass
class Closed:
    by: str


@dataclass
class Sum:
    total: int = 0
    seen: list[int] = field(default_factory=list)


Events = Added | Closed


async def take(ctx: Context[None, Sum]) -> int | Suspended:
    """Add up events until it is closed."""
    while True:
        event = await ctx.next_event()
        match event:
            case None:
                return Suspended()
            case Added(number):
                ctx.execution_metadata.total += number
                ctx.execution_metadata.seen.append(number)
            case Closed():
                return ctx.execution_metadata.total


async def test_events_come_in_order_typed_and_kept_when_sent_before_the_first_run(app: App) -> None:
    task = app.task("sum", events=Events)(take)
    job = await task.start()
    for number in range(1, 6):
        assert isinstance(await task.send(job.id, Added(number)), Sent)
    await task.send(job.id, Closed(by="ann"))
    async with app.worker():
        assert await job.result(timeout=10) == 15
    assert (await job.refresh()).execution_metadata == Sum(15, [1, 2, 3, 4, 5])


async def test_an_event_wakes_a_suspended_job(app: App) -> None:
    task = app.task("sum", events=Events)(take)
    async with app.worker():
        job = await task.start()
        for number in range(1, 4):
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)
            await task.send(job.id, Added(number))
            await job_until(job, lambda job, number=number: job.execution_metadata.total >= number)  # type: ignore[misc]
        await task.send(job.id, Closed(by="ann"))
        assert await job.result(timeout=10) == 6


async def test_no_wake_up_is_lost_whenever_events_come(app: App) -> None:
    """Each job gets one event, which no later one would make up for: before, about when or after it is suspended."""
    asked = asyncio.Queue[int]()

    @app.task("t", events=Added)
    async def task(ctx: Context[str, None]) -> int | Suspended:
        event = await ctx.next_event()
        if event is not None:
            assert isinstance(event, Added)
            return event.number
        if ctx.metadata == "before":
            await task.send(ctx.id, Added(ctx.id))
        asked.put_nowait(ctx.id)
        return Suspended()

    async def send_in(seconds: float) -> None:
        job_id = await asked.get()
        await asyncio.sleep(seconds)
        await task.send(job_id, Added(job_id))

    async with app.worker():
        before = await task.start_many(["before"] * 20)
        for _ in before:
            await asked.get()
        senders = [asyncio.create_task(send_in(number % 10 / 4000)) for number in range(200)]
        about = await task.start_many(["about"] * len(senders))
        await asyncio.gather(*senders)
        after = await task.start_many(["after"] * 20)
        for job in after:
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)
            await task.send(job.id, Added(job.id))
        for job in [*before, *about, *after]:
            assert await job.result(timeout=30) == job.id
            assert job.attempt == 2  # it was suspended, whenever the event came


async def test_a_sender_whose_transaction_is_open_holds_up_no_checkpoint_and_loses_no_wake_up(
    app: App, migrated_database: str
) -> None:
    may_suspend, running = asyncio.Event(), asyncio.Event()

    @app.task("t", events=Added)
    async def task(ctx: Context[None, Sum]) -> int | Suspended:
        event = await ctx.next_event()
        if event is not None:
            assert isinstance(event, Added)
            return event.number
        running.set()
        await may_suspend.wait()
        ctx.execution_metadata.total = 1
        await ctx.persist()
        return Suspended()

    async with app.worker(), await psycopg.AsyncConnection.connect(migrated_database) as connection:
        job = await task.start()
        await running.wait()
        await task.send(job.id, Added(7), connection=connection)
        may_suspend.set()
        # The checkpoint is written; the suspension waits for the sender.
        await job_until(job, lambda job: job.execution_metadata == Sum(1))
        assert job.state is JobState.RUNNING
        await connection.commit()
        assert await job.result(timeout=10) == 7


async def test_an_event_that_was_rolled_back_never_was(app: App, migrated_database: str) -> None:
    task = app.task("sum", events=Events)(take)
    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        async with await psycopg.AsyncConnection.connect(migrated_database) as connection:
            await task.send(job.id, Added(1), connection=connection)
            await connection.rollback()
        await task.send(job.id, Closed(by="ann"))
        assert await job.result(timeout=10) == 0


async def test_a_raise_undoes_the_event_and_what_was_changed_after_it(app: App) -> None:
    @app.task("t", events=Added, scheduler_retry_count=1, scheduler_retry_delays=[0])
    async def task(ctx: Context[None, Sum]) -> str:
        ctx.execution_metadata.total += 100
        await ctx.persist()
        event = await ctx.next_event()
        assert isinstance(event, Added)
        ctx.execution_metadata.total += event.number
        if ctx.attempt == 1:
            message = "after the event"
            raise RuntimeError(message)
        return f"{event.number}, {ctx.execution_metadata.total}"

    job = await task.start()
    await task.send(job.id, Added(7))
    async with app.worker():
        assert await job.result(timeout=10) == "7, 207"


async def test_a_stop_undoes_the_event_and_what_was_changed_after_it(app: App) -> None:
    given, hold = asyncio.Event(), asyncio.Event()

    @app.task("t", events=Added)
    async def task(ctx: Context[None, Sum]) -> str:
        ctx.execution_metadata.total += 100
        event = await ctx.next_event()
        assert isinstance(event, Added)
        ctx.execution_metadata.total += event.number
        given.set()
        if ctx.attempt == 1:
            await hold.wait()
        return f"{event.number}, {ctx.execution_metadata.total}"

    job = await task.start()
    await task.send(job.id, Added(7))
    async with app.worker():
        await given.wait()
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.PENDING, Sum(100))
    async with app.worker():
        assert await job.result(timeout=10) == "7, 207"


async def test_a_persist_consumes_the_event_so_that_the_next_attempt_does_not_see_it(app: App) -> None:
    @app.task("t", events=Added, scheduler_retry_count=1, scheduler_retry_delays=[0])
    async def task(ctx: Context[None, Sum]) -> str:
        event = await ctx.next_event()
        if event is not None:
            assert isinstance(event, Added)
            ctx.execution_metadata.total += event.number
            await ctx.persist()
            message = "after the persist"
            raise RuntimeError(message)
        return f"{ctx.execution_metadata.total}"

    job = await task.start()
    await task.send(job.id, Added(7))
    async with app.worker():
        assert await job.result(timeout=10) == "7"


@pytest.mark.parametrize("commits", [True, False])
async def test_a_transaction_consumes_the_event_with_its_rows_or_neither(
    app: App,
    migrated_database: str,
    commits: bool,  # noqa: FBT001
) -> None:
    @app.task("t", events=Added, scheduler_retry_count=1, scheduler_retry_delays=[0])
    async def task(ctx: Context[None, Sum]) -> str:
        async with ctx.transaction() as connection:
            event = await ctx.next_event()
            if event is not None:
                assert isinstance(event, Added)
                await connection.execute("insert into effects values (%s)", [event.number])
                ctx.execution_metadata.total += event.number
                if not commits and ctx.attempt == 1:
                    message = "in the block"
                    raise RuntimeError(message)
        if ctx.attempt == 1:
            message = "after the block"
            raise RuntimeError(message)
        return f"{event}, {ctx.execution_metadata.total}"

    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (n int)")
        job = await task.start()
        await task.send(job.id, Added(7))
        async with app.worker():
            expected = "None, 7" if commits else "Added(number=7), 7"
            assert await job.result(timeout=10) == expected
        rows = await (await connection.execute("select n from effects")).fetchall()
        assert rows == [(7,)]


async def test_an_outcome_consumes_the_event_a_failure_too(app: App) -> None:
    @app.task("t", events=Added, max_retry_count=1)
    async def task(ctx: Context[None, Sum]) -> str | Failed[str]:
        event = await ctx.next_event()
        if event is not None:
            return Failed("with an event")
        return "without"

    job = await task.start()
    await task.send(job.id, Added(7))
    async with app.worker():
        assert await job.result(timeout=10) == "without"


async def test_a_value_consumes_its_event_too(app: App) -> None:
    @app.task("t", events=Added)
    async def task(ctx: Context[None, None]) -> int:
        event = await ctx.next_event()
        assert isinstance(event, Added)
        return event.number

    job = await task.start()
    for number in (7, 8):
        await task.send(job.id, Added(number))
    async with app.worker():
        assert await job.result(timeout=10) == 7
    async with app.pool.connection() as connection:
        cursor = await connection.execute("select event from background_tasks.events")
        assert [row[0]["number"] for row in await cursor.fetchall()] == [8]


async def test_a_handler_can_tell_an_event_from_the_time(app: App) -> None:
    @app.task("t", events=Added)
    async def task(ctx: Context[None, None]) -> str | Suspended:
        if ctx.woken_by is WokenBy.START:
            return Suspended(until=timedelta(hours=1) if ctx.id % 2 else timedelta(milliseconds=50))
        return f"{ctx.woken_by}: {await ctx.next_event()}"

    async with app.worker():
        first, second = await task.start(), await task.start()
        by_event, by_time = (first, second) if first.id % 2 else (second, first)
        await job_until(by_event, lambda job: job.state is JobState.SUSPENDED)
        await task.send(by_event.id, Added(1))
        assert await by_event.result(timeout=10) == "event: Added(number=1)"
        assert await by_time.result(timeout=10) == "time: None"


async def test_what_woke_a_job_stays_known_through_a_retry(app: App) -> None:
    @app.task("t", events=Added, scheduler_retry_count=1, scheduler_retry_delays=[0])
    async def task(ctx: Context[None, None]) -> str | Suspended:
        if ctx.woken_by is WokenBy.START:
            return Suspended(until=timedelta(milliseconds=10))
        if ctx.attempt == 2:
            message = "once"
            raise RuntimeError(message)
        return ctx.woken_by

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "time"
        assert job.attempt == 3


async def test_a_def_handler_gets_events_too(app: App) -> None:
    @app.task("t", events=Events)
    def task(ctx: BlockingContext[None, Sum]) -> int | Suspended:
        event = ctx.next_event()
        while isinstance(event, Added):
            ctx.execution_metadata.total += event.number
            event = ctx.next_event()
        return Suspended() if event is None else ctx.execution_metadata.total

    async with app.worker():
        job = await task.start()
        await task.send(job.id, Added(1))
        await task.send(job.id, Added(2))
        await task.send(job.id, Closed(by="ann"))
        assert await job.result(timeout=10) == 3


async def test_a_task_without_events_says_how_to_declare_them(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        try:
            await ctx.next_event()
        except MisuseError as error:
            return str(error)
        return ""

    async with app.worker():
        job = await task.start()
        assert "events=" in await job.result(timeout=10)


async def test_an_event_that_cant_be_read_waits_for_other_code_and_burns_no_retry(
    app: App, migrated_database: str
) -> None:

    @app.task("t", events=Added)
    async def task(ctx: Context[None, None]) -> str:
        return f"{await ctx.next_event()}"

    job = await task.start()
    await task.send(job.id, Added(7))
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("""update background_tasks.events set event = '{"number": "many"}'""")
        async with app.worker():
            await job_until(job, lambda job: job.last_error is not None)
            assert job.last_error is not None
            assert "event" in job.last_error
            assert (job.state, job.attempt, job.retry_number) == (JobState.PENDING, 1, 0)
            await connection.execute("""update background_tasks.events set event = '{"number": 7}'""")
        async with app.worker():  # one that starts makes it due at once
            assert await job.result(timeout=10) == "Added(number=7)"
