"""A machine's graph: what its handlers' annotations say that may follow what; as Mermaid, and as DOT for Graphviz.

Draws nothing itself: `perdure graph` calls Graphviz.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from perdure.classes import task_of
from perdure.errors import MisuseError
from perdure.machine.handlers import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perdure.machine.plan import Handler

__all__ = ["Edge", "EdgeKind", "Graph", "graph"]

# What Mermaid would read as a word of its language, whatever its case.
_WORDS_OF_MERMAID: Final = frozenset(
    {
        *("acctitle", "accdescr", "as", "choice", "class", "classdef", "click", "default", "direction", "end", "fork"),
        *("hide", "href", "join", "left", "note", "right", "scale", "state", "statediagram", "style", "title"),
    }
)


class EdgeKind(StrEnum):
    """How a state is left."""

    START = "start"
    NEXT = "next"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Edge:
    """What may follow a state.

    Attributes:
        source: The state; None for the job's start.
        target: What follows it; None for the job's end.
        kind: How: the state is returned, the job suspended in it, or ended.
        detail: The type of the result or error; empty where there is none.
    """

    source: str | None
    target: str | None
    kind: EdgeKind
    detail: str = ""

    @property
    def label(self) -> str:
        """What is written beside it; nothing where the next state is simply returned."""
        if self.kind in (EdgeKind.START, EdgeKind.NEXT):
            return ""
        return f"{self.kind.value} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Graph:
    """A machine's graph.

    Attributes:
        name: The task's name.
        states: The states, in the order of their union.
        edges: What may follow what: the start first, then each state's in the order of its annotation.
    """

    name: str
    states: tuple[str, ...]
    edges: tuple[Edge, ...]

    def mermaid(self) -> str:
        """Write it as a `stateDiagram-v2` of Mermaid, which GitHub and many others draw."""
        ids = {state: _mermaid_id(state) for state in self.states}
        lines = ["---", f"title: {_yaml(self.name)}", "---", "stateDiagram-v2"]
        linked = {edge.source for edge in self.edges} | {edge.target for edge in self.edges}
        for state in self.states:
            if ids[state] != state:
                lines.append(f'    state "{state}" as {ids[state]}')
            elif state not in linked:
                lines.append(f"    {state}")
        for edge in self.edges:
            source = "[*]" if edge.source is None else ids[edge.source]
            target = "[*]" if edge.target is None else ids[edge.target]
            lines.append(f"    {source} --> {target}" + (f" : {_mermaid_text(edge.label)}" if edge.label else ""))
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        """Write it in DOT, the language of Graphviz."""
        lines = [
            f"digraph {_quoted(self.name)} {{",
            f"    label={_quoted(self.name)}; labelloc=t; rankdir=TB; fontname=Helvetica;",
            '    node [shape=box, style="rounded,filled", fillcolor="#eef3fa", color="#54698a", fontname=Helvetica];',
            '    edge [color="#54698a", fontname=Helvetica, fontsize=10];',
        ]
        lines += [f"    {_quoted(state)};" for state in self.states]
        if any(edge.source is None for edge in self.edges):
            lines.append('    "(start)" [shape=circle, label="", width=0.18, fillcolor="#54698a"];')
        if any(edge.target is None for edge in self.edges):
            lines.append('    "(end)" [shape=doublecircle, label="", width=0.14, fillcolor="#54698a"];')
        for edge in self.edges:
            source = _quoted("(start)" if edge.source is None else edge.source)
            target = _quoted("(end)" if edge.target is None else edge.target)
            line = "dashed" if edge.kind is EdgeKind.SUSPENDED else "solid"
            lines.append(
                f"    {source} -> {target} [label={_quoted(f' {edge.label} ' if edge.label else '')}, style={line}];"
            )
        return "\n".join([*lines, "}"]) + "\n"


def graph(task: object) -> Graph:
    """Read the graph of a machine off its handlers' annotations.

    Args:
        task: The machine's class, or its definition (`app.tasks["orders.fulfil"]`).

    Raises:
        MisuseError: It is no task, or no state machine.
    """
    definition = task_of(task)
    machine = definition.machine
    if machine is None:
        message = f"the task {definition.name!r} is no StateMachine, so it has no graph"
        raise MisuseError(message)
    names = _names(machine.handlers)
    edges: list[Edge] = []
    if machine.initial is not None:
        edges.append(Edge(None, names[machine.initial], EdgeKind.START))
    for handler in machine.handlers.values():
        edges += _edges(handler, names)
    return Graph(definition.name, tuple(names.values()), tuple(dict.fromkeys(edges)))


def _edges(handler: Handler, names: dict[type, str]) -> Iterator[Edge]:
    source = names[handler.state]
    for state in handler.moves:
        yield Edge(source, names[state], EdgeKind.NEXT)
    for state in (*((handler.state,) if handler.suspends else ()), *handler.waits):
        yield Edge(source, names[state], EdgeKind.SUSPENDED)
    ends: tuple[tuple[EdgeKind, tuple[Any, ...]], ...] = (
        (EdgeKind.COMPLETED, handler.results),
        (EdgeKind.FAILED, handler.failures),
        (EdgeKind.CANCELLED, handler.cancels),
    )
    for kind, payloads in ends:
        if payloads:
            yield Edge(source, None, kind, " | ".join(map(show, payloads)))


def _names(states: Iterable[type]) -> dict[type, str]:
    """Name the states; of those that share a name, all but the first get a number."""
    names: dict[type, str] = {}
    count = Counter[str]()
    for state in states:
        name = state.__name__
        count[name] += 1
        names[state] = name if count[name] == 1 else f"{name}_{count[name]}"
    return names


def _mermaid_id(state: str) -> str:
    if state.isidentifier() and state.isascii() and state.lower() not in _WORDS_OF_MERMAID:
        return state
    return "".join(each if each.isalnum() and each.isascii() else f"_{ord(each):x}" for each in state) + "_"


def _mermaid_text(text: str) -> str:
    # Mermaid's own way to write what may be a part of its language.
    return "".join(each if each.isalnum() or each in " ._|," else f"#{ord(each)};" for each in text)


def _yaml(text: str) -> str:
    return text if all(each.isalnum() or each in "._-" for each in text) else '"' + _escaped(text) + '"'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
