"""A state machine is a task, whose execution metadata is the state that the job is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Never

import msgspec
import pytest

from perdure import App, Completed, Context, MachineState, StateMachine, Suspended, Tag, on
from perdure.classes import task_of
from perdure.errors import PayloadRefused
from tests.unit.machine_samples import (
    AwaitingPayment,
    Counted,
    Ctx,
    Lost,
    Named,
    Order,
    Paid,
    Placed,
    Receipt,
    Rejection,
    States,
    Whole,
)


def test_a_machine_is_a_task_whose_execution_metadata_is_the_state(app: App) -> None:
    class Fulfil(Whole): ...

    assert app.task("orders.fulfil")(Fulfil) is Fulfil
    task = app.tasks["orders.fulfil"]
    assert task_of(Fulfil) is task
    assert task.is_async
    stored = task.execution_metadata.encode(MachineState(AwaitingPayment("x")), what="it", limit=None)
    assert stored == b'{"state":{"type":"AwaitingPayment","invoice":"x"}}'
    assert task.execution_metadata.decode(stored, what="it") == MachineState(AwaitingPayment("x"))
    assert task.metadata.decode(b'{"id":17}', what="it") == Order(17)
    assert task.result.decode(b'{"number":1}', what="it") == Receipt(1)
    assert task.error.decode(b'{"why":"x"}', what="it") == Rejection("x")


def test_each_job_begins_in_an_initial_state_of_its_own(app: App) -> None:
    class Fulfil(Whole): ...

    app.task("orders.fulfil")(Fulfil)
    codec = app.tasks["orders.fulfil"].execution_metadata
    first, second = codec.default(), codec.default()
    assert first == second == MachineState(Placed())
    first.state.notes.append("changed")
    assert second.state == Placed() == Fulfil.initial


def test_the_context_says_what_the_execution_metadata_holds_beside_the_state(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(StateMachine[Order, States, Receipt, Never]):
        initial = Placed()

        @on(Placed)
        async def place(self, state: Placed, ctx: Context[Order, Counted]) -> Paid: ...
        @on(AwaitingPayment)
        async def payment(self, state: Any, ctx: Any) -> Paid: ...
        @on(Paid)
        async def paid(self, state: object, ctx: Context[Order, Counted]) -> Completed[Receipt]: ...

    assert app.tasks["orders.fulfil"].execution_metadata.default() == Counted(Placed(), 0)


def test_a_field_beside_the_state_without_a_default_needs_an_instance_at_the_start(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Whole):
        @on(Placed)
        async def place(self, state: Placed, ctx: Context[Order, Named]) -> Paid: ...
        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Context[Order, Named]) -> Paid: ...
        @on(Paid)
        async def paid(self, state: Paid, ctx: Context[Order, Named]) -> Completed[Receipt]: ...

    with pytest.raises(PayloadRefused) as refusal:
        app.tasks["orders.fulfil"].execution_metadata.default()
    assert str(refusal.value) == (
        "Named has no default, since its field 'name' has none: start the job with one, or give the field a default"
    )


def test_without_an_initial_state_the_start_has_to_give_one(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(StateMachine[Order, Lost, None, Never]):
        @on(Lost)
        async def lost(self, state: Lost, ctx: Context[Order, MachineState[Lost]]) -> Completed[None]: ...

    with pytest.raises(PayloadRefused) as refusal:
        app.tasks["orders.fulfil"].execution_metadata.default()
    assert str(refusal.value) == (
        "the machine Fulfil has no initial state: give it one (initial = …), or start the job with a MachineState"
    )


def test_handlers_are_inherited_and_overridden(app: App) -> None:
    @app.task("orders.fulfil")
    class Fulfil(Whole):
        @on(Paid)
        async def paid(self, state: Paid, ctx: Ctx) -> Completed[Receipt] | Suspended: ...

    machine = app.tasks["orders.fulfil"].machine
    assert machine is not None
    assert [handler.method for handler in machine.handlers.values()] == ["place", "payment", "paid"]
    assert [handler.repeatable for handler in machine.handlers.values()] == [False, True, False]
    assert machine.handlers[Paid].suspends


def test_states_may_be_structs_and_carry_tags(app: App) -> None:
    class Polling(msgspec.Struct):
        url: str

    @Tag("gone")
    @dataclass
    class Lost2: ...

    @app.task("orders.fulfil")
    class Fulfil(StateMachine[None, Polling | Annotated[Lost2, Tag("lost")], None, Never]):
        initial = Polling("x")

        @on(Polling)
        async def polling(self, state: Polling, ctx: Any) -> Lost2: ...
        @on(Lost2)
        async def lost(self, state: Lost2, ctx: Any) -> Completed[None]: ...

    codec = app.tasks["orders.fulfil"].execution_metadata
    assert codec.encode(codec.default(), what="it", limit=None) == b'{"state":{"type":"Polling","url":"x"}}'
    assert codec.encode(MachineState(Lost2()), what="it", limit=None) == b'{"state":{"type":"lost"}}'
