"""Makes for each type a twin that msgspec can do by itself, and the way there and back.

msgspec knows neither unions of dataclasses nor pydantic models. Where a type has any of these
inside, its classes get twins: Structs with the same keys, tagged where they are members of a union. A value is lowered
to its twin and encoded; JSON is decoded to the twin and lifted. Most types are their own twins, and neither is done.
"""

from __future__ import annotations

import functools
from datetime import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from perdure.core.codec import choices, containers, structs
from perdure.core.codec.nodes import (
    Array,
    Branch,
    Choice,
    Leaf,
    Model,
    Node,
    Record,
    Row,
    Table,
    Writer,
)
from perdure.core.codec.twin import Raw, Twin, encode, reader_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Weaver", "parts_of"]


_Where = tuple[Node, str | None, str | int | None]  # a class, and the key and tag that it has there


class Weaver:
    """Makes the twins of one type and of its parts."""

    def __init__(self) -> None:
        self._native: dict[Node, bool] = {}
        self._records: dict[_Where, Twin | None] = {}

    def twin(self, node: Node) -> Twin:
        """Make the twin of a type."""
        if self._is_native(node):
            return Twin(node.annotation)
        found = self._weave(node)
        return found.limited(Annotated[(found.type, *node.meta)]) if node.meta else found

    def _weave(self, node: Node) -> Twin:
        match node:
            case Record():
                made = self._record(node, None, None)
            case Model():
                made = choices.model(node, None, None)
            case Choice():
                made = self._choice(node)
            case Array():
                made = containers.array(node, self.twin(node.item))
            case Row():
                made = containers.row([self.twin(item) for item in node.items])
            case Table():
                made = containers.table(node, self.twin(node.value))
            case Leaf(annotation=annotation):
                made = containers.clock_time() if annotation is time else containers.literal(node)
            case _:
                made = Twin(node.annotation)
        return made

    def _record(self, node: Record, key: str | None, branch: Branch | None) -> Twin:
        where = (node, key, None if branch is None else branch.tag)
        if where in self._records:
            return self._records[where] or self._later(where)
        self._records[where] = None
        twins = [self.twin(field.node) for field in node.fields]
        made = structs.weave(node, twins, key, branch)
        self._records[where] = made
        return made

    def _later(self, where: _Where) -> Twin:
        """Stand for a twin that is being made just now: a class that contains itself."""

        def made() -> Twin:
            found = self._records[where]
            assert found is not None  # noqa: S101 - values come after types
            return found

        read = functools.cache(lambda: reader_of(made()))
        return Twin(Raw, Raw, lambda value: Raw(encode(made().lowered(value))), lambda raw: read()(bytes(raw)))

    def _choice(self, node: Choice) -> Twin:
        options: list[choices.Option] = []
        for place, member in enumerate(node.members):
            branch = node.branches.get(place)
            if branch is None or (branch.writer is Writer.STRUCT and self._is_native(member)):
                twin = self.twin(member)
            elif isinstance(member, Record):
                twin = self._record(member, node.tag_key, branch)
            else:
                assert isinstance(member, Model)  # noqa: S101 - nothing else is an object with a name
                twin = choices.model(member, node.tag_key, branch)
            options.append(choices.Option(member, twin, branch))
        return choices.weave(node, options)

    def _is_native(self, node: Node) -> bool:
        """Tell whether msgspec can do the type by itself."""
        if node not in self._native:
            self._native[node] = not any(map(_is_foreign, parts_of(node))) and _is_known(node)
        return self._native[node]


def parts_of(node: Node) -> Iterator[Node]:
    """Yield a type and all that it is made of, each once."""
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            yield part
            waiting.extend(part.children())


def _is_foreign(node: Node) -> bool:
    match node:
        case Model():
            return True
        case Leaf(stand_in=stand_in, annotation=annotation):
            return stand_in is not None or annotation is time
        case Choice(branches=branches):
            return any(branch.writer is not Writer.STRUCT for branch in branches.values())
        case _:
            return False


def _is_known(node: Node) -> bool:
    try:
        msgspec.json.Decoder(node.annotation)
    except (TypeError, NotImplementedError, RecursionError):
        return False
    return True
