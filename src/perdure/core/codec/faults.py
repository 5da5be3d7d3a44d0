"""Finds where a value that can't be stored goes wrong, and says why. Slow: asked only once something is wrong."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from perdure.core.codec.choices import class_of
from perdure.core.codec.hints import show_type
from perdure.core.codec.misfit import Misfit, shorten
from perdure.core.codec.nodes import Anything, Array, Choice, Form, Json, Model, Node, Record, Row, Table
from perdure.core.codec.sameness import check_same
from perdure.core.codec.text import NUL, check_text
from perdure.core.codec.twin import encode, reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.core.codec.twins import Weaver

__all__ = ["Faults"]

Part = tuple[str, Node, Any]
_ANYTHING = Anything(Any, Json.ANY)


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
            lower, read = self._way(node)
            _check_special(value, in_parts=isinstance(node, Model))
            data = encode(lower(value))
            check_text(data)
            _check_keys(node, value)
            check_same(value, read(data))
        except UnicodeEncodeError:
            return Misfit(_SURROGATE)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the value can't be stored
            return _unmatched(node, value) or Misfit.of(error)
        return None

    def _way(self, node: Node) -> tuple[Callable[[Any], Any], Callable[[bytes], Any]]:
        if node not in self._ways:
            twin = self._weaver.twin(node)
            self._ways[node] = (twin.lowered, reader_of(twin))
        return self._ways[node]


_SURROGATE = "a text with a lone surrogate, which UTF-8 can't hold"


def _parts(node: Node, value: Any) -> Iterator[Part]:
    """Yield the parts of a value, each with its path and its type."""
    match node:
        case Record(form=Form.TYPED_DICT, fields=fields) if isinstance(value, dict):
            yield from ((f".{field.name}", field.node, value[field.name]) for field in fields if field.name in value)
        case Record(cls=cls, fields=fields) if type(value) is cls:
            yield from (
                (f".{each.name}", each.node, getattr(value, each.name)) for each in fields if hasattr(value, each.name)
            )
        case Array(item=item, make=make) if type(value) is make:
            yield from ((f"[{place}]", item, each) for place, each in enumerate(value))
        case Row(items=items) if isinstance(value, tuple) and len(value) == len(items):
            yield from ((f"[{place}]", item, each) for place, (item, each) in enumerate(zip(items, value, strict=True)))
        case Table(value=inner) if isinstance(value, dict):
            yield from ((f"[{key!r}]", inner, each) for key, each in value.items())
        case Choice(members=members):
            yield from (("", member, value) for member in members if class_of(member) is type(value) is not dict)
            yield from (("", member, value) for member in _dict_members(node, value))
        case Anything() if isinstance(value, list | tuple):
            yield from ((f"[{place}]", node, each) for place, each in enumerate(value))
        case Anything() if isinstance(value, dict):
            yield from ((f"[{key!r}]", node, each) for key, each in value.items())
        case _:
            pass


def _dict_members(node: Choice, value: Any) -> Iterator[Node]:
    if isinstance(value, dict):
        for place, member in enumerate(node.members):
            branch = node.branches.get(place)
            if class_of(member) is dict and (branch is None or value.get(node.tag_key) == branch.tag):
                yield member


def _unmatched(node: Node, value: Any) -> Misfit | None:
    """Say that a value is none of a union's classes."""
    if not isinstance(node, Choice) or not node.branches or any(_parts(node, value)):
        return None
    if any(member.json is not Json.OBJECT and _is_plain(value) for member in node.members):
        return None
    return Misfit(f"expected {show_type(node.annotation)}, got {shorten(value)}")


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | list | tuple)


def _check_keys(node: Node, value: Any) -> None:
    match node:
        case Table() | Anything() if isinstance(value, dict):
            for key in value:
                try:
                    _check_special(key, in_parts=False)
                except Misfit as misfit:
                    message = f"the key {shorten(key)}: {misfit.reason}"
                    raise Misfit(message) from None
                if isinstance(node, Anything) and not isinstance(key, str):
                    message = f"the key {shorten(key)} isn't a text, as all keys of JSON objects are"
                    raise Misfit(message)
        case _:
            pass


def _check_special(value: Any, *, in_parts: bool) -> None:
    """Refuse what no column can hold.

    Raises:
        Misfit: It is that.
    """
    match value:
        case float() if not math.isfinite(value):
            message = f"{value!r} can't be stored: JSON has only finite numbers"
            raise Misfit(message)
        case Decimal() if not value.is_finite():
            message = f"{value!r} can't be stored: only finite numbers come back equal"
            raise Misfit(message)
        case str() if "\0" in value:
            raise Misfit(NUL)
        case str():
            value.encode()  # a lone surrogate raises UnicodeEncodeError
        case _ if in_parts:
            for path, part in _insides(value):
                try:
                    _check_special(part, in_parts=True)
                except UnicodeEncodeError:
                    raise Misfit(_SURROGATE, path) from None
                except Misfit as misfit:
                    raise misfit.within(path) from None
        case _:
            pass


def _insides(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value whose type isn't known to this package."""
    match value:
        case dict():
            yield from ((f"[{key!r}]", each) for key, each in value.items())
        case list() | tuple() | set() | frozenset():
            yield from ((f"[{place}]", each) for place, each in enumerate(value))
        case _ if hasattr(type(value), "__pydantic_fields__"):
            yield from ((f".{name}", each) for name, each in vars(value).items())
        case _ if dataclasses.is_dataclass(value):
            yield from ((f".{each.name}", getattr(value, each.name, None)) for each in dataclasses.fields(value))
        case _:
            pass
