"""A state machine as the documentation has it, for tests to run and to derive from."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from perdure import Completed, Context, Job, JobFailed, MachineState, Raised, StateMachine, Suspended, on

__all__ = [
    "AwaitingPayment",
    "Ctx",
    "Fulfilment",
    "Order",
    "Paid",
    "Placed",
    "Receipt",
    "Rejection",
    "States",
    "raised_by",
]


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


async def raised_by(job: Job[Any, Any, Any, Any]) -> Raised:
    """Wait until the job has failed by a raise."""
    with pytest.raises(JobFailed):
        await job.result(timeout=10)
    await job.refresh()
    assert isinstance(job.error, Raised)
    return job.error
