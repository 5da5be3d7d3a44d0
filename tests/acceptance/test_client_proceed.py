"""Proceed: its answers, now, later and remembered; of a class, and in code that doesn't await."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    App,
    BackgroundTask,
    Context,
    JobNotFound,
    JobQuery,
    JobState,
    ModificationFailed,
    MultipleJobsFound,
    NotSuspended,
    Proceeded,
    Suspended,
    WokenBy,
)
from perdure.errors import JobNotFoundError
from tests.support.clients import (
    WORKER,
    Hands,
    Imported,
    Meta,
    Needs,
    Progress,
    ShopClosed,
    define,
    fail_to_grow,
    grown,
    stored,
    suspended,
)
from tests.support.jobs import job_until


async def test_a_modification_of_a_running_job_is_not_suspended_and_changes_nothing(task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    for modification in (grown, fail_to_grow):
        match await task.proceed(job.id, modification):
            case NotSuspended(seen):
                assert seen.state is JobState.RUNNING
            case other:
                pytest.fail(f"{other}")
    assert hands.column(job, "(execution_metadata, checkpoint, proceed_requested)::text") == (
        '("{""rows"": 0, ""seen"": []}",0,f)'
    )


async def test_a_modification_of_a_sleeping_job_is_not_suspended_and_changes_nothing(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)
    hands.make(job, asleep=True)
    before = hands.sql("select jobs from background_tasks.jobs")
    for modification in (grown, fail_to_grow):
        match await task.proceed(job.id, modification):
            case NotSuspended(seen):
                assert seen.state is JobState.SUSPENDED
            case other:
                pytest.fail(f"{other}")
    assert hands.sql("select jobs from background_tasks.jobs") == before


@pytest.mark.parametrize("modification", [None, grown, fail_to_grow])
@pytest.mark.parametrize("state", [state for state in JobState if state not in {"running", "suspended"}])
async def test_of_a_job_that_does_not_wait_the_answer_is_the_state_it_was_in(
    app: App, task: Any, hands: Hands, state: JobState, modification: Any
) -> None:
    job = await task.start(Meta("riga"))
    if state.is_final:
        hands.end(job, state.code)
    else:
        hands.make(job, state=state.code)
    for answer in (await app.proceed(job.id, modification), await task.proceed(job.id, modification)):
        match answer:
            case NotSuspended(seen):
                assert (seen.state, seen.id, seen.execution_metadata) == (state, job.id, Progress())
            case other:
                pytest.fail(f"{other}")
    assert await stored(job) == (state, Progress())


async def test_a_later_proceed_brings_one_forward_with_its_modification(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)
    assert isinstance(await task.proceed(job.id, at=timedelta(hours=2)), Proceeded)
    assert isinstance(await task.proceed(job.id, fail_to_grow, at=timedelta(hours=3)), NotSuspended)
    match await task.proceed(job.id, grown, at=timedelta(hours=1)):
        case Proceeded(sooner):
            assert sooner.execution_metadata == Progress(1)
            assert sooner.scheduled_at is not None
            assert sooner.scheduled_at < datetime.now(UTC) + timedelta(minutes=70)
        case other:
            pytest.fail(f"{other}")


async def test_the_time_of_a_remembered_proceed_is_remembered_and_several_count_as_the_earliest(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    at = datetime.now(UTC) + timedelta(hours=2)
    for time in (at + timedelta(hours=1), at, at + timedelta(hours=2)):
        assert isinstance(await app.proceed(job.id, at=time), Proceeded)
    assert hands.sql("select proceed_requested, proceed_at, woken_by from background_tasks.jobs") == [(True, at, 0)]
    assert isinstance(await app.proceed(job.id), Proceeded)
    assert hands.column(job, "proceed_at <= clock_timestamp()")


async def test_a_remembered_proceed_lets_the_job_go_on_at_its_time_once_it_suspends(app: App, hands: Hands) -> None:
    may_suspend = asyncio.Event()

    @app.task("waits")
    async def waits(ctx: Context[None, None]) -> Suspended:
        await may_suspend.wait()
        return Suspended()

    job = await waits.start()
    at = datetime.now(UTC) + timedelta(hours=2)
    async with app.worker():
        await job_until(job, lambda job: job.state is JobState.RUNNING)
        assert isinstance(await app.proceed(job.id, at=at), Proceeded)
        may_suspend.set()
        await job_until(job, lambda job: job.state is JobState.PROCEEDED)
        assert (job.scheduled_at, job.woken_by, job.attempt) == (at, WokenBy.PROCEED, 1)
        assert hands.column(job, "proceed_requested") is False
        # A later one without a time isn't taken for that.
        assert isinstance(await app.proceed(job.id), Proceeded)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        assert (job.scheduled_at, job.attempt) == (None, 2)


async def test_the_proceed_of_a_class_is_a_class_method(app: App, hands: Hands) -> None:
    @app.task("class")
    class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
        async def execute(self, ctx: Context[Meta, Progress]) -> Imported:
            return Imported(ctx.attempt)

    job = await Import.start(Meta("riga"))
    hands.suspend(job)
    assert isinstance(await Import.proceed(job.id, lambda progress: replace(progress, rows=3)), Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(3))


def test_code_that_does_not_await_gets_the_same_five_answers(migrated_database: str, hands: Hands) -> None:
    app = App(migrated_database)
    task = define(app)
    try:
        job, other = app.blocking.start_many(task, [Meta("riga"), Meta("riga")])
        hands.suspend(job, other)
        query = JobQuery(metadata={"shop": "riga"})
        assert isinstance(app.blocking.proceed(query, grown), MultipleJobsFound)
        assert isinstance(app.blocking.proceed(job.id, fail_to_grow), ModificationFailed)
        assert isinstance(app.blocking.proceed(job.id, grown, task=task), Proceeded)
        assert isinstance(app.blocking.proceed(job.id, grown), NotSuspended)
        assert app.blocking.proceed(other.id, task=app.tasks["needs.checkpoint"]) == JobNotFound()
        assert app.blocking.refresh(job).execution_metadata == Progress(1)
        hands.end(job, 8)

        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(app.blocking.proceed(query, grown))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(type(answer) for answer in answers) == {Proceeded: 1, NotSuspended: 7}
    finally:
        app.blocking.close()


async def test_a_suspended_job_proceeds_now_or_later_and_can_be_brought_forward(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, state=JobState.SUSPENDED.code, scheduled_at=None)

    at = datetime.now(UTC) + timedelta(hours=2)
    match await app.proceed(job.id, at=at):
        case Proceeded(later):
            assert (later.state, later.scheduled_at) == (JobState.PROCEEDED, at)
        case other:
            pytest.fail(f"{other}")
    assert isinstance(await app.proceed(job.id, at=timedelta(hours=3)), NotSuspended)
    match await task.proceed(job.id):
        case Proceeded(now):
            assert now.state is JobState.PROCEEDED
            assert now.scheduled_at <= datetime.now(UTC) + timedelta(minutes=1)
            assert now.metadata == Meta("riga")
        case other:
            pytest.fail(f"{other}")


async def test_a_proceed_of_a_running_job_is_remembered(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, state=JobState.RUNNING.code, worker_id=WORKER)
    match await app.proceed(job.id):
        case Proceeded(running):
            assert running.state is JobState.RUNNING
        case other:
            pytest.fail(f"{other}")
    assert hands.column(job, "proceed_requested") is True


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.ENQUEUED, JobState.RETRYING, JobState.PROCEEDED])
async def test_a_job_that_does_not_wait_is_not_suspended(app: App, task: Any, hands: Hands, state: JobState) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, state=state.code)
    match await app.proceed(job.id):
        case NotSuspended(seen):
            assert seen.state is state
        case other:
            pytest.fail(f"{other}")


async def test_no_job_and_a_job_of_another_task_are_not_found(app: App, task: Any, hands: Hands) -> None:
    assert await app.proceed(10**15) == JobNotFound()
    assert await app.cancel(10**15) == JobNotFound()
    with pytest.raises(JobNotFoundError, match="there is no job 1000000000000000"):
        await app.job(10**15)
    needs: Any = app.tasks["needs.checkpoint"]
    job = await needs.start(None, Needs("t"))
    hands.make(job, state=JobState.SUSPENDED.code, scheduled_at=None)
    assert await task.proceed(job.id) == JobNotFound()
    assert (await job.refresh()).state is JobState.SUSPENDED
