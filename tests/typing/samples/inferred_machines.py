"""What type checkers read off the handlers of state machines. Never run: both must accept every line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Never, assert_type

from perdure import Cancelled, Completed, Context, Failed, MachineState, StateMachine, Suspended, on
from tests.typing.samples.inferred_tasks import Imported, Meta, ShopClosed, app


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
