"""Proceed: its five answers, by id and by query, with a modification and without, and what happens at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
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
from perdure.errors import MisuseError
from tests.support.clients import Hands, Imported, Meta, Needs, Progress, ShopClosed, define, until_waiting
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perdure import Job


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database) as app:
        define(app)
        yield app


@pytest.fixture
def task(app: App) -> Any:
    return app.tasks["orders.import"]


def grown(progress: Progress) -> Progress:
    return replace(progress, rows=progress.rows + 1)


async def stored(job: Job[Any, Any, Any, Any]) -> tuple[JobState, Any]:
    await job.refresh()
    return job.state, job.execution_metadata


async def suspended(task: Any, hands: Hands, shop: str = "riga") -> Any:
    job = await task.start(Meta(shop))
    hands.suspend(job)
    return job


# --- modification ---


async def test_a_modification_is_given_the_typed_execution_metadata_and_returns_a_new_one(
    app: App, task: Any, hands: Hands
) -> None:
    job = await suspended(task, hands)
    match await task.proceed(job.id, lambda progress: replace(progress, rows=7)):
        case Proceeded(gone_on):
            assert (gone_on.state, gone_on.execution_metadata) == (JobState.PROCEEDED, Progress(7))
            assert gone_on.woken_by is WokenBy.PROCEED
        case other:
            pytest.fail(f"{other}")
    assert await stored(job) == (JobState.PROCEEDED, Progress(7))
    assert hands.column(job, "checkpoint") == 1
    hands.suspend(job)
    assert isinstance(await app.proceed(job.id, grown), Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(8))


async def test_a_modification_may_change_the_object_in_place_and_return_it(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)

    def change(progress: Progress) -> Progress:
        progress.seen.append("by ann")
        return progress

    assert isinstance(await task.proceed(job.id, change), Proceeded)
    assert await stored(job) == (JobState.PROCEEDED, Progress(0, ["by ann"]))


async def test_a_task_without_a_checkpoint_can_be_modified_to_none(app: App, hands: Hands) -> None:
    nothing: Any = app.tasks["nothing"]
    job = await nothing.start()
    hands.suspend(job)
    assert isinstance(await nothing.proceed(job.id, lambda none: none), Proceeded)


def _raises(_: Progress) -> Progress:
    raise ValueError("no such page")  # noqa: EM101, TRY003 - what the caller's function raises


def _changes_and_forgets(progress: Progress) -> None:
    progress.rows = 9


async def _is_async(progress: Progress) -> Progress:
    return progress


@pytest.mark.parametrize(
    ("modification", "said"),
    [
        (_raises, "the modification raised ValueError: no such page"),
        (lambda _: Meta("oslo"), "the modification returned what can't be stored: execution metadata of orders.import"),
        (lambda _: Progress(rows="many"), "execution metadata of orders.import"),  # type: ignore[arg-type]
        (_changes_and_forgets, "a modification that changes the object has to return it as well"),
        (_is_async, "the modification is an async function"),
        (lambda _: Progress(seen=["x" * 3_000_000]), "allowed are 2,097,152 (execution.max_payload_bytes)"),
    ],
)
async def test_a_modification_that_fails_changes_nothing_and_is_told(
    task: Any, hands: Hands, modification: Any, said: str
) -> None:
    job = await suspended(task, hands)
    before = hands.sql("select ctid, xmax::text = '0', jobs.* from background_tasks.jobs")[0][2:]
    for _ in range(2):
        match await task.proceed(job.id, modification):
            case ModificationFailed(message):
                assert said in message
            case other:
                pytest.fail(f"{other}")
    assert hands.sql("select ctid, xmax::text = '0', jobs.* from background_tasks.jobs")[0][2:] == before


async def test_of_a_payload_that_cannot_be_decoded_the_modification_fails(task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)
    hands.make(job, execution_metadata='{"rows": "many"}')
    match await task.proceed(job.id, grown):
        case ModificationFailed(message):
            assert f"job {job.id}: execution metadata" in message
        case other:
            pytest.fail(f"{other}")
    assert hands.column(job, "state") == JobState.SUSPENDED.code


async def test_of_an_unknown_task_the_modification_fails_and_a_plain_proceed_does_not(
    task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await suspended(task, hands)
    async with App(migrated_database) as other:
        match await other.proceed(job.id, grown):
            case ModificationFailed(message):
                assert "the task 'orders.import', which this app doesn't have" in message
            case answer:
                pytest.fail(f"{answer}")
        assert hands.column(job, "state") == JobState.SUSPENDED.code
        assert isinstance(await other.proceed(job.id), Proceeded)


async def test_a_cancelled_call_of_a_modification_changes_nothing(app: App, task: Any, hands: Hands) -> None:
    job = await suspended(task, hands)

    def cancelled(_: Progress) -> Progress:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await app.proceed(job.id, cancelled)
    assert await stored(job) == (JobState.SUSPENDED, Progress())
    assert isinstance(await app.proceed(job.id, grown), Proceeded)


# --- not suspended ---


async def test_a_modification_of_a_running_job_is_not_suspended_and_changes_nothing(task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    for modification in (grown, _raises):
        match await task.proceed(job.id, modification):
            case NotSuspended(seen):
                assert seen.state is JobState.RUNNING
            case other:
                pytest.fail(f"{other}")
    assert hands.column(job, "(execution_metadata, checkpoint, proceed_requested)::text") == (
        '("{""rows"": 0, ""seen"": []}",0,f)'
    )


@pytest.mark.parametrize("modification", [None, grown, _raises])
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
    assert isinstance(await task.proceed(job.id, _raises, at=timedelta(hours=3)), NotSuspended)
    match await task.proceed(job.id, grown, at=timedelta(hours=1)):
        case Proceeded(sooner):
            assert sooner.execution_metadata == Progress(1)
            assert sooner.scheduled_at is not None
            assert sooner.scheduled_at < datetime.now(UTC) + timedelta(minutes=70)
        case other:
            pytest.fail(f"{other}")


# --- remembered ---


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


# --- not found, and queries ---


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
    for modification in (None, _raises):
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
    match await app.proceed(JobQuery(states=[JobState.CANCELLED]), _raises):
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


# --- at the same time ---


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


# --- classes, and code that doesn't await ---


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
        assert isinstance(app.blocking.proceed(job.id, _raises), ModificationFailed)
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
