"""Machines that are well defined, or nearly, for tests to derive others from."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - a state's annotation is evaluated
from typing import Never

from perdure import Cancelled, Completed, Context, Failed, MachineState, StateMachine, Suspended, on


@dataclass
class Order:
    id: int


@dataclass
class Placed:
    notes: list[str] = field(default_factory=list)


@dataclass
class AwaitingPayment:
    invoice: str


@dataclass
class Paid:
    at: datetime


@dataclass
class Lost: ...


@dataclass
class Receipt:
    number: int


@dataclass
class Rejection:
    why: str


States = Placed | AwaitingPayment | Paid
Ctx = Context[Order, MachineState[States]]
Two = Placed | Paid
TwoCtx = Context[Order, MachineState[Two]]


@dataclass
class Counted(MachineState[States]):
    count: int = 0


@dataclass
class Named(MachineState[States]):
    name: str


class Forgotten(MachineState[States]):
    count: int = 0


class Whole(StateMachine[Order, States, Receipt, Rejection]):
    """What refused ones are derived from, or what they should look like."""

    initial = Placed()

    @on(Placed)
    async def place(self, state: Placed, ctx: Ctx) -> Suspended[AwaitingPayment] | Cancelled[Rejection]:
        return Suspended(state=AwaitingPayment("x"))

    @on(AwaitingPayment, repeatable=True)
    async def payment(self, state: AwaitingPayment, ctx: Ctx) -> Paid | Suspended | Failed[Rejection]:
        return Suspended()

    @on(Paid)
    async def paid(self, state: Paid, ctx: Ctx) -> Completed[Receipt]:
        return Completed(Receipt(1))


class Half(StateMachine[Order, Two, Receipt, Never]):
    """Lacks the handler of `Placed`."""

    initial = Placed()

    @on(Paid)
    async def paid(self, state: Paid, ctx: TwoCtx) -> Completed[Receipt]:
        return Completed(Receipt(1))
