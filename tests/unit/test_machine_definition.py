"""A state machine is refused where it is defined: with the task, the class, and the state or handler named."""
# ruff: noqa: ARG002 - a handler has its parameters, whether it needs them or not

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Never, TypedDict, TypeVar

import msgspec
import pytest

import perdure.blocking
from perdure import (
    App,
    BackgroundTask,
    Cancelled,
    Completed,
    Context,
    Failed,
    MachineState,
    StateMachine,
    Suspended,
    Tag,
    on,
)
from perdure.errors import DefinitionError, PayloadRefused
from perdure.outcome import Outcome  # noqa: TC001 - an annotation is evaluated
from perdure.task import task_of

S = TypeVar("S")


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


class Connection:
    def __init__(self, host: str) -> None: ...


class Table(TypedDict):
    rows: int


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
    """What the refused ones below are derived from, or what they should look like."""

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


@pytest.fixture
def app() -> App:
    return App("postgresql:///nobody-connects")


def refused(app: App, machine: Any) -> str:
    with pytest.raises(DefinitionError) as refusal:
        app.task("orders.fulfil")(machine)
    assert "orders.fulfil" not in app.tasks
    message = str(refusal.value)
    assert message.startswith("task 'orders.fulfil': ")
    assert machine.__name__ in message
    return message.removeprefix("task 'orders.fulfil': ")


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
