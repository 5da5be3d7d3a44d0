"""Proceed at the same time as other calls, transactions and a worker: one is stored, on what is stored by then."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest

from perdure import App, Context, JobNotFound, JobQuery, JobState, MultipleJobsFound, NotSuspended, Proceeded, Suspended
from tests.support.clients import WORKER, Hands, Meta, Progress, define, grown, stored, suspended, until_waiting
from tests.support.jobs import job_until


async def test_of_eight_at_once_with_modifications_beside_a_worker_one_is_stored(app: App) -> None:
    """However quick the worker is: a job that it has claimed since isn't modified."""

    @app.task("counts")
    async def counts(ctx: Context[None, Progress]) -> int | Suspended:
        return ctx.execution_metadata.rows if ctx.attempt > 1 else Suspended()

    async with app.worker():
        for _ in range(5):
            job = await counts.start()
            await job_until(job, lambda job: job.state is JobState.SUSPENDED)
            answers = await asyncio.gather(*(counts.proceed(job.id, grown) for _ in range(8)))
            assert Counter(type(answer) for answer in answers) == {Proceeded: 1, NotSuspended: 7}
            assert await job.result(timeout=20) == 1


@pytest.mark.parametrize("modification", [None, grown])
@pytest.mark.parametrize("which", ["id", "query"])
async def test_of_eight_at_once_on_one_suspended_job_one_proceeds_and_seven_find_it_not_suspended(
    app: App, task: Any, hands: Hands, modification: Any, which: str
) -> None:
    for _ in range(10):
        job = await suspended(task, hands)
        asked: Any = job.id if which == "id" else JobQuery(metadata={"shop": "riga"})
        answers = await asyncio.gather(*(app.proceed(asked, modification) for _ in range(8)))
        assert Counter(type(answer) for answer in answers) == {Proceeded: 1, NotSuspended: 7}
        for answer in answers:
            assert answer.job.state is JobState.PROCEEDED  # type: ignore[union-attr]
        assert await stored(job) == (JobState.PROCEEDED, Progress(0 if modification is None else 1))
        hands.end(job, 6)


async def test_a_modification_works_on_what_is_stored_once_the_row_is_its_own(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    """The read, the change and the write are under one lock: nobody's change is lost."""
    job = await suspended(task, hands)
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("update background_tasks.jobs set execution_metadata = '{\"rows\": 5}', checkpoint = 1")
        asking = asyncio.create_task(task.proceed(job.id, grown))
        await until_waiting(hands)
        await other.commit()
    assert isinstance(await asking, Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(6))
    assert hands.column(job, "checkpoint") == 2


async def test_a_job_that_ends_while_its_row_is_waited_for_is_not_suspended(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await suspended(task, hands)
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("select from background_tasks.jobs for update")
        asking = asyncio.create_task(task.proceed(job.id, grown))
        await until_waiting(hands)
        await other.rollback()
        await asking
    hands.suspend(job)
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("delete from background_tasks.jobs")
        asking = asyncio.create_task(task.proceed(job.id, grown))
        await until_waiting(hands)
        await other.commit()
    assert await asking == JobNotFound()


async def test_a_job_that_is_suspended_while_its_row_is_waited_for_proceeds(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("update background_tasks.jobs set state = 4, worker_id = null, scheduled_at = null")
        asking = asyncio.create_task(task.proceed(job.id))
        await until_waiting(hands)
        await other.commit()
    assert isinstance(await asking, Proceeded)
    assert (await job.refresh()).state is JobState.PROCEEDED


async def test_a_job_that_is_claimed_while_its_row_is_waited_for_remembers_the_proceed(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await task.start(Meta("riga"))
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("update background_tasks.jobs set state = 2, claim = 1, worker_id = %s", [WORKER])
        asking = asyncio.create_task(task.proceed(job.id))
        await until_waiting(hands)
        await other.commit()
    assert isinstance(await asking, Proceeded)
    assert (hands.column(job, "state"), hands.column(job, "proceed_requested")) == (2, True)


async def test_the_one_job_of_a_query_must_still_match_once_it_is_locked(
    app: App, task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await suspended(task, hands)
    query = JobQuery(execution_metadata={"rows": 0})
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("update background_tasks.jobs set execution_metadata = '{\"rows\": 5}'")
        asking = asyncio.create_task(app.proceed(query, grown))
        await until_waiting(hands)
        await other.commit()
    assert await asking == JobNotFound()
    assert await stored(job) == (JobState.SUSPENDED, Progress(5))


async def test_the_one_job_of_a_query_must_still_be_the_only_one_once_it_is_locked(
    app: App, task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await suspended(task, hands)
    async with await psycopg.AsyncConnection.connect(migrated_database) as other:
        await other.execute("select from background_tasks.jobs for update")
        asking = asyncio.create_task(app.proceed(JobQuery(names=["orders.import"])))
        await until_waiting(hands)
        second = await task.start(Meta("riga"))
        await other.rollback()
    match await asking:
        case MultipleJobsFound(jobs):
            assert [each.id for each in jobs] == [job.id, second.id]
        case answer:
            pytest.fail(f"{answer}")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_modification_is_as_good_where_sessions_begin_in_another_isolation(
    migrated_database: str, hands: Hands, level: str
) -> None:
    dsn = psycopg.conninfo.make_conninfo(
        migrated_database, options=f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"
    )
    async with App(dsn) as app:
        task = define(app)
        job = await suspended(task, hands)
        answers = await asyncio.gather(*(app.proceed(job.id, grown) for _ in range(8)))
    assert Counter(type(answer) for answer in answers) == {Proceeded: 1, NotSuspended: 7}
