"""Puts the content of one value into another of the same class, where that can be changed."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import msgspec

__all__ = ["put_back"]

T = TypeVar("T")
_PYDANTIC_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


def put_back(target: T, value: T) -> T:
    """Make a target hold a value's content.

    Returns:
        The target, or the value where the target is of another class or can't be changed.
    """
    kept: Any = target
    new: Any = value
    if type(target) is not type(value):
        return value
    match kept:
        case dict() | set() | list():
            _refill(target, new)
        case _ if _is_frozen(kept):
            return value
        case _ if hasattr(kept, "__pydantic_fields_set__"):
            for name in _PYDANTIC_STATE:
                object.__setattr__(kept, name, getattr(new, name))
        case msgspec.Struct():
            for name in kept.__struct_fields__:
                setattr(kept, name, getattr(new, name))
        case _ if dataclasses.is_dataclass(kept):
            for field in dataclasses.fields(kept):
                object.__setattr__(kept, field.name, getattr(new, field.name))
        case _:
            return value
    return cast("T", kept)


def _refill(target: Any, value: Any) -> None:
    target.clear()
    (target.extend if hasattr(target, "extend") else target.update)(value)


def _is_frozen(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return value.__struct_config__.frozen
    if (params := getattr(value, "__dataclass_params__", None)) is not None:
        return bool(params.frozen)
    config: Any = getattr(value, "model_config", {})
    return bool(config.get("frozen", False))
