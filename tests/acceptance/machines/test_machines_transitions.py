"""State machines as applications use them, on a real worker: from state to state, until one ends or suspends."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Never

import pytest

from perdure import (
    App,
    Cancelled,
    Completed,
    Context,
    Failed,
    JobCancelled,
    JobFailed,
    JobState,
    MachineState,
    Proceeded,
    StateMachine,
    Suspended,
    on,
)
from tests.support.jobs import is_in
from tests.support.machines import AwaitingPayment, Ctx, Fulfilment, Order, Paid, Placed, Receipt, Rejection, raised_by


async def test_a_machine_goes_from_state_to_state_and_waits_where_it_says(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Fulfilment): ...

    job = await Fulfil.start(Order(17))
    assert job.execution_metadata == MachineState(Placed())
    async with app.worker():
        await is_in(job, JobState.SUSPENDED)
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
        await is_in(jobs[3], JobState.SUSPENDED)
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
