"""Proceed of what a query finds: the one job, none, or several."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import App, JobNotFound, JobQuery, JobState, MultipleJobsFound, NotSuspended, Proceeded
from perdure.errors import MisuseError
from tests.support.clients import Hands, Meta, Needs, Progress, fail_to_grow, grown, suspended


async def test_no_job_and_a_job_of_another_task_are_not_found(app: App, task: Any, hands: Hands) -> None:
    needs: Any = app.tasks["needs.checkpoint"]
    job = await needs.start(None, Needs("t"))
    hands.suspend(job)
    for modification in (None, grown):
        assert await app.proceed(10**15, modification) == JobNotFound()
        assert await task.proceed(job.id, modification) == JobNotFound()
        assert await task.proceed(JobQuery(metadata={"shop": "riga"}), modification) == JobNotFound()
        assert await task.proceed(JobQuery(names=["needs.checkpoint"]), modification) == JobNotFound()
    hands.end(job, 7)
    assert await task.proceed(job.id, grown) == JobNotFound()


async def test_a_query_lets_the_one_job_go_on_that_it_finds(app: App, task: Any, hands: Hands) -> None:
    riga, oslo = await suspended(task, hands), await suspended(task, hands, "oslo")
    assert isinstance(await app.proceed(JobQuery(metadata={"shop": "riga"})), Proceeded)
    assert (await riga.refresh()).state is JobState.PROCEEDED
    match await task.proceed(JobQuery(metadata={"shop": "oslo"}), grown, at=timedelta(hours=1)):
        case Proceeded(job):
            assert (job.id, job.execution_metadata) == (oslo.id, Progress(1))
        case other:
            pytest.fail(f"{other}")
    match await app.proceed(JobQuery(metadata={"shop": "riga"})):
        case NotSuspended(job):
            assert (job.id, job.state) == (riga.id, JobState.PROCEEDED)
        case other:
            pytest.fail(f"{other}")


async def test_a_query_remembers_a_proceed_of_a_running_job_and_modifies_none(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    assert isinstance(await app.proceed(JobQuery(names=["orders.import"]), grown), NotSuspended)
    assert hands.column(job, "proceed_requested") is False
    assert isinstance(await app.proceed(JobQuery(names=["orders.import"])), Proceeded)
    assert hands.column(job, "proceed_requested") is True


async def test_a_query_that_finds_several_changes_none_and_names_the_first_hundred(
    app: App, task: Any, hands: Hands
) -> None:
    jobs = await task.start_many(Meta("riga") for _ in range(102))
    hands.sql("update background_tasks.jobs set state = 4, scheduled_at = null")
    for modification in (None, fail_to_grow):
        match await task.proceed(JobQuery(metadata={"shop": "riga"}), modification):
            case MultipleJobsFound(found):
                assert [job.id for job in found] == [job.id for job in jobs[:100]]
                assert found[0].metadata == Meta("riga")
            case other:
                pytest.fail(f"{other}")
    assert hands.sql("select distinct state from background_tasks.jobs") == [(4,)]


async def test_a_query_looks_at_jobs_that_are_not_final_unless_it_names_states(
    app: App, task: Any, hands: Hands
) -> None:
    ended, waiting = await task.start(Meta("riga")), await suspended(task, hands)
    hands.end(ended, 8)
    assert isinstance(await app.proceed(JobQuery(metadata={"shop": "riga"})), Proceeded)
    match await app.proceed(JobQuery(states=[JobState.CANCELLED]), fail_to_grow):
        case NotSuspended(job):
            assert job.id == ended.id
        case other:
            pytest.fail(f"{other}")
    both = JobQuery(states=[JobState.CANCELLED, JobState.PROCEEDED])
    match await app.proceed(both):
        case MultipleJobsFound(jobs):
            assert [job.id for job in jobs] == [ended.id, waiting.id]
        case other:
            pytest.fail(f"{other}")


async def test_what_is_neither_an_id_nor_a_query_is_refused(app: App, task: Any) -> None:
    job = await task.start(Meta("riga"))
    for which in (job, "1", True, None):
        with pytest.raises(MisuseError, match="is neither a job's id nor a JobQuery"):
            await app.proceed(which)  # type: ignore[arg-type]
