"""Cancels, deadlines, and what a handler learns of them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from perdure import App, CancelRequested, Context, JobEnded, JobState, Raised, StopReason, Suspended
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.errors import MisuseError
from perdure.store.sql import Names
from perdure.worker.lane import Lane
from tests.support.jobs import job_until, until


@dataclass
class Progress:
    done: int = 0


async def test_a_cancel_ends_a_running_job_promptly_with_its_checkpoint_and_the_reason(app: App) -> None:
    running, seen = asyncio.Event(), list[Any]()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.done = 3
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.stop_reason)
            await asyncio.sleep(0)
            seen.append("unwound")

    async with app.worker():
        job = await task.start()
        await running.wait()
        assert isinstance(await app.cancel(job.id), CancelRequested)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
    assert seen == [StopReason.CANCEL, "unwound"]
    assert job.execution_metadata == Progress(3)


async def test_a_cancel_is_noticed_without_notifications_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Names, "cancel_channel", property(lambda names: names.work_channel + "_deaf"))
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        running.set()
        await asyncio.Event().wait()

    async with app.worker():
        monkeypatch.undo()
        job = await task.start()
        await running.wait()
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)


async def test_a_handler_that_ignores_its_cancel_is_left_behind_and_fenced(app: App) -> None:
    running, go, written = asyncio.Event(), asyncio.Event(), list[BaseException]()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        running.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        ctx.execution_metadata.done = 99
        try:
            await ctx.persist()
        except BaseException as error:
            written.append(error)
            raise

    async with app.worker():
        job = await task.start()
        await running.wait()
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
        go.set()
        await until(lambda: bool(written), "the handler that was left behind has tried to write")
    assert type(written[0]).__name__ == "LeaseLost"
    assert (await job.refresh()).execution_metadata == Progress(0)


async def test_a_cancel_that_races_a_completion_gives_one_of_the_two(app: App) -> None:
    """Each is cancelled once it runs: the first returns before it could be told, the last would never return."""
    began, returned = asyncio.Queue[int](), set[int]()

    @app.task("t")
    async def task(ctx: Context[float, None]) -> int:
        began.put_nowait(ctx.id)
        if ctx.metadata:
            await asyncio.sleep(ctx.metadata)
        returned.add(ctx.id)
        return ctx.id

    async def cancel_next() -> CancelRequested[Any, Any, Any, Any] | JobEnded[Any, Any, Any, Any]:
        answer = await app.cancel(await began.get())
        assert isinstance(answer, CancelRequested | JobEnded)
        return answer

    async with app.worker():
        cancels = [asyncio.create_task(cancel_next()) for _ in range(100)]
        jobs = await task.start_many([0.0, *(number / 250 for number in range(1, 99)), 3600.0])
        answers = {answer.job.id: answer for answer in await asyncio.gather(*cancels)}
        for job in jobs:
            await job_until(job, lambda job: job.state.is_final)
    assert (jobs[0].state, jobs[-1].state) == (JobState.COMPLETED, JobState.CANCELLED)
    for job in jobs:
        assert job.state is (JobState.COMPLETED if job.id in returned else JobState.CANCELLED)
        assert job.stored_result == (job.id if job.id in returned else None)
        if isinstance(answer := answers[job.id], JobEnded):
            assert (answer.job.state, job.state) == (JobState.COMPLETED, JobState.COMPLETED)


async def test_a_value_that_the_handler_returns_all_the_same_completes_the_job(app: App) -> None:
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return ""

    async with app.worker():
        job = await task.start()
        await running.wait()
        await app.cancel(job.id)
        assert await job.result(timeout=10) == "done all the same"


async def test_a_def_handler_learns_of_a_cancel_at_its_next_call_of_the_context(app: App) -> None:
    running, go = threading.Event(), threading.Event()

    @app.task("t")
    def task(ctx: BlockingContext[None, Progress]) -> str:
        ctx.execution_metadata.done = 1
        running.set()
        go.wait(timeout=10)
        ctx.persist()
        return "not reached"

    async with app.worker() as worker:
        job = await task.start()
        assert await asyncio.to_thread(running.wait, 10)
        await app.cancel(job.id)
        await until(lambda: worker.executor.running[job.id].stop_reason is not None, "the cancel has come")
        go.set()
        await job_until(job, lambda job: job.state is JobState.CANCELLED)


async def test_the_reasons_of_a_shutdown_and_a_timeout_are_told(app: App) -> None:
    running, seen = asyncio.Event(), list[Any]()

    @app.task("timeout", timeout=timedelta(milliseconds=50), scheduler_retry_count=0)
    async def timeout(ctx: Context[None, None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.stop_reason)

    @app.task("shutdown")
    async def shutdown(ctx: Context[None, None]) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.stop_reason)

    async with app.worker():
        job = await timeout.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
        await shutdown.start()
        await running.wait()
    assert seen == [StopReason.TIMEOUT, StopReason.SHUTDOWN]


async def test_a_deadline_ends_a_running_job(app: App) -> None:
    seen = list[Any]()

    @app.task("t", deadline=timedelta(milliseconds=700), scheduler_retry_count=5)
    async def task(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.done = 1
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.stop_reason)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert seen == [StopReason.DEADLINE]
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.DeadlineExceeded"
    assert job.attempt == 1


async def test_a_deadline_ends_a_suspended_job_and_tells_who_waits(app: App) -> None:
    @app.task("t", deadline=timedelta(milliseconds=200))
    async def task(ctx: Context[None, None]) -> Suspended:
        return Suspended()

    async with app.worker():
        job = await task.start()
        with pytest.raises(Exception, match="the job wasn't done within its deadline"):
            await job.result(timeout=10)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)


async def test_a_deadline_counts_from_when_the_job_is_first_due(app: App) -> None:
    @app.task("t", deadline=timedelta(hours=1))
    async def task(ctx: Context[None, None]) -> None: ...

    job = await task.start(at=timedelta(hours=2))
    await job.refresh()
    assert job.deadline_at is not None
    assert job.scheduled_at is not None
    assert job.deadline_at - job.scheduled_at == timedelta(hours=1)


async def test_a_job_past_its_deadline_is_not_begun(app: App, migrated_database: str) -> None:
    ran = list[int]()

    @app.task("t", deadline=timedelta(hours=1))
    async def task(ctx: Context[None, None]) -> None:
        ran.append(ctx.id)

    job = await task.start()
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("update background_tasks.jobs set deadline_at = now() - interval '1 s'")
    async with app.worker():
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert ran == []


async def test_a_worker_works_once(app: App) -> None:
    async with (worker := app.worker()):
        with pytest.raises(MisuseError, match=r"it was started before, and works once: app\.worker\(\) makes another"):
            await worker.start()
    with pytest.raises(MisuseError, match="it was started before"):
        async with worker:
            pytest.fail("it can't be ready")
    async with app.pool.connection() as connection:
        [row] = await (await connection.execute("select count(*) from background_tasks.workers")).fetchall()
    assert row == (0,)


async def test_a_cancellation_that_isnt_ours_is_a_raise(app: App) -> None:
    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> None:
        raise asyncio.CancelledError

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert job.error.type == "asyncio.CancelledError"


async def test_timeouts_and_task_groups_of_a_handler_behave_as_everywhere(app: App) -> None:
    @app.task("t", scheduler_retry_count=0)
    async def task(ctx: Context[None, None]) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as group:
            numbers = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
        return f"{[number.result() for number in numbers]}"

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == "[0, 1, 2]"


async def test_a_lease_that_comes_when_all_has_ended_is_no_error(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    worker = app.worker()
    async with worker:
        await (await task.start()).result(timeout=10)
    worker._on_lease(uuid4())
    await asyncio.sleep(0)  # whatever that begins has begun
    await asyncio.sleep(0)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert not worker.claimer.open


async def test_of_two_stops_the_first_counts(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 0, "cancel_grace": 15})
    running, unwinding, unwound = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwinding.set()
            await unwound.wait()

    async with app:
        async with app.worker() as worker:
            job = await task.start()
            await running.wait()
            worker.executor.cancel(job.id, 1)  # as a look at the rows does
            await unwinding.wait()
            worker.executor.stop_all(StopReason.SHUTDOWN)
            unwound.set()
        assert (await job.refresh()).state is JobState.CANCELLED


async def test_nothing_is_claimed_during_a_stop(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 15})
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        running.set()
        while not ctx.stopping:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.001)
        await until(lambda: not any(lane.exchange_began_at_seconds for lane in worker.lanes), "no claim is on its way")
        other = await task.start()
        for number in range(5):
            worker.wake()
            ctx.execution_metadata.done = number
            await ctx.persist()  # with an exchange, which would claim as well
        seen.append(other)

    seen = list[Any]()
    async with app:
        worker = app.worker()
        async with worker:
            await task.start()
            await running.wait()
        async with app.pool.connection() as connection:
            cursor = await connection.execute("select claim from background_tasks.jobs where id = %s", [seen[0].id])
            assert await cursor.fetchall() == [(0,)]


async def test_a_stop_waits_until_the_last_outcomes_are_written(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Lane._send

    async def send_slowly(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if "finish" in calls:
            await asyncio.sleep(0.3)
        return await send(lane, calls)

    monkeypatch.setattr(Lane, "_send", send_slowly)
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        running.set()
        while not ctx.stopping:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.001)
        return 1

    async with app.worker(shutdown_grace=10):
        job = await task.start()
        await running.wait()
    assert await job.result(timeout=0) == 1
