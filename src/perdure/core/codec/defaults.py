"""What a payload is that nobody gave: `None`, an empty collection, a class all of whose fields have defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.codec.hints import show_type
from perdure.core.codec.nodes import Anything, Array, Choice, Form, Json, Model, Node, Record, Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["default_maker"]


def default_maker(node: Node) -> Callable[[], Any] | str:
    """Return what makes a type's default, or why it has none."""
    match node:
        case Record(fields=fields):
            make = dict if node.form is Form.TYPED_DICT else node.cls
            return _unless_missing(node, [field.name for field in fields if field.required], make)
        case Model(cls=cls):
            fields_of_model = getattr(cls, "__pydantic_fields__", {}).items()
            return _unless_missing(node, [name for name, field in fields_of_model if field.is_required()], cls)
        case _:
            make = _simple(node)
            return make or f"{show_type(node.annotation)} has no default: give a value"


def _simple(node: Node) -> Callable[[], Any] | None:
    match node:
        case Array(make=make):
            return make
        case Table():
            return dict
        case Row(items=()):
            return tuple
        case _:
            members = node.members if isinstance(node, Choice) else (node,)
            may_be_none = any(isinstance(member, Anything) or member.json is Json.NULL for member in members)
            return _none if may_be_none else None


def _unless_missing(node: Node, missing: list[str], make: Callable[[], Any]) -> Callable[[], Any] | str:
    if not missing:
        return make
    fields = f"field {missing[0]!r}"
    name = show_type(node.annotation)
    return f"{name} has no default, since its {fields} has none: give a value, or the field a default"


def _none() -> None:
    return None
