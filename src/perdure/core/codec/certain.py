"""Recognises values that surely survive the way to JSON and back, so that they needn't be decoded to find out.

A value that isn't recognised may well survive; the codec then tries. So this makes encoding faster, and decides
nothing.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

from perdure.core.codec.nodes import Array, Choice, Form, Json, Leaf, Node, Record, Row, Table

__all__ = ["certainty_of"]

Test = Callable[[Any], bool]
Kinds = dict[Any, Test | None]
"""What is certain: values of just these classes, of which some have to pass a test as well."""


def certainty_of(node: Node) -> Test:
    """Return what tells of a value, quickly, whether it is of a type and surely survives."""
    return _test(_Finder().kinds(node))


def _never(value: Any) -> bool:  # noqa: ARG001 - a test's signature
    return False


def _has_plain_zone(value: Any) -> bool:
    return value.tzinfo is None or value.tzinfo is UTC


_LEAVES: Final[Kinds] = {
    NoneType: None,
    bool: None,
    int: None,
    str: None,
    bytes: None,
    UUID: None,
    date: None,
    timedelta: None,
    float: math.isfinite,
    Decimal: Decimal.is_finite,
    datetime: _has_plain_zone,
    time: _has_plain_zone,
}


class _Finder:
    """Goes through a type; classes may contain themselves."""

    def __init__(self) -> None:
        self._records: dict[Node, Kinds] = {}

    def kinds(self, node: Node) -> Kinds:
        """Return what is certain of a type; nothing, when it has constraints."""
        return {} if node.meta else self._kinds(node)

    def _kinds(self, node: Node) -> Kinds:
        match node:
            case Leaf():
                return _leaf(node)
            case Choice(members=members):
                return self._choice(members)
            case Record(form=Form.DATACLASS | Form.STRUCT):
                return self._record(node)
            case _:
                return self._container(node)

    def _container(self, node: Node) -> Kinds:
        match node:
            case Array(item=item, make=make):
                return {make: _every(self.kinds(item))}
            case Row(items=items):
                return {tuple: _each([_test(self.kinds(item)) for item in items])}
            case Table(key=Leaf(annotation=key, meta=()), value=value) if key in (str, int):
                return {dict: _every_entry(key, self.kinds(value))}
            case _:
                return {}

    def _choice(self, members: tuple[Node, ...]) -> Kinds:
        kinds: Kinds = {}
        if not any(member.meta for member in members):  # msgspec checks the constraints of one on others as well
            for member in members:
                kinds.update(self.kinds(member))
        return kinds

    def _record(self, node: Record) -> Kinds:
        # What `__post_init__` does when the object is made again can't be known.
        if hasattr(node.cls, "__post_init__"):
            return {}
        if node not in self._records:
            kinds = self._records[node] = {node.cls: None}
            kinds[node.cls] = _fields([(field.name, self.kinds(field.node)) for field in node.fields])
        return self._records[node]


def _leaf(node: Leaf) -> Kinds:
    if node.values is not None:
        if node.json is not Json.STRING or node.stand_in is not None:
            return {}
        return {str: frozenset(node.values).__contains__}
    if node.annotation in _LEAVES:
        return {node.annotation: _LEAVES[node.annotation]}
    return {node.annotation: None} if issubclass(node.annotation, enum.Enum) else {}


def _test(kinds: Kinds) -> Test:
    def test(value: Any) -> bool:
        inner = kinds.get(type(value), _never)
        return inner is None or inner(value)

    return test


def _fields(fields: list[tuple[str, Kinds]]) -> Test:
    def test(value: Any) -> bool:
        for name, kinds in fields:
            part = getattr(value, name)
            inner = kinds.get(type(part), _never)
            if inner is not None and not inner(part):
                return False
        return True

    return test


def _every(kinds: Kinds) -> Test:
    if not any(kinds.values()):
        classes = frozenset(kinds)
        return lambda value: classes.issuperset(map(type, value))
    one = _test(kinds)
    return lambda value: all(map(one, value))


def _each(tests: list[Test]) -> Test:
    def test(value: Any) -> bool:
        return len(value) == len(tests) and all(one(part) for one, part in zip(tests, value, strict=True))

    return test


def _every_entry(key: Any, kinds: Kinds) -> Test:
    keys = frozenset([key])
    every = _every(kinds)
    return lambda value: keys.issuperset(map(type, value)) and every(value.values())
