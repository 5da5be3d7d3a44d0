"""The twins of lists, sets, tuples and dicts whose items aren't their own twins, and of single values to check."""

from __future__ import annotations

from datetime import time
from typing import TYPE_CHECKING, Any

from perdure.core.codec.hints import show_type
from perdure.core.codec.misfit import Misfit
from perdure.core.codec.twin import Twin, lift_at
from perdure.shown import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.core.codec.nodes import Array, Leaf, Table

__all__ = ["array", "check_class", "clock_time", "literal", "row", "table"]


def check_class(value: object, cls: type[Any]) -> None:
    """Refuse what isn't of just this class.

    Raises:
        Misfit: It is of another.
    """
    if type(value) is not cls:
        message = f"expected {show_type(cls)}, got {show_type(type(value))}"
        raise Misfit(message)


def literal(node: Leaf) -> Twin:
    """Check that a member of an enum is one of a literal's."""
    values = node.values or ()

    def check(value: Any) -> Any:
        if value not in values:
            message = f"expected one of {', '.join(map(str, values))}, got {shorten(value)}"
            raise Misfit(message)
        return value

    return Twin(node.stand_in, node.stand_in, check, check)


def clock_time() -> Twin:
    """Refuse a time of day whose zone would be lost, which `==` doesn't see."""

    def check(value: Any) -> Any:
        if isinstance(value, time) and value.tzinfo is not None and value.utcoffset() is None:
            message = f"{value!r} can't be stored: its zone has no offset without a date"
            raise Misfit(message)
        return value

    return Twin(time, time, check)


def array(node: Array, item: Twin) -> Twin:
    """Lower and lift item by item."""
    make = node.make

    def lower(value: Any) -> list[Any]:
        check_class(value, make)
        return [item.lowered(each) for each in value]

    def lift(decoded: list[Any]) -> Any:
        if item.lift is None:
            return make(decoded)
        return make([lift_at(item.lift, each, f"[{place}]") for place, each in enumerate(decoded)])

    return Twin(list[item.type], list, lower, lift)  # type: ignore[name-defined] # its item is known only now


def row(items: Sequence[Twin]) -> Twin:
    """Lower and lift each item of a tuple as its own twin says."""

    def lower(value: Any) -> tuple[Any, ...]:
        check_class(value, tuple)
        return tuple(item.lowered(each) for item, each in zip(items, value, strict=True))

    def lift(decoded: tuple[Any, ...]) -> tuple[Any, ...]:
        pairs = enumerate(zip(items, decoded, strict=True))
        return tuple(lift_at(item.lifted, each, f"[{place}]") for place, (item, each) in pairs)

    return Twin(tuple[tuple(item.type for item in items)], tuple, lower, lift)  # type: ignore[misc]


def table(node: Table, value_twin: Twin) -> Twin:
    """Lower and lift value by value; keys are their own twins."""

    def lower(value: Any) -> dict[Any, Any]:
        check_class(value, dict)
        return {key: value_twin.lowered(each) for key, each in value.items()}

    def lift(decoded: dict[Any, Any]) -> dict[Any, Any]:
        return {key: lift_at(value_twin.lifted, each, f"[{key!r}]") for key, each in decoded.items()}

    return Twin(dict[node.key.annotation, value_twin.type], dict, lower, lift)  # type: ignore[name-defined]
