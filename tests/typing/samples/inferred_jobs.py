"""What type checkers know of jobs, and of what the verbs answer. Never run: both must accept every line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Never, assert_type

from perdure import (
    AttemptEnding,
    AttemptRecord,
    CancelRequested,
    Job,
    JobEnded,
    JobNotFound,
    JobQuery,
    JobState,
    MachineState,
    ModificationFailed,
    MultipleJobsFound,
    NotFinal,
    NotSuspended,
    Proceeded,
    Raised,
    Retried,
    Sent,
    WokenBy,
)
from tests.typing.samples.inferred_machines import AwaitingPayment, Counted, Counting, Fulfil, Paid, States
from tests.typing.samples.inferred_tasks import (
    BlockingImport,
    Import,
    Imported,
    Meta,
    Progress,
    Quiet,
    Refused,
    ShopClosed,
    Shops,
    app,
    fails,
    nothing,
    result,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg


async def starts(own: psycopg.AsyncConnection) -> None:
    job = await fails.start(Meta("riga"))
    assert_type(job, Job[Meta, Progress, Imported, ShopClosed])
    assert_type(await job.result(timeout=30), Imported)
    assert_type(await job.result(timedelta(seconds=30)), Imported)
    assert_type(await job.refresh(), Job[Meta, Progress, Imported, ShopClosed])
    assert_type(job.metadata, Meta)
    assert_type(job.execution_metadata, Progress)
    assert_type(job.stored_result, Imported | None)
    assert_type(job.error, ShopClosed | Raised | None)
    assert_type(job.state, JobState)
    await fails.start(Meta("riga"), Progress(7), at=datetime.now(UTC), queue="slow", priority=5, connection=own)
    assert_type(await fails.start_many(Meta(shop) for shop in "ab"), list[Job[Meta, Progress, Imported, ShopClosed]])
    async for jobs in fails.start_batches((Meta(shop) for shop in "ab"), Progress(7), queue="slow", connection=own):
        assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])
    async for jobs in fails.start_batches(shops()):
        assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])

    quiet = await result.start(Meta("riga"))
    assert_type(quiet.error, Raised | None)
    assert_type(await (await nothing.start()).result(), None)
    await nothing.start(None, at=timedelta(hours=1))

    made = await Import.start(Meta("riga"), Progress(7), at=timedelta(hours=1))
    assert_type(made, Job[Meta, Progress, Imported, ShopClosed])
    assert_type(await Import.start_many([Meta("riga")]), list[Job[Meta, Progress, Imported, ShopClosed]])
    async for jobs in Import.start_batches([Meta("riga")]):
        assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])
    assert_type(await BlockingImport.start(Meta("riga")), Job[Meta, Progress, Imported, ShopClosed])
    assert_type(await Quiet.start(), Job[None, None, None, Never])
    Import(Shops())

    order = await Fulfil.start(Meta("riga"))
    assert_type(order, Job[Meta, MachineState[States], Imported, ShopClosed])
    assert_type(order.execution_metadata.state, States)
    assert_type(await order.result(), Imported)
    await Fulfil.start(Meta("riga"), MachineState(AwaitingPayment("x")), at=timedelta(hours=1))
    assert_type(await Fulfil.start_many([Meta("riga")]), list[Job[Meta, MachineState[States], Imported, ShopClosed]])
    async for orders in Fulfil.start_batches(shops()):
        assert_type(orders, list[Job[Meta, MachineState[States], Imported, ShopClosed]])
    await Counting.start(None, Counted(Paid(datetime.now(UTC)), count=3))


async def shops() -> AsyncIterator[Meta]:
    yield Meta("riga")


async def answers(job: Job[Meta, Progress, Imported, ShopClosed]) -> None:
    outcome = await app.proceed(job.id)
    outcome = await fails.proceed(job.id, lambda progress: replace(progress, rows=2), at=timedelta(hours=1))
    outcome = await app.proceed(JobQuery(names=["orders.approve"], metadata={"order": 17}))
    match outcome:
        case Proceeded(proceeded):
            assert_type(proceeded.id, int)
        case JobNotFound():
            pass
        case MultipleJobsFound(jobs):
            assert_type(jobs[0].state, JobState)
        case NotSuspended(other):
            assert_type(other.state, JobState)
        case ModificationFailed(message):
            assert_type(message, str)


async def typed_answers(job: Job[Meta, Progress, Imported, ShopClosed]) -> None:
    match await fails.proceed(job.id, count):
        case Proceeded(typed):
            assert_type(typed, Job[Meta, Progress, Imported, ShopClosed])
        case NotSuspended(typed):
            assert_type(typed.execution_metadata, Progress)
        case MultipleJobsFound(many):
            assert_type(many, list[Job[Meta, Progress, Imported, ShopClosed]])
        case JobNotFound() | ModificationFailed():
            pass
    by_class = await Import.proceed(job.id, lambda progress: Progress(progress.rows + 1))
    if isinstance(by_class, Proceeded):
        assert_type(by_class.job.metadata, Meta)


async def other_answers(job: Job[Meta, Progress, Imported, ShopClosed]) -> str:
    match await app.retry(job.id, afresh=True):
        case Retried(again):
            assert_type(again.state, JobState)
        case NotFinal(live):
            assert_type(live.state, JobState)
        case JobNotFound():
            pass
    match await app.cancel(job.id):
        case CancelRequested(cancelled):
            return cancelled.name
        case JobEnded(ended):
            return ended.name
        case JobNotFound():
            return ""


def count(progress: Progress) -> Progress:
    progress.rows += 1
    return progress


async def sends(job: Job[Meta, Progress, Imported, ShopClosed], connection: psycopg.AsyncConnection) -> int:
    match await fails.send(job.id, Refused("ann"), connection=connection):
        case Sent(job_id):
            return job_id
        case JobEnded(ended):
            assert_type(ended, Job[Meta, Progress, Imported, ShopClosed])
            return 0
        case JobNotFound():
            return 0


async def sends_by_query() -> int:
    match await Import.send(JobQuery(metadata={"shop": "riga"}), Refused("ann")):
        case Sent(job_id):
            return job_id
        case MultipleJobsFound(jobs):
            assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])
            return len(jobs)
        case JobEnded() | JobNotFound():
            return 0


async def history(job: Job[Meta, Progress, Imported, ShopClosed]) -> None:
    for attempt in await job.history():
        assert_type(attempt, AttemptRecord[ShopClosed])
        assert_type(attempt.ending, AttemptEnding)
        assert_type(attempt.woken_by, WokenBy)
        assert_type(attempt.error, ShopClosed | Raised | None)
    assert_type(await app.history(job.id), list[AttemptRecord[Any]])


async def looks() -> None:
    async for job in app.jobs():
        assert_type(job.id, int)
    query = JobQuery(states=[JobState.SUSPENDED], names=["fails"], metadata={"shop": "riga"}, order="descending")
    async for job in app.jobs(query):
        assert_type(job.metadata, Any)


def from_sync_code(own: psycopg.Connection) -> None:
    assert_type(app.blocking.start(fails, Meta("riga"), connection=own), Job[Meta, Progress, Imported, ShopClosed])
    assert_type(app.blocking.start(nothing), Job[None, None, None, Never])
    assert_type(app.blocking.start(nothing, None, queue="slow"), Job[None, None, None, Never])
    assert_type(app.blocking.start(Import, Meta("riga")), Job[Meta, Progress, Imported, ShopClosed])
    jobs = app.blocking.start_many(fails, [Meta("riga")], at=timedelta(hours=1), queue="slow")
    assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])
    for batch in app.blocking.start_batches(fails, [Meta("riga")], at=timedelta(hours=1), connection=own):
        assert_type(batch, list[Job[Meta, Progress, Imported, ShopClosed]])
    for batch in app.blocking.start_batches(Import, [Meta("riga")]):
        assert_type(batch, list[Job[Meta, Progress, Imported, ShopClosed]])
    assert_type(app.blocking.result(jobs[0], timeout=3), Imported)
    outcome = app.blocking.proceed(jobs[0].id, count, task=fails)
    if isinstance(outcome, NotSuspended):
        assert_type(outcome.job, Job[Meta, Progress, Imported, ShopClosed])
    app.blocking.proceed(jobs[0].id, count, task=Import)
    app.blocking.proceed(JobQuery(names=["fails"]), at=timedelta(hours=1))
    app.blocking.send(Import, jobs[0].id, Refused("ann"), connection=own)


async def runs() -> None:
    async with app, app.worker(queues=["default"], concurrency=10, shutdown_grace=timedelta(seconds=5)):
        await app.migrate()
    await app.open()
    await app.close()


async def any_job(job: Job) -> None:
    """`Job` alone is a job of whatever task."""
    assert_type(job, Job[Any, Any, Any, Any])
    assert_type(await job.refresh(), Job[Any, Any, Any, Any])
