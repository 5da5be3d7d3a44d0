"""What is inside a value, whatever its type says: for comparing, and for finding a place."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["field_names", "insides", "is_dict", "is_row", "is_set"]


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Tell whether it is a dict."""
    return isinstance(value, dict)


def is_row(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Tell whether it is a list or a tuple, and no NamedTuple."""
    return isinstance(value, list | tuple) and not hasattr(type(value), "_fields")  # pyright: ignore[reportUnknownArgumentType]


def is_set(value: object) -> TypeGuard[set[Any] | frozenset[Any]]:
    """Tell whether it is a set or a frozenset."""
    return isinstance(value, set | frozenset)


def field_names(value: Any) -> tuple[str, ...] | None:
    """Return the names of the fields of a Struct, a pydantic model, a dataclass or a NamedTuple; None of all else."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    cls: Any = value.__class__
    if (fields := getattr(cls, "__pydantic_fields__", None)) is not None:
        return tuple(fields)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    names: tuple[str, ...] | None = getattr(cls, "_fields", None)
    return names


def insides(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, each with its path; nothing when it has none."""
    if is_dict(value):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif is_row(value):
        yield from ((f"[{place}]", part) for place, part in enumerate(value))
    elif is_set(value):
        yield from (("[…]", part) for part in value)
    else:
        for name in field_names(value) or ():
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)
