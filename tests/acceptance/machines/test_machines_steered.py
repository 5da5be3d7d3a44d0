"""State machines whose state is changed from outside: by a proceed with a modification, and by events."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Never, cast

from perdure import (
    App,
    Completed,
    Context,
    JobState,
    MachineState,
    ModificationFailed,
    Proceeded,
    Sent,
    StateMachine,
    Suspended,
    WokenBy,
    on,
)
from tests.support.jobs import job_until
from tests.support.machines import AwaitingPayment, Paid, Placed, States


@dataclass
class PaymentCame:
    by: str


Ctx = Context[int, MachineState[States]]


class Fulfilment(StateMachine[int, States, str, Never]):
    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment]:
        return Suspended(state=AwaitingPayment(f"invoice {ctx.metadata}"), until=timedelta(hours=1))

    @on(AwaitingPayment)
    async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid | Suspended | Completed[str]:
        event = await ctx.next_event()
        if isinstance(event, PaymentCame):
            return Paid(event.by)
        if ctx.woken_by is WokenBy.TIME:
            return Completed("too late")
        return Suspended()

    @on(Paid)
    async def paid(self, state: Paid, ctx: Ctx) -> Completed[str]:
        return Completed(f"paid by {state.by}")


async def test_proceed_changes_the_state(app: App) -> None:
    @app.task("orders.fulfil", events=PaymentCame)
    class Fulfil(Fulfilment): ...

    async with app.worker():
        job = await Fulfil.start(17)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        answer = await Fulfil.proceed(job.id, lambda machine: replace(machine, state=Paid("transfer")))
        assert isinstance(answer, Proceeded)
        assert await job.result(timeout=10) == "paid by transfer"
    assert (await job.refresh()).execution_metadata == MachineState(Paid("transfer"))


async def test_proceed_refuses_what_is_no_state(app: App) -> None:
    @app.task("orders.fulfil", events=PaymentCame)
    class Fulfil(Fulfilment): ...

    async with app.worker():
        job = await Fulfil.start(17)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
    answer = await Fulfil.proceed(job.id, lambda machine: replace(machine, state=cast("Any", PaymentCame("x"))))
    assert isinstance(answer, ModificationFailed)
    assert (await job.refresh()).execution_metadata == MachineState(AwaitingPayment("invoice 17"))


async def test_an_event_changes_the_state(app: App) -> None:
    @app.task("orders.fulfil", events=PaymentCame)
    class Fulfil(Fulfilment): ...

    async with app.worker():
        job = await Fulfil.start(17)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED)
        assert isinstance(await Fulfil.send(job.id, PaymentCame(by="card")), Sent)
        assert await job.result(timeout=10) == "paid by card"
