"""What type checkers read off handlers alone. Never run: mypy and pyright, both strict, must accept every line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Never, TypedDict, assert_type

import msgspec
import psycopg

import perdure.blocking
from perdure import (
    App,
    AttemptEnding,
    AttemptRecord,
    BackgroundTask,
    Cancelled,
    CancelRequested,
    Completed,
    Context,
    Failed,
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
    StateMachine,
    Suspended,
    Task,
    WokenBy,
    on,
)
from perdure.retry import Exponential, FixedDelays


@dataclass
class Meta:
    shop: str


@dataclass
class Progress:
    rows: int = 0


@dataclass
class Imported:
    rows: int


@dataclass
class ShopClosed:
    since: str


@dataclass
class Refused:
    by: str


class Left(msgspec.Struct):
    left: int


class Right(msgspec.Struct):
    right: int


class Table(TypedDict):
    rows: int


class Shops:
    def get(self, kind: type[object]) -> object: ...


app = App("postgresql:///", scheduling={"batch_size": 10}, resolver=Shops().get)


@app.task("result")
async def result(ctx: Context[Meta, Progress]) -> Imported:
    assert_type(ctx.metadata, Meta)
    assert_type(ctx.execution_metadata, Progress)
    assert_type(ctx.attempt, int)
    ctx.execution_metadata = Progress(1)
    await ctx.persist()
    async with ctx.transaction() as connection:
        assert_type(connection, psycopg.AsyncConnection[Any])
    return Imported(1)


@app.task("suspends", queue="slow", priority=5, timeout=timedelta(hours=2), max_retry_count=1)
async def suspends(ctx: Context[Meta, Progress]) -> Imported | Suspended:
    return Suspended() if ctx.attempt else Suspended(until=timedelta(hours=1))


@app.task("fails", scheduler_retry_count=3, scheduler_retry_delays=[1, 2.5, timedelta(minutes=1)])
async def fails(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("today"), retry=False) if ctx.stopping else Imported(1)


@app.task("cancels")
async def cancels(ctx: Context[Meta, Progress]) -> Imported | Cancelled[ShopClosed]:
    return Cancelled(ShopClosed("today"))


@app.task("everything")
async def everything(
    ctx: Context[Meta, Progress],
) -> Imported | Failed[ShopClosed] | Suspended | Cancelled[ShopClosed]:
    return Suspended(until=datetime.now(UTC))


@app.task("two errors")
async def two_errors(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Cancelled[Refused]:
    return Cancelled(Refused("ann"))


@app.task("error union")
async def error_union(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed | Refused]:
    return Failed(Refused("ann"))


@app.task("nothing")
async def nothing(ctx: Context[None, None]) -> None: ...


@app.task("nothing or error")
async def nothing_or_error(ctx: Context[None, None]) -> Failed[str] | Suspended | None:
    return None


@app.task("never ends")
async def never_ends(ctx: Context[None, None]) -> Suspended:
    return Suspended()


@app.task("only fails")
async def only_fails(ctx: Context[None, None]) -> Failed[str]:
    return Failed("always")


@app.task("union")
async def union(ctx: Context[int | str, list[int]]) -> Left | Right:
    return Left(1)


@app.task("optional")
async def optional(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | None:
    return None


@app.task("completed")
async def completed(ctx: Context[Meta, Progress]) -> Completed[Left | Right] | Failed[str] | Suspended:
    return Completed(Left(1))


@app.task("containers")
async def containers(ctx: Context[Table, dict[str, list[int]]]) -> dict[str, Table] | Suspended:
    return {"a": ctx.metadata}


@app.task("typed dict")
async def typed_dict(ctx: Context[Table, None]) -> Table | Failed[Table]:
    return ctx.metadata


@app.task("blocking result")
def blocking_result(ctx: perdure.blocking.Context[Meta, Progress]) -> Imported:
    assert_type(ctx.metadata, Meta)
    assert_type(ctx.execution_metadata, Progress)
    ctx.persist()
    with ctx.transaction() as connection:
        assert_type(connection, psycopg.Connection[Any])
    return Imported(1)


@app.task("blocking everything")
def blocking_everything(
    ctx: perdure.blocking.Context[Meta, Progress],
) -> Imported | Failed[ShopClosed] | Suspended | Cancelled[Refused]:
    return Suspended()


@app.task("blocking nothing")
def blocking_nothing(ctx: perdure.blocking.Context[None, None]) -> None: ...


@app.task("class")
class Import(BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    def __init__(self, shops: Shops) -> None:
        self.shops = shops

    async def execute(self, ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
        assert_type(ctx.metadata, Meta)
        return Imported(1)


@app.task("class without errors")
class Quiet(BackgroundTask[None, None, None, Never]):
    async def execute(self, ctx: Context[None, None]) -> None:
        assert_type(ctx.metadata, None)


@app.task("blocking class")
class BlockingImport(perdure.blocking.BackgroundTask[Meta, Progress, Imported, ShopClosed]):
    def execute(self, ctx: perdure.blocking.Context[Meta, Progress]) -> Imported | Suspended:
        return Suspended(until=timedelta(hours=ctx.attempt))


@dataclass
class Placed: ...


@dataclass
class AwaitingPayment:
    invoice: str


@dataclass
class Paid:
    at: datetime


States = Placed | AwaitingPayment | Paid
Ctx = Context[Meta, MachineState[States]]


@app.task("machine")
class Fulfil(StateMachine[Meta, States, Imported, ShopClosed]):
    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment]:
        assert_type(state, Placed)
        assert_type(ctx.execution_metadata, MachineState[States])
        assert_type(ctx.execution_metadata.state, States)
        return Suspended(state=AwaitingPayment("x"))

    @on(AwaitingPayment, repeatable=True)
    async def payment(
        self, state: AwaitingPayment, ctx: Ctx
    ) -> AwaitingPayment | Paid | Suspended | Failed[ShopClosed] | Cancelled[ShopClosed]:
        if ctx.stopping:
            return Suspended(until=timedelta(hours=1))
        if ctx.attempt:
            return Failed(ShopClosed("today"), retry=False, state=Placed())
        return Paid(datetime.now(UTC)) if state.invoice else Cancelled(ShopClosed("today"), state=state)

    @on(Paid)
    async def paid(self, state: Placed | Paid, ctx: Ctx) -> Completed[Imported] | Suspended[Placed | Paid]:
        return Completed(Imported(1), state=state) if ctx.attempt else Suspended()


@dataclass
class Counted(MachineState[Paid]):
    count: int = 0


@app.task("machine that holds more")
class Counting(StateMachine[None, Paid, None, Never]):
    @on(Paid)
    async def paid(self, state: Paid, ctx: Context[None, Counted]) -> Completed[None]:
        assert_type(ctx.execution_metadata.count, int)
        assert_type(ctx.execution_metadata.state, Paid)
        return Completed(None, state=state)


assert_type(result, Task[Meta, Progress, Imported, Never])
assert_type(suspends, Task[Meta, Progress, Imported, Never])
assert_type(fails, Task[Meta, Progress, Imported, ShopClosed])
assert_type(cancels, Task[Meta, Progress, Imported, ShopClosed])
assert_type(everything, Task[Meta, Progress, Imported, ShopClosed])
assert_type(two_errors, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(error_union, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(nothing, Task[None, None, None, Never])
assert_type(nothing_or_error, Task[None, None, None, str])
assert_type(never_ends, Task[None, None, None, Never])
assert_type(only_fails, Task[None, None, None, str])
assert_type(union, Task[int | str, list[int], Left | Right, Never])
assert_type(optional, Task[Meta, Progress, Imported | None, ShopClosed])
assert_type(completed, Task[Meta, Progress, Left | Right, str])
assert_type(containers, Task[Table, dict[str, list[int]], dict[str, Table], Never])
assert_type(typed_dict, Task[Table, None, Table, Table])
assert_type(blocking_result, Task[Meta, Progress, Imported, Never])
assert_type(blocking_everything, Task[Meta, Progress, Imported, ShopClosed | Refused])
assert_type(blocking_nothing, Task[None, None, None, Never])


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

    quiet = await result.start(Meta("riga"))
    assert_type(quiet.error, Raised | None)
    assert_type(await (await nothing.start()).result(), None)
    await nothing.start(None, at=timedelta(hours=1))

    made = await Import.start(Meta("riga"), Progress(7), at=timedelta(hours=1))
    assert_type(made, Job[Meta, Progress, Imported, ShopClosed])
    assert_type(await Import.start_many([Meta("riga")]), list[Job[Meta, Progress, Imported, ShopClosed]])
    assert_type(await BlockingImport.start(Meta("riga")), Job[Meta, Progress, Imported, ShopClosed])
    assert_type(await Quiet.start(), Job[None, None, None, Never])
    Import(Shops())

    order = await Fulfil.start(Meta("riga"))
    assert_type(order, Job[Meta, MachineState[States], Imported, ShopClosed])
    assert_type(order.execution_metadata.state, States)
    assert_type(await order.result(), Imported)
    await Fulfil.start(Meta("riga"), MachineState(AwaitingPayment("x")), at=timedelta(hours=1))
    assert_type(await Fulfil.start_many([Meta("riga")]), list[Job[Meta, MachineState[States], Imported, ShopClosed]])
    await Counting.start(None, Counted(Paid(datetime.now(UTC)), count=3))


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
    assert_type(app.blocking.start(Import, Meta("riga")), Job[Meta, Progress, Imported, ShopClosed])
    jobs = app.blocking.start_many(fails, [Meta("riga")], at=timedelta(hours=1), queue="slow")
    assert_type(jobs, list[Job[Meta, Progress, Imported, ShopClosed]])
    assert_type(app.blocking.result(jobs[0], timeout=3), Imported)
    outcome = app.blocking.proceed(jobs[0].id, count, task=fails)
    if isinstance(outcome, NotSuspended):
        assert_type(outcome.job, Job[Meta, Progress, Imported, ShopClosed])
    app.blocking.proceed(jobs[0].id, count, task=Import)
    app.blocking.proceed(JobQuery(names=["fails"]), at=timedelta(hours=1))
    app.blocking.send(Import, jobs[0].id, Refused("ann"), connection=own)


async def calls_directly(ctx: Context[Meta, Progress], blocking: perdure.blocking.Context[Meta, Progress]) -> None:
    outcome = await fails(ctx)
    assert not isinstance(outcome, Imported | Completed | Suspended | Cancelled)
    assert_type(outcome.error, ShopClosed)
    assert isinstance(blocking_result(blocking), Imported)


async def runs() -> None:
    async with app, app.worker(queues=["default"], concurrency=10, shutdown_grace=timedelta(seconds=5)):
        await app.migrate()
    await app.open()
    await app.close()


def from_the_first(old: Any) -> Any:
    return old


def own_policy(attempt: int, error: BaseException) -> timedelta | None:
    return timedelta(seconds=attempt) if isinstance(error, OSError) else None


@app.task("own policy", retry=own_policy, no_retry_on=ValueError, deadline=timedelta(days=1), events=Meta | Progress)
async def with_own_policy(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("noon"), retry_after=timedelta(minutes=5))


@app.task("growing", retry=Exponential(1, cap=timedelta(hours=1), count=9), no_retry_on=(ValueError, KeyError))
async def with_growing_delays(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed]:
    return Failed(ShopClosed("noon"), retry_after=0.5)


@app.task("fixed", retry=FixedDelays([1, 2.5, timedelta(minutes=1)]), version=2, upgrades={1: from_the_first})
async def with_fixed_delays(ctx: Context[Meta, Progress]) -> Imported:
    return Imported(1)


assert_type(with_own_policy, Task[Meta, Progress, Imported, ShopClosed])
assert_type(with_growing_delays, Task[Meta, Progress, Imported, ShopClosed])
assert_type(with_fixed_delays, Task[Meta, Progress, Imported, Never])


async def any_job(job: Job) -> None:
    """`Job` alone is a job of whatever task."""
    assert_type(job, Job[Any, Any, Any, Any])
    assert_type(await job.refresh(), Job[Any, Any, Any, Any])
