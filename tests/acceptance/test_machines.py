"""State machines as applications use them, on a real worker and a real database; and killed between transitions."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast

import pytest
import pytest_asyncio

from perdure import (
    App,
    Cancelled,
    Completed,
    Context,
    Failed,
    Job,
    JobCancelled,
    JobFailed,
    JobState,
    MachineState,
    Proceeded,
    Raised,
    StateMachine,
    Suspended,
    on,
)
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.processes import Processes

SCRIPT = str(Path(__file__).with_name("machine_app.py"))


@dataclass
class Order:
    id: int


@dataclass
class Placed: ...


@dataclass
class AwaitingPayment:
    invoice: str


@dataclass
class Paid:
    by: str


@dataclass
class Receipt:
    number: int


@dataclass
class Rejection:
    why: str


States = Placed | AwaitingPayment | Paid
Ctx = Context[Order, MachineState[States]]


class Fulfilment(StateMachine[Order, States, Receipt, Rejection]):
    """The machine of the documentation, whose handlers the tests override."""

    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment]:
        return Suspended(state=AwaitingPayment(f"invoice {ctx.metadata.id}"))

    @on(AwaitingPayment)
    async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid | Suspended:
        return Paid(state.invoice) if ctx.attempt > 1 else Suspended()

    @on(Paid)
    async def paid(self, state: Paid, ctx: Ctx) -> Completed[Receipt]:
        return Completed(Receipt(ctx.metadata.id))


@pytest_asyncio.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    app = App(
        migrated_database,
        scheduling={"scheduler_retry_count": 0, "scheduler_retry_delays": [0], "polling_delay": 0.2},
        execution={"shutdown_grace": 0.2, "cancel_grace": 0.2},
    )
    async with app:
        yield app


async def settled(job: Job[Any, Any, Any, Any], state: JobState) -> None:
    await job_until(job, lambda job: job.state is state)


async def raised_by(job: Job[Any, Any, Any, Any]) -> Raised:
    """Wait until the job has failed by a raise."""
    with pytest.raises(JobFailed):
        await job.result(timeout=10)
    await job.refresh()
    assert isinstance(job.error, Raised)
    return job.error


async def test_a_machine_goes_from_state_to_state_and_waits_where_it_says(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment): ...

    job = await Fulfil.start(Order(17))
    assert job.execution_metadata == MachineState(Placed())
    async with app.worker():
        await settled(job, JobState.SUSPENDED)
        assert job.execution_metadata == MachineState(AwaitingPayment("invoice 17"))
        assert isinstance(await Fulfil.proceed(job.id), Proceeded)
        assert await job.result(timeout=10) == Receipt(17)
    await job.refresh()
    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
    assert job.execution_metadata == MachineState(Paid("invoice 17"))


async def test_a_machine_begins_in_the_state_that_start_gives_it(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment): ...

    jobs = await Fulfil.start_many([Order(1), Order(2)], MachineState(Paid("ann")))
    async with app.worker():
        assert [await job.result(timeout=10) for job in jobs] == [Receipt(1), Receipt(2)]
    for job in jobs:
        assert (await job.refresh()).attempt == 1


async def test_an_instance_is_made_for_every_attempt_by_the_resolver(app: App) -> None:
    class Resolved(Fulfilment):
        def __init__(self, name: str) -> None:
            self.name = name

        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> Paid | Suspended[AwaitingPayment]:
            return Paid(self.name)

    class Derived(Resolved): ...

    app.task("orders.fulfil")(Resolved)
    app.resolver = lambda cls: Derived(f"made for {cls.__name__}")
    async with app.worker():
        job = await Resolved.start(Order(1))
        await job.result(timeout=10)
    assert (await job.refresh()).execution_metadata == MachineState(Paid("made for Resolved"))


async def test_outcomes_carry_the_state_to_be_in(app: App) -> None:
    class Ends(Fulfilment):
        @on(Placed)
        async def place(
            self, state: Placed, ctx: Ctx
        ) -> Completed[Receipt] | Cancelled[Rejection] | Failed[Rejection] | Suspended[Placed | Paid]:
            ended = Paid(f"attempt {ctx.attempt}")
            match ctx.metadata.id:
                case 1:
                    return Completed(Receipt(1), state=ended)
                case 2:
                    return Failed(Rejection("no"), retry=False, state=ended)
                case 3:
                    return Cancelled(Rejection("no"), state=ended)
                case _:
                    return Suspended(until=timedelta(hours=1), state=ended)

    @app.task("orders.ends")
    class Ending(Ends): ...

    async with app.worker():
        jobs = await Ending.start_many([Order(number) for number in (1, 2, 3, 4)])
        assert await jobs[0].result(timeout=10) == Receipt(1)
        with pytest.raises(JobFailed):
            await jobs[1].result(timeout=10)
        with pytest.raises(JobCancelled):
            await jobs[2].result(timeout=10)
        await settled(jobs[3], JobState.SUSPENDED)
    for job in jobs:
        assert (await job.refresh()).execution_metadata == MachineState(Paid("attempt 1"))
    assert jobs[1].error == jobs[2].error == Rejection("no")


async def test_a_failure_with_a_state_is_tried_again_from_that_state(app: App) -> None:
    @app.task("orders.fulfil", max_retry_count=1)
    class Fulfil(Fulfilment):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> Failed[Rejection]:
            return Failed(Rejection("by card"), state=Paid("transfer"))

    async with app.worker():
        job = await Fulfil.start(Order(1))
        assert await job.result(timeout=10) == Receipt(1)
    await job.refresh()
    assert (job.attempt, job.execution_metadata) == (2, MachineState(Paid("transfer")))


async def test_what_a_handler_changes_beside_the_state_is_persisted_with_the_transition(app: App) -> None:
    @dataclass
    class Counting(MachineState[Placed | Paid]):
        count: int = 0

    @app.task("orders.count")
    class Count(StateMachine[None, Placed | Paid, int, Never]):
        initial = Placed()

        @on(Placed)
        async def place(self, state: Placed, ctx: Context[None, Counting]) -> Paid:
            ctx.execution_metadata.count += 1
            return Paid("x")

        @on(Paid)
        async def paid(self, state: Paid, ctx: Context[None, Counting]) -> Completed[int]:
            if ctx.attempt == 1:
                ctx.execution_metadata.count += 1
                message = "after the transition"
                raise ValueError(message)
            return Completed(ctx.execution_metadata.count)

    async with app.worker():
        job = await Count.start()
        error = await raised_by(job)
        assert error.message == "after the transition"
        assert job.execution_metadata == Counting(Paid("x"), 1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            Receipt(1),
            (
                "task 'orders.fulfil': Fulfil.paid returned Receipt(number=1), which is no state of Fulfil "
                "(Placed | AwaitingPayment | Paid); a result is returned as Completed(result)"
            ),
        ),
        (None, "task 'orders.fulfil': Fulfil.paid returned None, which is no state of Fulfil"),
        (
            Placed(),
            (
                "task 'orders.fulfil': Fulfil.paid returned Placed(), and by its annotation it returns "
                "Completed[Receipt] | Suspended[AwaitingPayment]"
            ),
        ),
        (
            Suspended(state=Paid("again")),
            "task 'orders.fulfil': Fulfil.paid returned Suspended(until=None, state=Paid(by='again')), and by its",
        ),
        (
            Completed(Receipt(1), state=Order(1)),
            "task 'orders.fulfil': Fulfil.paid returned Completed(state=Order(id=1)), which is no state of Fulfil",
        ),
        (
            Failed(Rejection("no")),
            "task 'orders.fulfil': Fulfil.paid returned Failed(error=Rejection(why='no'), ",
        ),
    ],
)
async def test_what_the_annotation_doesnt_allow_raises_and_the_state_stays_as_persisted(
    app: App, returned: Any, message: str
) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> Paid:
            return Paid("ann")

        @on(Paid)
        async def paid(self, state: Paid, ctx: Ctx) -> Completed[Receipt] | Suspended[AwaitingPayment]:
            state.by = "changed, and never persisted"
            return cast("Completed[Receipt]", returned)

    async with app.worker():
        job = await Fulfil.start(Order(1))
        error = await raised_by(job)
    assert error.type == "perdure.errors.MisuseError"
    assert error.message.startswith(message)
    assert job.execution_metadata == MachineState(Paid("ann"))


async def test_a_state_that_is_none_of_the_machines_isnt_handled(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> Suspended:
            ctx.execution_metadata.state = cast("Any", Receipt(1))
            return Suspended()

    async with app.worker():
        job = await Fulfil.start(Order(1))
        error = await raised_by(job)
    assert error.type == "perdure.errors.PayloadRefused"
    assert job.execution_metadata == MachineState(Placed())


@pytest.mark.parametrize(
    "outcome", [Suspended(state=Placed()), Completed(1, state=Placed()), Failed("no", state=Placed())]
)
async def test_a_state_in_an_outcome_of_a_task_that_is_no_machine_is_a_clear_error(app: App, outcome: Any) -> None:
    @app.task("plain")
    async def plain(ctx: Context[None, None]) -> int | Suspended | Failed[str]:
        return cast("int", outcome)

    async with app.worker():
        error = await raised_by(await plain.start())
    assert error.type == "perdure.errors.MisuseError"
    assert error.message == (
        f"task 'plain' returned {type(outcome).__name__}(…, state=Placed()), but only a StateMachine has states: keep "
        "it in the execution metadata"
    )


async def test_a_stop_keeps_the_state_that_it_stopped_in(app: App) -> None:
    handling = asyncio.Event()

    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> AwaitingPayment:
            return AwaitingPayment("x")

        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid:
            if ctx.attempt == 1:
                state.invoice = "half written"
                handling.set()
                await asyncio.Event().wait()
            return Paid(state.invoice)

    job = await Fulfil.start(Order(1))
    async with app.worker():
        await asyncio.wait_for(handling.wait(), 10)
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.PENDING, MachineState(AwaitingPayment("half written")))
    async with app.worker():
        assert await job.result(timeout=10) == Receipt(1)
    assert (await job.refresh()).execution_metadata == MachineState(Paid("half written"))


async def test_a_transaction_that_is_rolled_back_puts_the_handlers_own_state_back(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment):
        initial = AwaitingPayment("1")

        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Suspended:
            with contextlib.suppress(ValueError):
                async with ctx.transaction():
                    state.invoice += " rolled back"
                    raise ValueError
            assert ctx.execution_metadata.state is state
            async with ctx.transaction():
                state.invoice += " committed"
            state.invoice += " suspended"
            return Suspended()

    async with app.worker():
        job = await Fulfil.start(Order(1))
        await settled(job, JobState.SUSPENDED)
    assert job.execution_metadata == MachineState(AwaitingPayment("1 committed suspended"))


async def test_a_machine_that_isnt_a_task_cant_be_run(app: App) -> None:
    class Unregistered(Fulfilment): ...

    from perdure.errors import MisuseError  # noqa: PLC0415

    with pytest.raises(MisuseError, match=r"Unregistered is no task: decorate it with @app\.task"):
        await Unregistered.start(Order(1))
    with pytest.raises(MisuseError, match="Unregistered is no task"):
        await Unregistered().execute(cast("Any", None))


async def test_killed_between_transitions_it_goes_on_from_the_state_it_was_in(
    app: App, migrated_database: str, processes: Processes
) -> None:
    from tests.acceptance.machine_app import Packed, Parcels, Shipped  # noqa: PLC0415

    app.task("parcels")(type("Parcels2", (Parcels,), {}))
    job = await app.tasks["parcels"].start(None)
    assert job.execution_metadata == MachineState(Packed(1))
    first = processes.python(SCRIPT, env={"TEST_DSN": migrated_database})
    await first.line(r"attempt 1 handles Packed\(parcels=1\)")
    await first.line(r"attempt 1 handles Shipped\(parcels=2\)")
    assert (await job.refresh()).execution_metadata == MachineState(Shipped(2))
    first.kill()
    second = processes.python(SCRIPT, env={"TEST_DSN": migrated_database})
    await second.line(r"attempt 2 handles Shipped\(parcels=2\)")
    assert await job.result(timeout=15) == 3
    assert "Packed" not in second.output
    second.terminate()
    assert await second.end() == 0
