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
        case Anything():
            return _none
        case Choice(members=members) if any(member.json is Json.NULL for member in members):
            return _none
        case Array(make=make):
            return make
        case Table():
            return dict
        case Row(items=()):
            return tuple
        case Record(cls=cls, fields=fields, form=form):
            return _all_defaults(node, [field.name for field in fields if field.required]) or (
                dict if form is Form.TYPED_DICT else cls
            )
        case Model(cls=cls):
            fields_of_model = getattr(cls, "__pydantic_fields__", {}).items()
            return _all_defaults(node, [name for name, field in fields_of_model if field.is_required()]) or cls
        case _ if node.json is Json.NULL:
            return _none
        case _:
            return f"{show_type(node.annotation)} has no default: give a value"


def _all_defaults(node: Node, missing: list[str]) -> str | None:
    if not missing:
        return None
    fields = f"field{'s' * (len(missing) > 1)} {' and '.join(map(repr, missing))}"
    return f"{show_type(node.annotation)} has no default, since its {fields} has none: give a value, or the field a default"


def _none() -> None:
    return None
