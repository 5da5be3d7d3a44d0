"""What a payload's type is made of, once its annotation has been read: a graph of nodes, which may have cycles.

Only data. `reading` makes it; `twins`, `faults` and `defaults` each say what it means for their work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "Anything",
    "Array",
    "Branch",
    "Choice",
    "Field",
    "Form",
    "Json",
    "Leaf",
    "Model",
    "Node",
    "Record",
    "Row",
    "Table",
    "Writer",
]


class Json(Enum):
    """How a value looks in JSON; the text is for messages."""

    OBJECT = "objects"
    ARRAY = "arrays"
    STRING = "strings"
    INTEGER = "whole numbers"
    NUMBER = "numbers"
    BOOLEAN = "true or false"
    NULL = "null"
    ANY = "anything"


@dataclass(eq=False)
class Node:
    """A part of a type.

    Attributes:
        annotation: The part as its author wrote it, but for aliases.
        json: How its values look in JSON.
        meta: The constraints that msgspec checks.
    """

    annotation: Any
    json: Json
    meta: tuple[Any, ...] = field(default=(), kw_only=True)

    def children(self) -> Iterator[Node]:
        """Yield the parts that this one is made of."""
        yield from ()


@dataclass(eq=False)
class Leaf(Node):
    """A value without parts.

    Attributes:
        stand_in: The enum whose members `values` are; msgspec knows no literals of them.
        values: The values that are allowed, when it is a `Literal`.
    """

    stand_in: Any = None
    values: tuple[Any, ...] | None = None


@dataclass(eq=False)
class Anything(Node):
    """Any JSON value."""


@dataclass(eq=False)
class Array(Node):
    """Any number of like items.

    Attributes:
        item: What they are.
        make: The class that holds them: list, set, frozenset or tuple.
    """

    item: Node
    make: type[Any]

    def children(self) -> Iterator[Node]:
        """Yield the item's type."""
        yield self.item


@dataclass(eq=False)
class Row(Node):
    """A tuple of so many items.

    Attributes:
        items: What each of them is.
    """

    items: tuple[Node, ...]

    def children(self) -> Iterator[Node]:
        """Yield the items' types."""
        yield from self.items


@dataclass(eq=False)
class Table(Node):
    """A dict.

    Attributes:
        key: What its keys are.
        value: What its values are.
    """

    key: Node
    value: Node

    def children(self) -> Iterator[Node]:
        """Yield the types of keys and values."""
        yield self.key
        yield self.value


class Form(Enum):
    """Which kind of class a record is."""

    DATACLASS = "a dataclass"
    STRUCT = "a Struct"
    TYPED_DICT = "a TypedDict"
    NAMED_TUPLE = "a NamedTuple"


@dataclass(frozen=True)
class Field:
    """A field of a record.

    Attributes:
        name: Its name in Python.
        key: Its key in JSON.
        node: Its type.
        required: Whether it has no default (in a TypedDict: whether it must be there).
        make_default: Makes its default, when it has one.
    """

    name: str
    key: str
    node: Node
    required: bool
    make_default: Callable[[], Any] | None = None


@dataclass(eq=False)
class Record(Node):
    """A class with fields.

    Attributes:
        cls: The class; of a generic one, without its arguments.
        form: Which kind of class it is.
        fields: Its fields; empty while they are being read.
        struct_tag: The key and the tag that a Struct writes by itself.
        frozen: Whether its instances refuse changes.
        closed: Whether it refuses keys that it doesn't know.
    """

    cls: Any
    form: Form
    fields: tuple[Field, ...] = ()
    struct_tag: tuple[str, str | int] | None = None
    frozen: bool = False
    closed: bool = False

    def children(self) -> Iterator[Node]:
        """Yield the fields' types."""
        for each in self.fields:
            yield each.node


@dataclass(eq=False)
class Model(Node):
    """A pydantic model, or one of pydantic's dataclasses: a matter of pydantic's own.

    Attributes:
        cls: The class.
        keys: Its keys in JSON, as far as they are known.
        literals: Those of its keys that always hold one string, and that string.
    """

    cls: Any
    keys: frozenset[str] = frozenset()
    literals: Mapping[str, str] = field(default_factory=dict[str, str])


class Writer(Enum):
    """Who writes an object's tag."""

    CODEC = "the codec"
    STRUCT = "msgspec, as the Struct is told to"
    FIELD = "a field that holds nothing else"


@dataclass(frozen=True)
class Branch:
    """How an object among others is told apart.

    Attributes:
        tag: What stands under the choice's key.
        writer: Who writes it there.
    """

    tag: str | int
    writer: Writer


@dataclass(eq=False)
class Choice(Node):
    """One of several types.

    Attributes:
        members: The types, none of them a choice itself.
        tag_key: The key that tells its objects apart; None when no more than one member is an object.
        branches: The tag of each member that is an object, by the member's place; empty when there is no key.
    """

    members: tuple[Node, ...]
    tag_key: str | None = None
    branches: Mapping[int, Branch] = field(default_factory=dict[int, Branch])

    def children(self) -> Iterator[Node]:
        """Yield the members."""
        yield from self.members
