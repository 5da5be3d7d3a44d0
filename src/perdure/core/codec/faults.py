"""Finds where a value that can't be stored goes wrong, and says why. Slow: asked only once something is wrong."""

from __future__ import annotations

import math
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from perdure.core.codec.choices import class_of
from perdure.core.codec.hints import show_type
from perdure.core.codec.insides import insides, is_dict, is_row
from perdure.core.codec.misfit import Misfit
from perdure.core.codec.nodes import Anything, Array, Choice, Form, Leaf, Model, Node, Record, Row, Table
from perdure.core.codec.sameness import check_same
from perdure.core.codec.text import NUL, check_text
from perdure.core.codec.twin import encode, reader_of
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.core.codec.twins import Weaver

__all__ = ["Faults"]

Part = tuple[str, Node, Any]
_SURROGATE: Final = "a text with a lone surrogate, which UTF-8 can't hold"


class Faults:
    """Looks for the innermost part of a value that doesn't survive the way to JSON and back."""

    def __init__(self, weaver: Weaver) -> None:
        self._weaver = weaver
        self._ways: dict[Node, tuple[Callable[[Any], Any], Callable[[bytes], Any]]] = {}

    def find(self, node: Node, value: Any) -> Misfit | None:
        """Return what is wrong with a value, or None when it survives after all."""
        misfit = self._try(node, value)
        if misfit is None or misfit.is_depth:
            return misfit
        for path, part, inner in _parts(node, value):
            found = self.find(part, inner)
            if found is not None:
                return found.within(path)
        return misfit

    def _try(self, node: Node, value: Any) -> Misfit | None:
        try:
            _check_special(value, in_parts=isinstance(node, Model))
            if isinstance(node, Table | Anything) and is_dict(value):
                _check_keys(node, value)
            lower, read = self._way(node)
            data = encode(lower(value))
            check_text(data)
            check_same(value, read(data))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the value can't be stored
            return _of_another_class(node, value) or Misfit.of(error)
        return None

    def _way(self, node: Node) -> tuple[Callable[[Any], Any], Callable[[bytes], Any]]:
        if node not in self._ways:
            twin = self._weaver.twin(node)
            self._ways[node] = (twin.lowered, reader_of(twin))
        return self._ways[node]


def _parts(node: Node, value: Any) -> Iterator[Part]:
    """Yield the parts of a value, each with its path and its type; nothing when it isn't of the type."""
    match node:
        case Record():
            yield from _fields(node, value)
        case Array(item=item, make=make) if type(value) is make:
            yield from ((path, item, part) for path, part in insides(value))
        case Row(items=items) if is_row(value) and len(value) == len(items):
            yield from ((path, item, part) for item, (path, part) in zip(items, insides(value), strict=True))
        case Table(value=inner) if is_dict(value):
            yield from ((path, inner, part) for path, part in insides(value))
        case Choice():
            yield from (("", member, value) for member in _members(node, value))
        case Anything() if isinstance(value, dict | list):
            yield from ((path, node, part) for path, part in insides(value))
        case _:
            pass


def _fields(node: Record, value: Any) -> Iterator[Part]:
    if node.form is Form.TYPED_DICT and is_dict(value):
        yield from ((f".{each.name}", each.node, value[each.name]) for each in node.fields if each.name in value)
    elif type(value) is node.cls:
        for each in node.fields:
            if hasattr(value, each.name):
                yield f".{each.name}", each.node, getattr(value, each.name)


def _members(node: Choice, value: Any) -> Iterator[Node]:
    """Yield the member that a value is of, as far as its class tells."""
    for place, member in enumerate(node.members):
        branch = node.branches.get(place)
        if class_of(member) is not type(value):
            continue
        if branch is None or not is_dict(value) or value.get(node.tag_key) == branch.tag:
            yield member


def _of_another_class(node: Node, value: Any) -> Misfit | None:
    """Say so when the whole trouble is a value's class."""
    match node:
        case Leaf(values=tuple() as values) if not any(value is each or value == each for each in values):
            return Misfit(f"expected {' or '.join(map(repr, values))}, got {shorten(value)}")
        case Leaf(annotation=type() as cls) if not isinstance(value, (float, int) if cls is float else cls):
            pass
        case Record(form=form, cls=cls) if form is not Form.TYPED_DICT and type(value) is not cls:
            pass
        case Choice(members=members) if not any(_is_of_class(member, value) for member in members):
            pass
        case _:
            return None
    found = "None" if value is None else f"{shorten(value)} of the class {show_type(type(value))}"
    return Misfit(f"expected {show_type(node.annotation)}, got {found}")


def _is_of_class(member: Node, value: Any) -> bool:
    match member:
        case Leaf(values=tuple() as values):
            return value in values
        case Leaf(annotation=type() as cls):
            return isinstance(value, cls)
        case _:
            return class_of(member) is type(value)


def _check_keys(node: Node, value: dict[Any, Any]) -> None:
    for key in value:
        try:
            _check_special(key, in_parts=False)
        except Misfit as misfit:
            message = f"the key {shorten(key)}: {misfit.reason}"
            raise Misfit(message) from None
        if isinstance(node, Anything) and not isinstance(key, str):
            message = f"the key {shorten(key)} isn't a text, as all keys of JSON objects are"
            raise Misfit(message)


def _check_special(value: Any, *, in_parts: bool) -> None:
    """Refuse what no column can hold.

    Raises:
        Misfit: It is that.
    """
    reason = None
    match value:
        case float() if not math.isfinite(value):
            reason = f"{value!r} can't be stored: JSON has only finite numbers"
        case Decimal() if value.is_nan():
            reason = f"{value!r} can't be stored: it equals nothing, not even what would come back"
        case datetime() | time() if (offset := value.utcoffset()) is not None and offset % timedelta(minutes=1):
            reason = f"{value.isoformat()} can't be stored: its offset from UTC isn't in whole minutes"
        case str() if "\0" in value:
            reason = NUL
        case str() if not _is_utf8(value):
            reason = _SURROGATE
        case _ if in_parts:
            for path, part in insides(value):
                try:
                    _check_special(part, in_parts=True)
                except Misfit as misfit:
                    raise misfit.within(path) from None
        case _:
            pass
    if reason is not None:
        raise Misfit(reason)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
