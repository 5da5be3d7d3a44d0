"""An operator's retry of ended jobs, deadlines and versions at the start, and the history of attempts."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, AttemptEnding, Context, JobNotFound, JobState, NotFinal, Raised, Retried, WokenBy
from perdure.errors import JobNotFoundError, MisuseError, PayloadRefused, PayloadUndecodable
from tests.support.clients import WORKER, Approved, Hands, Meta, Needs, Progress, ShopClosed, define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FINAL = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED]
RAISED = '{"raised": {"type": "ValueError", "message": "no rows", "traceback": "Traceback…"}}'


@pytest.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    async with App(migrated_database) as app:
        define(app)

        @app.task("limited", deadline=timedelta(hours=3), version=4)
        async def limited(ctx: Context[Meta, Progress]) -> None: ...

        yield app


async def ended(task: Any, hands: Hands, state: JobState = JobState.FAILED, **columns: object) -> Any:
    """A job that has run and ended, with everything that one can have."""
    job = await task.start(Meta("riga"), Progress(5), deadline=timedelta(hours=1), queue="slow", priority=9)
    hands.run(job)
    hands.make(
        job, attempt=3, claim=4, checkpoint=6, retry_number=2, scheduler_retries=1, lapses=1, woken_by=2, last_error="x"
    )
    hands.sql("insert into background_tasks.steps (job_id, key, result) values (%s, 'charge', '1')", job.id)
    await task.send(job.id, Approved("ann"))
    hands.end(job, state.code, **columns)
    return job


# --- retry ---


@pytest.mark.parametrize("state", FINAL)
async def test_a_retry_takes_any_final_state_back_to_its_checkpoint(
    app: App, task: Any, hands: Hands, state: JobState
) -> None:
    job = await ended(task, hands, state, error='{"error": {"since": "today"}}', result='{"rows": 1}')
    match await app.retry(job.id):
        case Retried(again):
            assert (again.id, again.state, again.execution_metadata) == (job.id, JobState.PENDING, Progress(5))
            assert (again.attempt, again.retry_number, again.woken_by) == (3, 0, WokenBy.START)
            assert (again.stored_result, again.error, again.last_error) == (None, None, None)
            assert (again.finished_at, again.worker_id, again.deadline_at) == (None, None, None)
            assert (again.queue, again.priority, again.created_at) == ("slow", 9, job.created_at)
        case other:
            pytest.fail(f"{other}")
    assert hands.sql(
        "select scheduler_retries, lapses, suspect, claim, checkpoint, proceed_requested, cancel_requested, awaited, "
        "scheduled_at <= clock_timestamp() from background_tasks.jobs"
    ) == [(0, 0, False, 4, 6, False, False, False, True)]
    assert hands.sql("select * from background_tasks.finished_jobs") == []
    assert hands.sql("select key from background_tasks.steps") == [("charge",)]
    assert await app.unread_events(job.id) == 1


async def test_a_retry_afresh_begins_with_the_default_checkpoint_without_steps_and_events(
    app: App, task: Any, hands: Hands
) -> None:
    job, other = await ended(task, hands), await ended(task, hands)
    match await app.retry(job.id, afresh=True):
        case Retried(again):
            assert (again.execution_metadata, again.metadata, again.attempt) == (Progress(), Meta("riga"), 3)
        case answer:
            pytest.fail(f"{answer}")
    assert hands.column(job, "(checkpoint, claim)::text") == "(7,4)"
    assert (await app.unread_events(job.id), await app.unread_events(other.id)) == (0, 1)
    assert hands.sql("select job_id from background_tasks.steps") == [(other.id,)]


async def test_a_retry_afresh_takes_the_checkpoint_that_it_is_given(app: App, task: Any, hands: Hands) -> None:
    job = await ended(task, hands)
    match await app.retry(job.id, afresh=True, execution_metadata=Progress(2)):
        case Retried(again):
            assert again.execution_metadata == Progress(2)
        case answer:
            pytest.fail(f"{answer}")


async def test_a_retried_job_is_run_by_a_worker(app: App, task: Any, hands: Hands) -> None:
    job = await ended(task, hands)
    hands.sql("truncate background_tasks.bands")  # its pair of queue and priority is made known again
    async with app.worker(queues=["slow"]):
        assert isinstance(await app.retry(job.id), Retried)
        assert (await (await job.refresh()).result(timeout=20)).rows == 5
    assert (await job.refresh()).attempt == 4


async def test_who_waits_for_a_job_that_was_retried_waits_for_its_new_end(app: App, task: Any, hands: Hands) -> None:
    job = await ended(task, hands)
    await job.refresh()
    assert job.state is JobState.FAILED
    assert isinstance(await app.retry(job.id), Retried)
    with pytest.raises(TimeoutError, match="it is pending"):
        await job.result(timeout=0)
    async with app.worker(queues=["slow"]):
        assert (await job.result(timeout=20)).rows == 5


async def test_a_retry_tells_workers_that_sleep(app: App, task: Any, hands: Hands) -> None:
    job = await ended(task, hands)
    hands.sql(
        """insert into background_tasks.workers
            (id, lease_until, lease_seconds, sleeping, host, pid, concurrency, version)
            values (%s, now() + interval '1 h', 30, true, 'host', 1, 1, '1')""",
        WORKER,
    )
    hands.sql(f'listen "{app.names.work_channel}"')
    await app.retry(job.id)
    told = [notification.payload for notification in hands.connection.notifies(timeout=20, stop_after=1)]
    assert told == ["slow"]


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
async def test_a_job_that_has_not_ended_is_not_final_and_stays_as_it_is(
    app: App, task: Any, hands: Hands, state: JobState
) -> None:
    job = await task.start(Meta("riga"))
    hands.run(job)
    if state is not JobState.RUNNING:
        hands.make(job, state=state.code, worker_id=None)
    before = hands.sql("select * from background_tasks.jobs")
    for afresh in (False, True):
        match await app.retry(job.id, afresh=afresh):
            case NotFinal(seen):
                assert seen.state is state
            case answer:
                pytest.fail(f"{answer}")
    assert hands.sql("select * from background_tasks.jobs") == before


async def test_a_retry_of_no_job_is_not_found(app: App) -> None:
    assert await app.retry(10**15) == JobNotFound()
    assert await app.retry(10**15, afresh=True) == JobNotFound()


async def test_of_eight_retries_at_once_one_is_made(app: App, task: Any, hands: Hands) -> None:
    for afresh in (False, True):
        job = await ended(task, hands)
        answers = await asyncio.gather(*(app.retry(job.id, afresh=afresh) for _ in range(8)))
        assert Counter(type(answer) for answer in answers) == {Retried: 1, NotFinal: 7}


async def test_a_type_without_a_default_says_to_give_the_checkpoint(app: App, hands: Hands) -> None:
    needs: Any = app.tasks["needs.checkpoint"]
    job = await needs.start(None, Needs("t"))
    hands.end(job, 7)
    with pytest.raises(MisuseError, match=r"can't begin afresh: .*token.*; give execution_metadata="):
        await app.retry(job.id, afresh=True)
    with pytest.raises(PayloadRefused, match=r"execution metadata of needs\.checkpoint"):
        await app.retry(job.id, afresh=True, execution_metadata=Meta("riga"))
    assert (await job.refresh()).state is JobState.FAILED
    assert isinstance(await app.retry(job.id, afresh=True, execution_metadata=Needs("u")), Retried)
    assert (await job.refresh()).execution_metadata == Needs("u")


async def test_an_app_without_the_task_says_to_give_the_checkpoint(
    app: App, task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await ended(task, hands)
    async with App(migrated_database) as other:
        with pytest.raises(MisuseError, match=r"which this app doesn't have.* give it as execution_metadata="):
            await other.retry(job.id, afresh=True)
        assert isinstance(await other.retry(job.id, afresh=True, execution_metadata={"rows": 8}), Retried)
    assert (await job.refresh()).execution_metadata == Progress(8)


async def test_a_checkpoint_for_a_retry_that_is_not_afresh_is_refused(app: App, task: Any, hands: Hands) -> None:
    job = await ended(task, hands)
    with pytest.raises(MisuseError, match="give afresh=True as well"):
        await app.retry(job.id, execution_metadata=Progress())


# --- start: deadline and version ---


async def test_a_deadline_counts_from_when_the_job_is_first_due(app: App, hands: Hands) -> None:
    limited: Any = app.tasks["limited"]
    job = await limited.start(Meta("riga"), at=timedelta(hours=1))
    assert job.deadline_at - job.created_at == timedelta(hours=4)
    own = await limited.start(Meta("riga"), deadline=timedelta(minutes=1))
    assert own.deadline_at - own.created_at == timedelta(minutes=1)
    many = await limited.start_many([Meta("a"), Meta("b")], at=timedelta(hours=1), deadline=timedelta(hours=2))
    assert [each.deadline_at - each.created_at for each in many] == [timedelta(hours=3)] * 2
    for each in (job, own, *many):
        assert each.version == 4
        shown = each.deadline_at, each.version
        await each.refresh()
        assert (each.deadline_at, each.version) == shown


async def test_without_a_deadline_there_is_none_and_the_first_version_is_1(task: Any) -> None:
    job = await task.start(Meta("riga"))
    assert (job.deadline_at, job.version) == (None, 1)


@pytest.mark.parametrize("deadline", [timedelta(0), timedelta(hours=-1), "5", "soon"])
async def test_a_deadline_that_is_none_is_refused(task: Any, deadline: Any) -> None:
    with pytest.raises(MisuseError, match=r"task 'orders\.import': deadline="):
        await task.start(Meta("riga"), deadline=deadline)


# --- history ---


async def test_a_job_that_has_not_run_has_no_history(app: App, task: Any) -> None:
    job = await task.start(Meta("riga"))
    assert await job.history() == []
    with pytest.raises(JobNotFoundError, match="there is no job 1000000000000000"):
        await app.history(10**15)


async def test_the_history_tells_of_each_attempt_when_where_what_woke_it_and_how_it_ended(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.sql(
        """insert into background_tasks.attempts
            (job_id, attempt, worker_id, started_at, ended_at, ending, woken_by, error)
            values (%s, 1, %s, '2030-01-01 00:00Z', '2030-01-01 00:01Z', 1, 0, %s),
                (%s, 2, %s, '2030-01-01 00:02Z', '2030-01-01 00:04Z', 3, 0, %s),
                (%s, 3, %s, '2030-01-01 00:05Z', '2030-01-01 00:05Z', 4, 0, null)""",
        *[job.id, WORKER, RAISED, job.id, WORKER, '{"error": {"since": "today"}}', job.id, WORKER],
    )
    hands.run(job)
    hands.make(job, attempt=4, woken_by=2, started_at="2030-01-02 00:00Z")
    first, second, third, running = await job.history()
    assert [attempt.number for attempt in (first, second, third, running)] == [1, 2, 3, 4]
    assert (first.ending, first.error) == (AttemptEnding.RAISED, Raised("ValueError", "no rows", "Traceback…"))
    assert (first.duration, str(first.worker_id)) == (timedelta(minutes=1), WORKER)
    assert (second.ending, second.error) == (AttemptEnding.FAILED, ShopClosed("today"))
    assert (third.ending, third.error, third.woken_by) == (AttemptEnding.SUSPENDED, None, WokenBy.START)
    assert (running.ending, running.ended_at, running.duration) == (AttemptEnding.RUNNING, None, None)
    assert running.woken_by is WokenBy.EVENT
    assert running.started_at is not None

    hands.end(job, 7, error=RAISED)
    *_, last = await app.history(job.id)
    assert (last.number, last.ending, last.woken_by) == (4, AttemptEnding.JOB_FAILED, WokenBy.EVENT)
    assert isinstance(last.error, Raised)
    assert last.ended_at == (await job.refresh()).finished_at


@pytest.mark.parametrize("state", FINAL)
async def test_a_retry_makes_the_last_attempt_history(app: App, task: Any, hands: Hands, state: JobState) -> None:
    job = await ended(task, hands, state, error=RAISED)
    before = await job.history()
    assert [(attempt.number, attempt.ending) for attempt in before] == [(3, AttemptEnding(f"job {state}"))]
    await app.retry(job.id)
    (after,) = await job.history()
    for name in ("number", "worker_id", "started_at", "ended_at", "ending", "woken_by", "error"):
        assert getattr(after, name) == getattr(before[0], name)


async def test_a_job_that_was_cancelled_while_it_waited_keeps_the_row_of_its_last_attempt(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.sql("insert into background_tasks.attempts values (%s, 1, %s, now(), now(), 4, 0, null)", job.id, WORKER)
    hands.suspend(job)
    hands.make(job, attempt=1)
    await app.cancel(job.id)
    for _ in range(2):
        assert [(each.number, each.ending) for each in await job.history()] == [(1, AttemptEnding.SUSPENDED)]
        await app.retry(job.id)


async def test_a_job_that_never_ran_leaves_no_attempt_behind(app: App, task: Any) -> None:
    job = await task.start(Meta("riga"))
    await app.cancel(job.id)
    await app.retry(job.id)
    assert await job.history() == []


async def test_an_error_that_cannot_be_decoded_spoils_no_other_attempt(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.sql(
        "insert into background_tasks.attempts values (%s, 1, null, null, now(), 3, 0, '{\"error\": 5}'), "
        '(%s, 2, null, null, now(), 3, 0, \'{"error": {"since": "today"}}\')',
        *[job.id, job.id],
    )
    bad, good = await job.history()
    assert (bad.number, bad.started_at, bad.worker_id, bad.duration) == (1, None, None, None)
    with pytest.raises(PayloadUndecodable, match=rf"job {job.id}, attempt 1: error"):
        _ = bad.error
    assert good.error == ShopClosed("today")


def test_code_that_does_not_await_retries_and_reads_histories(migrated_database: str, hands: Hands) -> None:
    app = App(migrated_database)
    task = define(app)
    try:
        job = app.blocking.start(task, Meta("riga"), Progress(3))
        assert isinstance(app.blocking.retry(job.id), NotFinal)
        hands.run(job)
        hands.end(job, 7, error=RAISED)
        assert [attempt.ending for attempt in app.blocking.history(job.id)] == [AttemptEnding.JOB_FAILED]
        assert isinstance(app.blocking.retry(job.id, afresh=True), Retried)
        assert app.blocking.refresh(job).execution_metadata == Progress()
        assert app.blocking.retry(10**15) == JobNotFound()
    finally:
        app.blocking.close()
