"""The graph of a machine is what its annotations say, in Mermaid and in DOT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Never

import pytest

from perdure import App, Cancelled, Completed, Context, Failed, StateMachine, Suspended, Tag, on
from perdure.errors import MisuseError
from perdure.machine import Edge, EdgeKind, Graph, graph


@dataclass
class Placed: ...


@dataclass
class Paid: ...


@dataclass
class State: ...


States = Placed | Paid | State
paid_here = Paid


def everything(app: App) -> Any:
    @app.task("orders: all")
    class All(StateMachine[None, States, int | Literal["none"], str | list[int]]):
        initial = Placed()

        @on(Paid)
        async def paid(
            self, state: Paid, ctx: Any
        ) -> Completed[int] | Completed[Literal["none"]] | Failed[str] | Cancelled[str | list[int]]: ...
        @on(Placed)
        async def place(
            self, state: Placed, ctx: Any
        ) -> Paid | State | Suspended | Suspended[Paid | State] | Suspended[State]: ...
        @on(State)
        async def end(self, state: State, ctx: Any) -> Never: ...

    return All


def test_the_edges_are_those_of_the_annotations(app: App) -> None:
    found = graph(everything(app))
    assert found == graph(app.tasks["orders: all"])
    assert found.name == "orders: all"
    assert found.states == ("Placed", "Paid", "State")
    assert found.edges == (
        Edge(None, "Placed", EdgeKind.START),
        Edge("Placed", "Paid", EdgeKind.NEXT),
        Edge("Placed", "State", EdgeKind.NEXT),
        Edge("Placed", "Placed", EdgeKind.SUSPENDED),
        Edge("Placed", "Paid", EdgeKind.SUSPENDED),
        Edge("Placed", "State", EdgeKind.SUSPENDED),
        Edge("Paid", None, EdgeKind.COMPLETED, "int | Literal['none']"),
        Edge("Paid", None, EdgeKind.FAILED, "str"),
        Edge("Paid", None, EdgeKind.CANCELLED, "str | list[int]"),
    )


def test_mermaid_escapes_what_it_would_read_as_its_own(app: App) -> None:
    assert graph(everything(app)).mermaid() == (
        "---\n"
        'title: "orders: all"\n'
        "---\n"
        "stateDiagram-v2\n"
        '    state "State" as State_\n'
        "    [*] --> Placed\n"
        "    Placed --> Paid\n"
        "    Placed --> State_\n"
        "    Placed --> Placed : suspended\n"
        "    Placed --> Paid : suspended\n"
        "    Placed --> State_ : suspended\n"
        "    Paid --> [*] : completed int | Literal#91;#39;none#39;#93;\n"
        "    Paid --> [*] : failed str\n"
        "    Paid --> [*] : cancelled str | list#91;int#93;\n"
    )


def test_a_state_that_nothing_leads_to_is_drawn_all_the_same() -> None:
    assert Graph("lonely", ("Placed",), ()).mermaid().endswith("stateDiagram-v2\n    Placed\n")


def test_a_machine_without_an_initial_state_has_no_start(app: App) -> None:
    @app.task("open")
    class Open(StateMachine[None, Placed, None, Never]):
        @on(Placed)
        async def place(self, state: Placed, ctx: Any) -> Completed[None]: ...

    assert graph(Open).edges == (Edge("Placed", None, EdgeKind.COMPLETED, "None"),)


def test_states_of_the_same_name_are_told_apart(app: App) -> None:
    @Tag("another")
    @dataclass
    class Paid: ...

    @app.task("twice")
    class Twice(StateMachine[None, Paid | paid_here, None, Never]):  # type: ignore[valid-type]
        @on(Paid)
        async def mine(self, state: Any, ctx: Any) -> Paid: ...
        @on(paid_here)
        async def theirs(self, state: Any, ctx: Any) -> Completed[None]: ...

    assert graph(Twice).states == ("Paid", "Paid_2")
    assert graph(Twice).edges == (
        Edge("Paid", "Paid", EdgeKind.NEXT),
        Edge("Paid_2", None, EdgeKind.COMPLETED, "None"),
    )


def test_dot_quotes_what_is_not_its_own() -> None:
    dot = Graph('a "b" \\', ("Placed",), (Edge("Placed", None, EdgeKind.FAILED, 'Literal["x"]'),)).dot()
    assert dot.startswith('digraph "a \\"b\\" \\\\" {\n')
    assert '"Placed" -> "(end)" [label=" failed Literal[\\"x\\"] ", style=solid];' in dot
    assert '"(start)"' not in dot


def test_only_machines_have_a_graph(app: App) -> None:
    @app.task("plain")
    async def plain(ctx: Context[None, None]) -> None: ...

    class Unregistered(StateMachine[None, Placed, None, Never]): ...

    with pytest.raises(MisuseError, match="the task 'plain' is no StateMachine, so it has no graph"):
        graph(plain)
    with pytest.raises(MisuseError, match=r"Unregistered is no task: decorate it with @app\.task"):
        graph(Unregistered)
