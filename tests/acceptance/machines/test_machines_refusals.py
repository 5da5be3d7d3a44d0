"""What a machine's handler may not return, and what is no machine: clear errors, and the state stays as it was."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from typing import Any, cast

import pytest

from perdure import App, Completed, Context, Failed, MachineState, Suspended, on
from tests.support.machines import AwaitingPayment, Ctx, Fulfilment, Order, Paid, Placed, Receipt, Rejection, raised_by


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


async def test_a_machine_that_isnt_a_task_cant_be_run(app: App) -> None:
    class Unregistered(Fulfilment): ...

    from perdure.errors import MisuseError  # noqa: PLC0415

    with pytest.raises(MisuseError, match=r"Unregistered is no task: decorate it with @app\.task"):
        await Unregistered.start(Order(1))
    with pytest.raises(MisuseError, match="Unregistered is no task"):
        await Unregistered().execute(cast("Any", None))
