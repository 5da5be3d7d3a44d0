"""Both levels of retry and their policies, sentence by sentence, on a real worker and a real database."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, Context, Failed, Job, JobState, Raised, Suspended
from perdure.attempt import StopReason
from perdure.errors import JobTimeout
from perdure.retry import Exponential, FixedDelays
from tests.support.jobs import job_until, until

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = timedelta(hours=1)


@dataclass
class Progress:
    rows: int = 0


class Gone(LookupError):
    """What the tests' handlers raise; a LookupError too."""


async def ended(job: Job[Any, Any, Any, Any], state: JobState = JobState.FAILED) -> tuple[JobState, int]:
    await job_until(job, lambda job: job.state.is_final)
    assert job.state is state, job.last_error
    return job.state, job.attempt


async def waits_seconds(job: Job[Any, Any, Any, Any]) -> float:
    """Wait until the job waits for a retry; return for how long from now."""
    await job_until(job, lambda job: job.state is JobState.RETRYING)
    assert job.scheduled_at is not None
    return (job.scheduled_at - datetime.now(UTC)).total_seconds()


# --- Policies ---------------------------------------------------------------------------------------------------------


async def test_fixed_delays_are_one_retry_each(app: App) -> None:
    @app.task("poll", retry=FixedDelays([0, 0, 0]))
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 4)


async def test_past_the_end_of_fixed_delays_the_last_repeats(app: App) -> None:
    @app.task("poll", retry=FixedDelays([0, HOUR], count=3))
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        job = await poll.start()
        await job_until(job, lambda job: job.attempt == 2)
        assert 3500 < await waits_seconds(job) <= 3600


async def test_exponential_waits_anything_from_nothing_to_the_grown_delay(app: App) -> None:
    @app.task("poll", retry=Exponential(HOUR, count=1))
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        jobs = await poll.start_many([None] * 20)
        waits = [await waits_seconds(job) for job in jobs]
    assert all(-10 < wait <= 3600 for wait in waits)
    # Twenty draws within a tenth of the range: once in 10^17 runs.
    assert max(waits) - min(waits) > 360


async def test_exponential_without_a_count_takes_the_configured_one(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"scheduler_retry_count": 2, "scheduler_retry_delays": [3600]})

    @app.task("poll", retry=Exponential(0.001, cap=0.002))
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app, app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 3)


async def test_a_task_s_own_function_says_when_and_whether(app: App) -> None:
    asked: list[tuple[int, str]] = []

    def own(attempt: int, error: BaseException) -> float | None:
        asked.append((attempt, repr(error)))
        return 0 if attempt < 3 else None

    @app.task("poll", retry=own, max_retry_count=5)
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone(ctx.attempt)

    async with app.worker():
        job = await poll.start()
        assert await ended(job) == (JobState.FAILED, 3)
    assert asked == [(1, "Gone(1)"), (2, "Gone(2)"), (3, "Gone(3)")]
    assert job.retry_number == 0  # None fails the job at once, whatever is left of level 2


async def test_a_task_s_own_function_may_return_a_timedelta(app: App) -> None:
    @app.task("poll", retry=lambda _attempt, _error: HOUR)
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        assert 3500 < await waits_seconds(await poll.start()) <= 3600


async def test_a_task_s_own_function_counts_from_1_again_after_a_suspension(app: App) -> None:
    asked: list[int] = []

    def own(attempt: int, _error: BaseException) -> float | None:
        asked.append(attempt)
        return 0

    @app.task("poll", retry=own)
    async def poll(ctx: Context[None, Progress]) -> str | Suspended:
        if ctx.attempt == 3:
            return Suspended(timedelta(0))
        if ctx.attempt == 6:
            return "done"
        raise Gone

    async with app.worker():
        assert await ended(await poll.start(), JobState.COMPLETED)
    assert asked == [1, 2, 1, 2]


def broken(_attempt: int, _error: BaseException) -> float:
    message = "no idea"
    raise RuntimeError(message)


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (broken, "RuntimeError: no idea"),
        (lambda *_: "soon", "returned 'soon'; it returns a timedelta, seconds, or None for no retry"),
        (lambda *_: True, "returned True"),
        (lambda *_: float("nan"), "returned nan"),
        (lambda *_: coroutine(), "returned <coroutine object"),
        (lambda *_: (_ for _ in ()).throw(asyncio.CancelledError), "CancelledError"),
    ],
)
async def test_an_own_function_without_an_answer_is_logged_and_the_configured_delays_count(
    app: App, caplog: pytest.LogCaptureFixture, own: Callable[..., Any], said: str
) -> None:
    app = App(app.config.dsn, scheduling={"scheduler_retry_count": 2, "scheduler_retry_delays": [0]})

    @app.task("poll", retry=own)
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    with caplog.at_level(logging.DEBUG, "perdure.worker"):
        async with app, app.worker():
            job = await poll.start()
            assert await ended(job) == (JobState.FAILED, 3)
    assert isinstance(job.error, Raised)
    assert job.error.type.endswith("Gone")
    complaints = [record for record in caplog.records if "function for retry= gave no answer" in record.getMessage()]
    assert len(complaints) == 3
    assert all(record.levelno == logging.ERROR for record in complaints)
    told = [str(caplog.handler.format(record)) for record in caplog.records if record.exc_info is not None]
    assert len(told) == 3
    assert all(said in one for one in told)


# --- Never retried ----------------------------------------------------------------------------------------------------


def gone() -> BaseException:
    return Gone()


def group() -> BaseException:
    return ExceptionGroup("several", [OSError(), ExceptionGroup("inner", [Gone()])])


@pytest.mark.parametrize("make", [gone, group])
async def test_an_error_of_no_retry_on_fails_the_job_at_once_on_either_level(
    app: App, make: Callable[[], BaseException]
) -> None:
    @app.task("poll", no_retry_on=(LookupError, JobTimeout), retry=FixedDelays([0]), max_retry_count=3)
    async def poll(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows = 1
        raise make()

    async with app.worker():
        job = await poll.start()
        assert await ended(job) == (JobState.FAILED, 1)
    assert job.execution_metadata == Progress(0)  # a raise, as any other


async def test_other_errors_are_retried_all_the_same(app: App) -> None:
    @app.task("poll", no_retry_on=(KeyError, ValueError), retry=FixedDelays([0]))
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 2)


async def test_a_time_out_can_be_told_never_to_be_retried(app: App) -> None:
    @app.task("poll", no_retry_on=TimeoutError, retry=FixedDelays([0]), timeout=timedelta(milliseconds=10))
    async def poll(ctx: Context[None, None]) -> None:
        await asyncio.Event().wait()

    async with app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 1)


async def test_an_own_function_isn_t_asked_about_what_is_never_retried(app: App) -> None:
    asked: list[int] = []

    def own(attempt: int, _error: BaseException) -> float:
        asked.append(attempt)
        return 0

    @app.task("poll", no_retry_on=Gone, retry=own)
    async def poll(ctx: Context[None, None]) -> None:
        raise Gone

    async with app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 1)
    assert asked == []


# --- Failed(retry_after=…) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [HOUR, 3600, "01:00:00"])
async def test_failed_says_when_its_enqueueing_retry_is_due(app: App, after: Any) -> None:
    @app.task("poll", max_retry_count=1)
    async def poll(ctx: Context[None, Progress]) -> Failed[str] | None:
        ctx.execution_metadata.rows = 1
        return Failed("busy", retry_after=after)

    async with app.worker():
        job = await poll.start()
        assert 3500 < await waits_seconds(job) <= 3600
    assert (job.retry_number, job.execution_metadata, job.error) == (1, Progress(1), "busy")


async def test_without_an_enqueueing_retry_left_there_is_nothing_to_wait_for(app: App) -> None:
    @app.task("poll", max_retry_count=0)
    async def poll(ctx: Context[None, None]) -> Failed[str] | None:
        return Failed("busy", retry_after=HOUR)

    async with app.worker():
        assert await ended(await poll.start()) == (JobState.FAILED, 1)


# --- Progress resets retries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resets", "attempts"), [(False, 2), (True, 6)])
async def test_level_1_starts_afresh_once_a_new_checkpoint_was_persisted_since_the_last_raise(
    app: App, *, resets: bool, attempts: int
) -> None:
    """The handler gets further in its first five attempts, and no more after that."""

    @app.task("copy", retry=FixedDelays([0]), progress_resets_retries=resets)
    async def copy(ctx: Context[None, Progress]) -> None:
        if ctx.execution_metadata.rows < 5:
            ctx.execution_metadata.rows += 1
            await ctx.persist()
        raise Gone

    async with app.worker():
        assert await ended(await copy.start()) == (JobState.FAILED, attempts)


async def test_what_was_changed_and_not_persisted_is_no_progress(app: App) -> None:
    @app.task("copy", retry=FixedDelays([0]), progress_resets_retries=True)
    async def copy(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows += 1
        raise Gone

    async with app.worker():
        assert await ended(await copy.start()) == (JobState.FAILED, 2)


@pytest.mark.parametrize(("resets", "attempts"), [(False, 3), (True, 4)])
async def test_a_checkpoint_that_a_shutdown_persists_is_progress_too(app: App, *, resets: bool, attempts: int) -> None:
    running = asyncio.Event()

    @app.task("copy", retry=FixedDelays([0]), progress_resets_retries=resets)
    async def copy(ctx: Context[None, Progress]) -> None:
        if ctx.attempt == 2:
            ctx.execution_metadata.rows = 1
            running.set()
            await asyncio.Event().wait()
        raise Gone

    async with app.worker(shutdown_grace=0):
        job = await copy.start()
        await running.wait()
    assert (await job.refresh()).state is JobState.PENDING
    async with app.worker():
        assert await ended(job) == (JobState.FAILED, attempts)


@pytest.mark.parametrize(("resets", "attempts"), [(False, 3), (True, 4)])
async def test_a_checkpoint_of_an_attempt_whose_worker_was_lost_is_progress_too(
    migrated_database: str, *, resets: bool, attempts: int
) -> None:
    app = App(migrated_database, execution={"lease_duration": 2})
    running = asyncio.Event()

    @app.task("copy", retry=FixedDelays([0]), progress_resets_retries=resets)
    async def copy(ctx: Context[None, Progress]) -> None:
        if ctx.attempt == 2:
            ctx.execution_metadata.rows = 1
            await ctx.persist()
            running.set()
            await asyncio.Event().wait()
        raise Gone

    async with app, app.worker():
        job = await copy.start()
        await running.wait()
        async with app.pool.connection() as connection:
            await connection.execute("update background_tasks.workers set lapsed_at = clock_timestamp()")
        assert await ended(job) == (JobState.FAILED, attempts)


async def test_a_task_s_own_function_counts_from_1_again_after_progress(app: App) -> None:
    asked: list[int] = []

    def own(attempt: int, _error: BaseException) -> float | None:
        asked.append(attempt)
        return 0 if attempt < 3 else None

    @app.task("copy", retry=own, progress_resets_retries=True)
    async def copy(ctx: Context[None, Progress]) -> None:
        if ctx.attempt == 3:
            ctx.execution_metadata.rows += 1
            await ctx.persist()
        raise Gone

    async with app.worker():
        assert await ended(await copy.start()) == (JobState.FAILED, 5)
    assert asked == [1, 2, 1, 2, 3]


async def test_progress_gives_level_2_no_fresh_start(app: App) -> None:
    @app.task("copy", retry=FixedDelays([]), max_retry_count=2, progress_resets_retries=True)
    async def copy(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows += 1
        await ctx.persist()
        raise Gone

    async with app.worker():
        assert await ended(await copy.start()) == (JobState.FAILED, 3)


# --- The deadline's ending --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
async def test_past_its_deadline_a_job_fails_at_once_and_a_cancel_request_wins(app: App, *, cancelled: bool) -> None:
    @app.task("poll", deadline=timedelta(hours=2), retry=FixedDelays([0]), max_retry_count=9)
    async def poll(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows = 1
        await ctx.persist()
        ctx.execution_metadata.rows = 2
        await asyncio.Event().wait()

    async with app.worker() as worker:
        job = await poll.start()
        await job_until(job, lambda job: job.execution_metadata == Progress(1))
        await until(lambda: job.id in worker.executor.running, "the job runs")
        if cancelled:  # of which this worker hasn't heard yet
            async with app.pool.connection() as connection:
                await connection.execute("update background_tasks.jobs set cancel_requested = true")
        worker.executor.stop(worker.executor.running[job.id], StopReason.DEADLINE)
        await ended(job, JobState.CANCELLED if cancelled else JobState.FAILED)
    if not cancelled:
        assert (job.attempt, job.execution_metadata) == (1, Progress(1))
        assert isinstance(job.error, Raised)
        assert job.error.type == "perdure.errors.DeadlineExceeded"
        assert job.error.message == (
            "the job wasn't done within its deadline of 2:00:00, counted from when it was first due"
        )
