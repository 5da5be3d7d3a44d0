"""Steps: what they return is stored with the checkpoint, so no later attempt does it again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from perdure import App, Context, JobState, Raised
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.retry import Exponential, FixedDelays
from tests.support.jobs import job_until


@dataclass
class Receipt:
    number: int


@dataclass
class Progress:
    done: int = 0


RETRIES: Any = {"scheduler_retry_count": 3, "scheduler_retry_delays": [0]}


async def test_a_step_is_called_once_and_its_typed_result_kept_for_later_attempts(app: App) -> None:
    called: list[int] = []

    async def charge(amount: int) -> Receipt:
        called.append(amount)
        return Receipt(amount)

    @app.task("t", **RETRIES)
    async def task(ctx: Context[None, Progress]) -> str:
        receipt = await ctx.step("charge", charge, 7)
        if ctx.attempt < 3:
            message = "after the step"
            raise RuntimeError(message)
        return f"{receipt!r} {called}"

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "Receipt(number=7) [7]"


async def test_a_step_stores_the_execution_metadata_with_its_result(app: App) -> None:
    def count() -> int:
        return 1

    @app.task("t", **RETRIES)
    async def task(ctx: Context[None, Progress]) -> int:
        if ctx.attempt == 1:
            ctx.execution_metadata.done = 5
            await ctx.step("count", count)
            message = "after the step"
            raise RuntimeError(message)
        return ctx.execution_metadata.done

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == 5


async def test_a_step_that_raises_is_tried_again_by_its_own_policy(app: App) -> None:
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            message = "not yet"
            raise OSError(message)
        return "through"

    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> str:
        return await ctx.step("flaky", flaky, retry=Exponential(first=0.001, count=2))

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "through"
        assert (job.attempt, len(tries)) == (1, 3)


async def test_a_step_without_tries_left_raises_what_it_raised(app: App) -> None:
    tries: list[int] = []

    async def broken() -> None:
        tries.append(1)
        message = "never"
        raise OSError(message)

    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> None:
        await ctx.step("broken", broken, retry=FixedDelays([0, 0]))

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert (str(job.error), len(tries)) == ("OSError: never", 3)


def untyped():  # type: ignore[no-untyped-def] # noqa: ANN201 - that is what is tested
    return 1


async def once() -> int:
    return 1


async def _twice(ctx: Context[None, None]) -> None:
    await ctx.step("same", once)
    await ctx.step("same", once)


async def _in_transaction(ctx: Context[None, None]) -> None:
    async with ctx.transaction():
        await ctx.step("k", once)


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        (lambda ctx: ctx.step("a key", untyped), "untyped doesn't say what it returns"),
        (lambda ctx: ctx.step("", once), "'' can't be a step's key: that has 1 to 200 printable characters"),
        (lambda ctx: ctx.step("x" * 201, once), "can't be a step's key"),
        (lambda ctx: ctx.step(5, once), "5 can't be a step's key"),
        (lambda ctx: ctx.sleep(1, key=5), "5 can't be a step's key"),
        (
            lambda ctx: ctx.step("k", once()),
            "step 'k': once(…) has been called already, so that every attempt would do it; give the function, and",
        ),
        (lambda ctx: ctx.step("k", once(), result=int), "behind it its arguments: ctx.step('k', once, …)"),
        (lambda ctx: ctx.step("k", 1), "step 'k': 1 is no function; give one, and behind it its arguments"),
        (lambda ctx: ctx.step("k", once, result=complex), "step 'k', result: complex: complex can't be stored"),
        (_twice, "there was a step 'same' in this run already; each needs a key of its own"),
        (_in_transaction, "ctx.step() isn't allowed inside ctx.transaction()"),
        (lambda ctx: ctx.step("k", once, retry=Exponential(first=1)), "retry=Exponential(…) needs a count here"),
        (lambda ctx: ctx.sleep("soon"), "ctx.sleep: 'soon' is no duration"),
    ],
)
async def test_a_misused_step_says_what_would_be_right(app: App, misuse: Any, said: str) -> None:
    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> None:
        await misuse(ctx)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    assert isinstance(job.error, Raised)
    assert said in job.error.message
    assert job.error.type.rpartition(".")[2] in ("MisuseError", "DefinitionError")


async def spoil_and_wake(connection: psycopg.AsyncConnection[Any]) -> None:
    """Make the steps' results unreadable while their jobs sleep, however long that takes, and wake these."""
    await connection.execute("""update background_tasks.steps set result = '"many"' where key = 'count'""")
    await connection.execute("update background_tasks.jobs set scheduled_at = clock_timestamp()")


async def test_a_stored_result_that_cant_be_read_waits_for_other_code_and_burns_no_retry(
    app: App, migrated_database: str
) -> None:
    def count() -> int:
        return 7

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        counted = await ctx.step("count", count)
        if ctx.attempt == 1:
            await ctx.sleep(3600)
        return counted

    @app.task("u")
    def blocking_task(ctx: BlockingContext[None, None]) -> int:
        counted = ctx.step("count", count)
        if ctx.attempt == 1:
            ctx.sleep(3600)
        return counted

    jobs = await task.start(), await blocking_task.start()
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        async with app.worker():
            for job in jobs:
                await job_until(job, lambda job: job.state is JobState.SUSPENDED)
            await spoil_and_wake(connection)
            for job in jobs:
                await job_until(job, lambda job: job.last_error is not None)
                assert job.last_error is not None
                assert "result of step 'count': expected int, got str" in job.last_error
                assert (job.state, job.retry_number) == (JobState.PENDING, 0)
            await connection.execute("update background_tasks.steps set result = '7' where key = 'count'")
        async with app.worker():  # one that starts makes it due at once
            for job in jobs:
                assert await job.result(timeout=10) == 7


async def test_steps_at_the_same_time_are_all_kept(app: App) -> None:
    called: list[int] = []

    async def square(number: int) -> int:
        called.append(number)
        await asyncio.sleep(0)
        return number * number

    @app.task("t", **RETRIES)
    async def task(ctx: Context[None, Progress]) -> list[int]:
        squares = await asyncio.gather(*(ctx.step(f"square {n}", square, n) for n in range(20)))
        if ctx.attempt == 1:
            message = "after the steps"
            raise RuntimeError(message)
        return squares

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == [n * n for n in range(20)]
    assert sorted(called) == list(range(20))


async def test_a_result_that_cant_be_read_in_a_task_group_waits_for_other_code(
    app: App, migrated_database: str
) -> None:
    def count() -> int:
        return 7

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        async with asyncio.TaskGroup() as group:
            counted = group.create_task(ctx.step("count", count))
        if ctx.attempt == 1:
            await ctx.sleep(3600)
        return counted.result()

    job = await task.start()
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection, app.worker():
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        await spoil_and_wake(connection)
        await job_until(job, lambda job: job.last_error is not None)
        assert (job.state, job.retry_number) == (JobState.PENDING, 0)


async def test_a_def_handler_has_steps_and_sleeps_too(app: App) -> None:
    called: list[int] = []

    def charge(amount: int) -> Receipt:
        called.append(amount)
        return Receipt(amount)

    @app.task("t")
    def task(ctx: BlockingContext[None, Progress]) -> str:
        receipt = ctx.step("charge", charge, 7)
        ctx.sleep(0.05)
        return f"{receipt!r} {called}"

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == "Receipt(number=7) [7]"
        assert job.attempt == 2
