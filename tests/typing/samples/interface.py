"""The interface as its description shows it: both type checkers accept every line, and test_interface.py runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import psycopg  # noqa: TC002 - as above

import perdure.blocking
from perdure import (
    App,
    BackgroundTask,
    Cancelled,
    CancelRequested,
    Completed,
    Context,
    Failed,
    Job,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobNotFound,
    JobQuery,
    JobState,
    MachineState,
    ModificationFailed,
    MultipleJobsFound,
    NotFinal,
    NotSuspended,
    Proceeded,
    Retried,
    Sent,
    StateMachine,
    Suspended,
    on,
)


@dataclass
class ImportOrders:
    shop: str


@dataclass
class Progress:
    page_token: str | None = None
    rows: int = 0


@dataclass
class Imported:
    rows: int


@dataclass
class ShopClosed:
    since: str


@dataclass
class Page:
    rows: list[int]
    next: str | None
    total: int = 6
    closed: str | None = None
    retry_at: datetime | None = None


PAGES = {None: Page([1, 2], "p2"), "p2": Page([3, 4], "p3", retry_at=datetime.now(UTC)), "p3": Page([5, 6], None)}


async def fetch(shop: str, token: str | None) -> Page:
    return Page([], None, closed="noon") if shop == "closed" else PAGES[token]


async def save(connection: psycopg.AsyncConnection[Any], rows: list[int]) -> None:
    for row in rows:
        await connection.execute("insert into orders values (%s)", [row])


class Shops:
    name = "riga"


def resolve(kind: type[Any]) -> Any:
    return kind(Shops()) if kind is ImportOrdersTask else kind()


app = App("postgresql:///", resolver=resolve)


@app.task("orders.import", max_retry_count=10, timeout=timedelta(hours=2))
async def import_orders(ctx: Context[ImportOrders, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
    progress = ctx.execution_metadata
    while True:
        page = await fetch(ctx.metadata.shop, progress.page_token)
        if page.closed:
            return Failed(ShopClosed(page.closed), retry=False)
        async with ctx.transaction() as connection:
            await save(connection, page.rows)
            progress.page_token, progress.rows = page.next, progress.rows + len(page.rows)
        await ctx.progress(progress.rows, page.total)
        if page.next is None:
            return Imported(progress.rows)
        if page.retry_at:
            return Suspended(until=page.retry_at)


@app.task("orders.import.class")
class ImportOrdersTask(BackgroundTask[ImportOrders, Progress, Imported, ShopClosed]):
    def __init__(self, shops: Shops) -> None:
        self.shops = shops

    async def execute(self, ctx: Context[ImportOrders, Progress]) -> Imported | Failed[ShopClosed]:
        return Imported(len(self.shops.name)) if ctx.metadata.shop == "riga" else Failed(ShopClosed("noon"))


@app.task("orders.import.thread")
def import_in_a_thread(ctx: perdure.blocking.Context[ImportOrders, None]) -> Imported:
    return Imported(len(ctx.metadata.shop))


@dataclass
class Order:
    order: int


@dataclass
class Approved:
    by: str


@dataclass
class Rejected:
    by: str


@app.task("orders.approve", events=Approved | Rejected)
async def approve(ctx: Context[Order, None]) -> str | Suspended | Cancelled[str]:
    match await ctx.next_event():
        case None:
            return Suspended(until=timedelta(days=3))
        case Approved(by):
            return f"{ctx.metadata.order} by {by}, {ctx.woken_by.value}"
        case Rejected(by):
            return Cancelled(by)
        case other:
            return f"{other}"


@dataclass
class Placed: ...


@dataclass
class AwaitingPayment:
    invoice: str


@dataclass
class Paid:
    at: datetime


@dataclass
class Receipt:
    order: int


States = Placed | AwaitingPayment | Paid
Ctx = Context[Order, MachineState[States]]


@app.task("orders.fulfil")
class Fulfil(StateMachine[Order, States, Receipt, ShopClosed]):
    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment]:  # noqa: ARG002
        return Suspended(state=AwaitingPayment(f"invoice {ctx.metadata.order}"))

    @on(AwaitingPayment)
    async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid | Suspended:
        return Paid(datetime.now(UTC)) if state.invoice == "paid" else Suspended(until=timedelta(hours=ctx.attempt))

    @on(Paid)
    async def paid(self, state: Paid, ctx: Ctx) -> Completed[Receipt]:  # noqa: ARG002
        return Completed(Receipt(ctx.metadata.order))


def pay(machine: MachineState[States]) -> MachineState[States]:
    return replace(machine, state=AwaitingPayment("paid"))


Until = Callable[[Job[Any, Any, Any, Any], JobState], Any]
"""Waits until a job is in a state; the test gives it."""


async def start(connection: psycopg.AsyncConnection[Any], tomorrow: datetime) -> None:
    job = await import_orders.start(ImportOrders("riga"))
    assert_type(job, Job[ImportOrders, Progress, Imported, ShopClosed])
    assert await job.result(timeout=30) == Imported(6)
    assert (await job.refresh()).state is JobState.COMPLETED
    assert (job.execution_metadata, job.attempt, job.retry_number) == (Progress(None, 6), 2, 0)
    assert (job.name, job.queue, job.priority, job.last_error) == ("orders.import", "default", 0, None)
    assert job.created_at <= (job.finished_at or job.created_at)

    later = await import_orders.start(ImportOrders("riga"), Progress("p3"), at=tomorrow, queue="slow", priority=5)
    assert (later.state, later.scheduled_at) == (JobState.PENDING, tomorrow)
    async with connection.transaction():
        await import_orders.start(ImportOrders("oslo"), connection=connection, at=tomorrow)
    jobs = await import_orders.start_many([ImportOrders(shop) for shop in ("a", "b")], at=tomorrow)
    assert [job.metadata.shop for job in jobs] == ["a", "b"]
    async for batch in import_orders.start_batches((ImportOrders(shop) for shop in ("c", "d")), at=tomorrow):
        assert [job.metadata.shop for job in batch] == ["c", "d"]
    why: object = None
    try:
        await (await import_orders.start(ImportOrders("closed"))).result(timeout=30)
    except JobFailed as failed:
        why = failed.error
    assert why == ShopClosed("noon")

    assert await (await ImportOrdersTask.start(ImportOrders("riga"))).result(timeout=30) == Imported(4)
    threaded = app.blocking.start(import_in_a_thread, ImportOrders("riga"))
    assert await threaded.result(timeout=30) == Imported(4)


async def steer(until: Until) -> None:
    job = await approve.start(Order(17))
    await until(job, JobState.SUSPENDED)
    match await app.proceed(JobQuery(names=["orders.approve"], metadata={"order": 17})):
        case Proceeded(found):
            assert found.id == job.id
        case JobNotFound() | MultipleJobsFound() | NotSuspended() | ModificationFailed() as other:
            raise AssertionError(other)
    match await approve.send(job.id, Approved(by="ann")):
        case Sent(job_id):
            assert job_id == job.id
        case JobNotFound() | JobEnded() as unsent:
            raise AssertionError(unsent)
    assert (await job.result(timeout=30)).startswith("17 by ann")
    assert isinstance(await approve.send(job.id, Rejected(by="bob")), JobEnded)
    assert isinstance(await app.cancel(job.id), JobEnded)
    assert isinstance(await approve.proceed(job.id), NotSuspended)

    rejected = await approve.start(Order(18))
    assert isinstance(await app.retry(rejected.id), NotFinal)
    await approve.send(rejected.id, Rejected(by="bob"))
    why: object = None
    try:
        await rejected.result(timeout=30)
    except JobCancelled as cancelled:
        why = cancelled.error
    assert why == "bob"
    assert isinstance(await app.retry(rejected.id, afresh=True), Retried)
    await until(rejected, JobState.SUSPENDED)
    assert isinstance(await app.cancel(rejected.id), CancelRequested)


async def fulfil(until: Until) -> None:
    job = await Fulfil.start(Order(17))
    await until(job, JobState.SUSPENDED)
    assert job.execution_metadata.state == AwaitingPayment("invoice 17")
    match await Fulfil.proceed(job.id, pay):
        case Proceeded(paid):
            assert_type(paid.execution_metadata, MachineState[States])
        case JobNotFound() | MultipleJobsFound() | NotSuspended() | ModificationFailed() as other:
            raise AssertionError(other)
    assert await job.result(timeout=30) == Receipt(17)


async def look(long_ago: datetime) -> list[int]:
    query = JobQuery(
        states=[JobState.COMPLETED],
        names=["orders.import", "orders.fulfil"],
        metadata={"shop": "riga"},
        execution_metadata={"rows": 6},
        created_after=long_ago,
        max_scheduled_at=datetime.now(UTC),
        page_size=100,
        order="descending",
    )
    return [job.id async for job in app.jobs(query)]
