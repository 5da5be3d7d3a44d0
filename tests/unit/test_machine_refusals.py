"""A state machine is refused where it is defined: with the task, the class, and the state or handler named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Never, TypedDict, TypeVar

import pytest

import perdure.blocking
from perdure import App, BackgroundTask, Completed, Context, Failed, MachineState, StateMachine, Suspended, Tag, on
from perdure.errors import DefinitionError
from perdure.outcome import Outcome  # noqa: TC001 - an annotation is evaluated
from tests.unit.definitions import refused as refused_task
from tests.unit.machine_samples import (
    AwaitingPayment,
    Ctx,
    Forgotten,
    Half,
    Lost,
    Order,
    Paid,
    Placed,
    Receipt,
    Rejection,
    States,
    Two,
    TwoCtx,
    Whole,
)

S = TypeVar("S")


class Connection:
    def __init__(self, host: str) -> None: ...


class Table(TypedDict):
    rows: int


def refused(app: App, machine: Any) -> str:
    message = refused_task(app, machine, name="orders.fulfil")
    assert message.startswith("task 'orders.fulfil': ")
    assert machine.__name__ in message
    return message.removeprefix("task 'orders.fulfil': ")


def test_a_state_without_a_handler(app: App) -> None:
    class Fulfil(Half): ...

    assert refused(app, Fulfil) == (
        "the machine Fulfil: the state Placed has no handler: write a method with @on(Placed)"
    )


def test_a_handler_without_a_state_in_the_union(app: App) -> None:
    class Fulfil(Whole):
        @on(Lost)
        async def lost(self, state: Lost, ctx: Ctx) -> Completed[Receipt]: ...

    assert refused(app, Fulfil) == (
        "the machine Fulfil: the handler lost is for the state Lost, which isn't among its states: "
        "Placed | AwaitingPayment | Paid"
    )


def test_a_handler_of_what_is_no_class(app: App) -> None:
    class Fulfil(Whole):
        @on("Placed")  # type: ignore[arg-type]
        async def lost(self, state: Lost, ctx: Ctx) -> Completed[Receipt]: ...

    assert "the handler lost is for 'Placed', which isn't among its states" in refused(app, Fulfil)


def test_two_handlers_for_a_state(app: App) -> None:
    class Fulfil(Whole):
        @on(Paid)
        async def paid_too(self, state: Paid, ctx: Ctx) -> Completed[Receipt]: ...

    assert refused(app, Fulfil) == "the machine Fulfil: the state Paid has two handlers: paid and paid_too"


def test_an_annotation_that_returns_a_state_outside_of_the_union(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Paid | Lost: ...

    assert refused(app, Fulfil) == (
        "Fulfil.place: the return annotation has Lost, which is none of its states (Placed | Paid); "
        "a result is Completed[…]"
    )


def test_an_annotation_that_suspends_in_a_state_outside_of_the_union(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Suspended[Paid | Lost]: ...

    assert refused(app, Fulfil) == "Fulfil.place: it suspends in Lost, which is none of its states (Placed | Paid)"


def test_a_result_or_an_error_that_the_class_doesnt_declare(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Completed[Lost]: ...

    class Fulfil2(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Paid | Failed[Rejection]: ...

    class Fulfil3(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Completed: ...  # type: ignore[type-arg]

    class Fulfil4(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> Outcome: ...

    assert refused(app, Fulfil) == (
        "Fulfil.place: it may return the result Lost, but the class is declared with Receipt"
    )
    assert "it may return the error Rejection, but the class is declared with Never" in refused(app, Fulfil2)
    assert "the return annotation has Completed without a type; write Completed[…]" in refused(app, Fulfil3)
    assert "the return annotation has Outcome, no outcome that a task can have" in refused(app, Fulfil4)


def test_a_handler_without_a_return_annotation(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx): ...  # type: ignore[no-untyped-def]  # noqa: ANN202

    assert refused(app, Fulfil) == (
        "Fulfil.place: the return annotation is missing; write what it returns: -> NextState | Completed[Result] | "
        "Suspended[StateToWaitIn]. The machine's graph is read from it"
    )


def test_a_handler_that_returns_none(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: TwoCtx) -> None: ...

    assert "Fulfil.place: the return annotation has None, which is none of its states" in refused(app, Fulfil)


def test_wrong_parameters(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)  # type: ignore[arg-type]
        async def place(self, state: Placed) -> Paid: ...

    class Fulfil2(Half):
        @on(Placed)  # type: ignore[arg-type]
        async def place(self, state: Placed, *, ctx: TwoCtx) -> Paid: ...

    class Fulfil3(Half):
        @on(Placed)  # type: ignore[arg-type]
        async def place(self, state: Paid, ctx: TwoCtx) -> Paid: ...

    class Fulfil4(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: Context[Receipt, MachineState[Two]]) -> Paid: ...

    class Fulfil5(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: MachineState[Two]) -> Paid: ...

    assert refused(app, Fulfil) == (
        "Fulfil.place has the parameters (self, state: 'Placed') -> 'Paid'; a handler takes (self, state, ctx)"
    )
    assert "a handler takes (self, state, ctx)" in refused(app, Fulfil2)
    assert refused(app, Fulfil3) == (
        "Fulfil3.place: parameter 'state' is Paid, but the handler is @on(Placed); write state: Placed"
    )
    assert refused(app, Fulfil4) == (
        "Fulfil4.place: parameter 'ctx' has the metadata Receipt, but the class is declared with Order"
    )
    assert "it must be perdure.Context[Metadata, ExecutionMetadata]" in refused(app, Fulfil5)


def test_a_handler_that_isnt_an_async_method(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)  # type: ignore[arg-type]
        def place(self, state: Placed, ctx: perdure.blocking.Context[Order, Any]) -> Paid: ...

    class Fulfil2(Half):
        @on(Placed)
        @staticmethod
        async def place(self: Any, state: Placed, ctx: TwoCtx) -> Paid: ...  # noqa: PLW0211

    assert refused(app, Fulfil) == "Fulfil.place is a def; a machine's handler is an async def"
    assert "Fulfil2.place is no method, but <staticmethod" in refused(app, Fulfil2)


def test_an_initial_state_of_another_type(app: App) -> None:
    class Fulfil(Whole):
        initial = Lost()  # type: ignore[assignment]

    class Fulfil2(Whole):
        initial = Placed  # type: ignore[assignment]

    class Fulfil3(Whole):
        initial = Paid(datetime(2030, 1, 1, tzinfo=UTC))  # type: ignore[assignment]

    class Fulfil4(Whole):
        initial = AwaitingPayment("\0")  # type: ignore[assignment]

    assert refused(app, Fulfil) == (
        "the machine Fulfil: initial is Lost(), which is none of its states: Placed | AwaitingPayment | Paid"
    )
    assert refused(app, Fulfil2) == ("the machine Fulfil2: initial is the class Placed, not a state: write Placed(…)")
    assert app.task("of another state of its own")(Fulfil3) is Fulfil3
    assert "the machine Fulfil4: initial" in refused(app, Fulfil4)


def test_what_cant_be_a_state(app: App) -> None:
    class Fulfil(StateMachine[Order, Placed | None, Receipt, Never]): ...

    class Fulfil2(StateMachine[Order, Table, Receipt, Never]): ...

    class Fulfil3(StateMachine[Order, list[int], Receipt, Never]): ...

    assert refused(app, Fulfil) == (
        "the machine Fulfil: None can't be a state: a state is a class whose instances tell that they are of it, as "
        "dataclasses, Structs and models do"
    )
    assert "Table can't be a state" in refused(app, Fulfil2)
    assert "the state list has no handler" in refused(app, Fulfil3)


def test_a_state_that_the_union_has_twice(app: App) -> None:
    class Fulfil(StateMachine[Order, Annotated[Lost, Tag("a")] | Annotated[Lost, Tag("b")], Receipt, Never]): ...

    assert refused(app, Fulfil) == "the machine Fulfil: the union has the state Lost twice"


def test_states_that_cant_be_stored(app: App) -> None:
    class Fulfil(StateMachine[Order, Connection, Receipt, Never]):
        @on(Connection)
        async def connected(self, state: Connection, ctx: Any) -> Completed[Receipt]: ...

    message = refused(app, Fulfil)
    assert "the machine Fulfil: states: Connection" in message


def test_contexts_of_other_states_or_of_none(app: App) -> None:
    class Fulfil(Half):
        @on(Placed)
        async def place(self, state: Placed, ctx: Ctx) -> Paid: ...

    class Fulfil2(StateMachine[Order, Lost, Receipt, Never]):
        @on(Lost)
        async def lost(self, state: Lost, ctx: Ctx) -> Completed[Receipt]: ...

    class Fulfil3(StateMachine[Order, Lost, Receipt, Never]):
        @on(Lost)
        async def lost(self, state: Lost, ctx: Context[Order, Lost]) -> Completed[Receipt]: ...

    assert refused(app, Fulfil) == (
        "the machine Fulfil: the contexts of its handlers have different execution metadata: "
        "MachineState[Placed | Paid] in paid, MachineState[Placed | AwaitingPayment | Paid] in place"
    )
    assert refused(app, Fulfil2) == (
        "the machine Fulfil2: the contexts of its handlers have the states Placed | AwaitingPayment | Paid, but the "
        "class is declared with Lost"
    )
    assert refused(app, Fulfil3) == (
        "the machine Fulfil3: the contexts of its handlers have the execution metadata Lost; it must be "
        "MachineState[States], or a class derived from that"
    )


def test_a_machine_state_that_would_lose_its_fields(app: App) -> None:
    class Fulfil(StateMachine[Order, States, Receipt, Never]):
        @on(Placed)
        async def place(self, state: Placed, ctx: Context[Order, Forgotten]) -> Paid: ...
        @on(AwaitingPayment)
        async def payment(self, state: AwaitingPayment, ctx: Context[Order, Forgotten]) -> Paid: ...
        @on(Paid)
        async def paid(self, state: Paid, ctx: Context[Order, Forgotten]) -> Completed[Receipt]: ...

    assert refused(app, Fulfil) == (
        "the machine Fulfil: the field 'count' of Forgotten would be lost: put @dataclass above the class"
    )


def test_a_machine_without_its_types(app: App) -> None:
    class Fulfil(StateMachine): ...  # type: ignore[type-arg]

    class Fulfil2(StateMachine[Order, S, Receipt, Never]): ...

    assert refused(app, Fulfil) == ("derive the class Fulfil from StateMachine[Metadata, States, Result, Error]")
    assert "the class Fulfil2 leaves the type of its states open" in refused(app, Fulfil2)


def test_a_state_to_wait_in_belongs_to_machines(app: App) -> None:
    async def function(ctx: Context[Order, Any]) -> Suspended[Placed]: ...

    class Fulfil(BackgroundTask[Order, None, Receipt, Never]):
        async def execute(self, ctx: Context[Order, None]) -> Suspended[Placed]: ...

    with pytest.raises(DefinitionError, match=r"has .*Suspended.*Placed.*only a StateMachine has states to wait in"):
        app.task("orders.fulfil")(function)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="only a StateMachine has states to wait in; write Suspended"):
        app.task("orders.fulfil")(Fulfil)
