"""Reads an annotation into nodes, and refuses what can't be stored, with its place and what to do instead.

Unions are read in `unions`, classes with fields in `records`.
"""

from __future__ import annotations

import enum
import types
import typing
from collections import abc
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, Never, TypeVar, Union, get_args
from uuid import UUID

from perdure.core.codec import records, unions
from perdure.core.codec.hints import origin_of, peel, show_type
from perdure.core.codec.nodes import Anything, Array, Choice, Json, Leaf, Model, Node, Record, Row, Table
from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Reader"]

_LEAVES: Final[Mapping[Any, Json]] = {
    types.NoneType: Json.NULL,
    bool: Json.BOOLEAN,
    int: Json.INTEGER,
    float: Json.NUMBER,
    str: Json.STRING,
    bytes: Json.STRING,
    datetime: Json.STRING,
    date: Json.STRING,
    time: Json.STRING,
    timedelta: Json.STRING,
    Decimal: Json.STRING,
    UUID: Json.STRING,
}
_ARRAYS: Final[Mapping[Any, type[Any]]] = {
    list: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Collection: list,
    set: set,
    abc.Set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
}
_TABLES: Final = (dict, abc.Mapping, abc.MutableMapping)
_INSTEAD: Final[Mapping[Any, str]] = {
    object: "write Any for any JSON value",
    bytearray: "write bytes",
    memoryview: "write bytes",
    complex: "write tuple[float, float]",
    abc.Iterable: "write list",
    abc.Iterator: "write list",
}
_SUPPORTED: Final = (
    "payloads are made of dataclasses, msgspec Structs, pydantic models, TypedDicts, NamedTuples, their unions, list, "
    "set, frozenset, tuple, dict, str, int, float, bool, None, bytes, datetime, date, time, timedelta, Decimal, UUID, "
    "enums, Literal and Any"
)


class Reader:
    """Reads one annotation; knows the classes that it has met on the way, which may contain themselves."""

    def __init__(self) -> None:
        self.known: dict[Any, Node] = {}
        self._aliases: list[Any] = []

    def read(self, annotation: Any, path: str) -> Node:
        """Read an annotation.

        Args:
            annotation: What to read.
            path: Where it stands, for messages.

        Raises:
            DefinitionError: It can't be stored.
        """
        peeled = peel(annotation)
        node = self._read_bare(peeled.bare, path)
        if peeled.meta and not isinstance(node, Record | Model):
            return replace(node, annotation=annotation, meta=peeled.meta)
        return node

    def _read_bare(self, bare: Any, path: str) -> Node:
        origin = origin_of(bare)
        if not isinstance(origin, abc.Hashable):  # a list of types, say
            return refuse(path, bare, "")
        if (json := _LEAVES.get(origin)) is not None:
            return Leaf(bare, json)
        if (read := _SPECIAL.get(origin)) is not None:
            return self._guarded(bare, path, read)
        if isinstance(bare, TypeVar):
            return self.read(_bound(bare), path)
        if isinstance(origin, type):
            return self._read_class(bare, origin, path)
        return refuse(path, bare, "")

    def _guarded(self, bare: Any, path: str, read: Callable[[Reader, Any, str], Node]) -> Node:
        """Read what may contain itself only through a class: an alias alone would go round for ever."""
        if bare in self._aliases:
            return refuse(path, bare, "it contains itself; let it do so through a class, such as a dataclass")
        self._aliases.append(bare)
        try:
            return read(self, bare, path)
        finally:
            self._aliases.pop()

    def _read_class(self, bare: Any, origin: type[Any], path: str) -> Node:
        if issubclass(origin, enum.Enum):
            return _enum(origin, path)
        found = self._find(bare, path)
        if found is not None:
            return found
        return refuse(path, bare, _INSTEAD.get(origin, ""))

    def _find(self, bare: Any, path: str) -> Node | None:
        if (known := self.known.get(bare)) is not None:
            return known
        outer, self._aliases = self._aliases, []  # a class may contain what contains it
        try:
            return records.read(self, bare, path)
        finally:
            self._aliases = outer


def refuse(path: str, annotation: Any, reason: str) -> Never:
    """Say that a part of a type can't be stored.

    Raises:
        DefinitionError: Always.
    """
    message = f"{path}: {show_type(annotation)} can't be stored: {reason or _SUPPORTED}"
    raise DefinitionError(message)


def _bound(variable: TypeVar) -> Any:
    """Return what a type variable that nobody has filled in stands for."""
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - their number isn't known before
    return Any if variable.__bound__ is None else variable.__bound__


def _array(reader: Reader, bare: Any, path: str) -> Node:
    arguments = get_args(bare)
    origin = origin_of(bare)
    if origin is tuple and (bare is not tuple) and not (len(arguments) == 2 and arguments[1] is ...):  # noqa: PLR2004
        items = tuple(reader.read(item, f"{path}[{place}]") for place, item in enumerate(arguments))
        return Row(bare, Json.ARRAY, items)
    item = reader.read(arguments[0] if arguments else Any, f"{path}[]")
    return Array(bare, Json.ARRAY, item, _ARRAYS.get(origin, tuple))


def _table(reader: Reader, bare: Any, path: str) -> Node:
    key, value = get_args(bare) or (str, Any)
    key_node = reader.read(key, f"{path}, keys")
    _check_key(key_node, key, path)
    return Table(bare, Json.OBJECT, key_node, reader.read(value, f"{path}[]"))


def _check_key(node: Node, key: Any, path: str) -> None:
    match node:
        case Anything() | Leaf(json=Json.STRING | Json.INTEGER | Json.NUMBER):
            return
        case Choice(members=members) if all(
            isinstance(member, Leaf) and member.json is Json.STRING for member in members
        ):
            return
        case Choice():
            refuse(f"{path}, keys", key, "keys are strings in JSON, so its members couldn't be told apart; use one")
        case _:
            refuse(f"{path}, keys", key, "keys are str, int, float, an enum, a date or time, UUID, Decimal or bytes")


def _anything(reader: Reader, bare: Any, path: str) -> Node:  # noqa: ARG001 - as the others are called
    return Anything(bare, Json.ANY)


def _literal_string(reader: Reader, bare: Any, path: str) -> Node:  # noqa: ARG001
    return Leaf(str, Json.STRING)


def _literal(reader: Reader, bare: Any, path: str) -> Node:  # noqa: ARG001
    kinds: dict[tuple[Json, Any], list[Any]] = {}
    for value in get_args(bare):
        match value:
            case enum.Flag() | bytes():
                refuse(path, bare, "its values must be strings, whole numbers, None, True, False or members of an enum")
            case enum.Enum():
                kind: tuple[Json, Any] = (_enum(type(value), path).json, type(value))
            case _:
                kind = (_LEAVES[type(value)], None)
        kinds.setdefault(kind, []).append(value)
    members = [
        Leaf(Literal[tuple(values)], json, stand_in=enum_class, values=tuple(values))
        for (json, enum_class), values in kinds.items()
    ]
    return unions.combine(bare, [(member, None) for member in members], path)


def _enum(cls: Any, path: str) -> Node:
    values = [member.value for member in cls]
    if values and all(type(value) is str or isinstance(value, str) for value in values):
        return Leaf(cls, Json.STRING)
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return Leaf(cls, Json.INTEGER)
    return refuse(path, cls, "the values of an enum must be all strings or all whole numbers")


_SPECIAL: Final[Mapping[Any, Callable[[Reader, Any, str], Node]]] = {
    Any: _anything,
    Union: unions.read,
    types.UnionType: unions.read,
    Literal: _literal,
    typing.LiteralString: _literal_string,
    tuple: _array,
    **dict.fromkeys(_ARRAYS, _array),
    **dict.fromkeys(_TABLES, _table),
}
