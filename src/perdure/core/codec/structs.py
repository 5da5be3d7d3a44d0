"""The twins of classes with fields: Structs that msgspec fills, and the way to the class and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from perdure.core.codec.containers import check_class
from perdure.core.codec.misfit import Misfit
from perdure.core.codec.nodes import Branch, Field, Form, Json, Record, Writer
from perdure.core.codec.twin import Twin, lift_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["weave"]

_UNSET = msgspec.UNSET


def weave(node: Record, twins: Sequence[Twin], key: str | None, branch: Branch | None) -> Twin:
    """Make the twin of a class.

    Args:
        node: The class.
        twins: The twins of its fields.
        key: The key of its tag, when it is one of several members of a union.
        branch: Its tag, likewise.
    """
    constant = key if branch is not None and branch.writer is Writer.FIELD else None
    # Its fields may have names that a Struct's can't have, so the twin's are numbered.
    fields = [
        _Woven(f"f{place}", field, twin)
        for place, (field, twin) in enumerate(zip(node.fields, twins, strict=True))
        if field.key != constant
    ]
    if branch is not None:
        tag: tuple[str | None, str | int | None] = (key, branch.tag)
    else:
        tag = node.struct_tag or (None, None)
    struct = msgspec.defstruct(
        node.cls.__name__,
        [each.definition for each in fields],
        rename={each.attribute: each.field.key for each in fields},
        tag_field=tag[0],
        tag=tag[1],
        array_like=node.json is Json.ARRAY,
        forbid_unknown_fields=node.closed,
        kw_only=True,
    )
    fixed = {} if constant is None or branch is None else {constant: branch.tag}
    is_dict = node.form is Form.TYPED_DICT
    lower = _lower_dict(struct, fields, fixed) if is_dict else _lower_object(node.cls, struct, fields, fixed)
    make = _assemble if node.form is Form.DATACLASS else _construct
    return Twin(struct, struct, lower, make(dict if is_dict else node.cls, fields, fixed))


class _Woven:
    """A field, its twin, and the name of the twin's field."""

    def __init__(self, attribute: str, field: Field, twin: Twin) -> None:
        self.attribute = attribute
        self.field = field
        self.name = field.name
        self.lower = twin.lower
        self.lift = twin.lift
        self.type = twin.type
        self.make_default = field.make_default

    @property
    def definition(self) -> tuple[str, Any] | tuple[str, Any, Any]:
        return (self.attribute, self.type) if self.field.required else (self.attribute, self.type, _UNSET)

    def lifted(self, decoded: Any) -> Any:
        return decoded if self.lift is None else lift_at(self.lift, decoded, f".{self.name}")


def _lower_object(
    cls: type[Any], struct: type[Any], fields: Sequence[_Woven], fixed: dict[str, Any]
) -> Callable[[Any], Any]:
    def lower(value: Any) -> Any:
        check_class(value, cls)
        for name, constant in fixed.items():
            _check_constant(name, getattr(value, name), constant)
        given = {}
        for each in fields:
            part = getattr(value, each.name)
            given[each.attribute] = part if each.lower is None else each.lower(part)
        return struct(**given)

    return lower


def _lower_dict(struct: type[Any], fields: Sequence[_Woven], fixed: dict[str, Any]) -> Callable[[Any], Any]:
    def lower(value: Any) -> Any:
        check_class(value, dict)
        for name, constant in fixed.items():
            _check_constant(name, value.get(name), constant)
        given = {}
        for each in fields:
            if each.name in value:
                part = value[each.name]
                given[each.attribute] = part if each.lower is None else each.lower(part)
        return struct(**given)

    return lower


def _check_constant(name: str, value: object, constant: object) -> None:
    if value != constant:
        message = f"expected {constant!r}, got {value!r}"
        raise Misfit(message, f".{name}")


def _assemble(cls: type[Any], fields: Sequence[_Woven], fixed: dict[str, Any]) -> Callable[[Any], Any]:
    """Make a dataclass as msgspec does: field by field, without `__init__`, then `__post_init__`."""
    new: Any = cls.__new__
    put = object.__setattr__
    post_init = getattr(cls, "__post_init__", None)

    def lift(decoded: Any) -> Any:
        value = new(cls)
        for name, constant in fixed.items():
            put(value, name, constant)
        for each in fields:
            part = getattr(decoded, each.attribute)
            if part is not _UNSET:
                put(value, each.name, each.lifted(part))
            elif each.make_default is not None:
                put(value, each.name, each.make_default())
        if post_init is not None:
            post_init(value)
        return value

    return lift


def _construct(cls: type[Any], fields: Sequence[_Woven], fixed: dict[str, Any]) -> Callable[[Any], Any]:
    """Make a Struct, a NamedTuple or a dict by calling its class; it knows its defaults."""

    def lift(decoded: Any) -> Any:
        given = dict(fixed)
        for each in fields:
            part = getattr(decoded, each.attribute)
            if part is not _UNSET:
                given[each.name] = each.lifted(part)
        return cls(**given)

    return lift
