"""Finds out whether what comes back from JSON is what went in, and if not, where they differ.

Asked only where `==` says no: for classes that don't compare by their content, and to tell the place.
"""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime, time
from typing import Any

import msgspec

from perdure.core.codec.hints import show_type
from perdure.core.codec.misfit import Misfit, shorten

__all__ = ["check_same"]


def check_same(value: Any, back: Any) -> None:
    """Compare a value with what JSON makes of it.

    Raises:
        Misfit: They differ.
    """
    if _is_equal(value, back):
        return
    if isinstance(value, dict) and isinstance(back, dict):
        _check_dicts(value, back)
    elif type(value) is not type(back):
        message = f"{_with_article(value)} comes back as {_with_article(back)}"
        raise Misfit(message)
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        for place, (before, after) in enumerate(zip(value, back, strict=False)):
            _check_at(f"[{place}]", before, after)
        if len(value) != len(back):
            raise Misfit(f"{len(value)} items come back as {len(back)}")
    elif (names := _field_names(value)) is not None:
        for name in names:
            _check_at(f".{name}", getattr(value, name, None), getattr(back, name, None))
    elif not _is_same_leaf(value, back):
        message = f"{shorten(value)} comes back as {shorten(back)}"
        raise Misfit(message)


def _check_dicts(value: dict[Any, Any], back: dict[Any, Any]) -> None:
    for key, before in value.items():
        if key not in back:
            raise Misfit(f"the key {shorten(key)} doesn't come back")
        _check_at(f"[{key!r}]", before, back[key])
    for key in back:
        if key not in value:
            raise Misfit(f"the key {shorten(key)} comes back, which wasn't there")


def _check_at(path: str, value: Any, back: Any) -> None:
    try:
        check_same(value, back)
    except Misfit as misfit:
        raise misfit.within(path) from None


def _is_equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back) and type(value) is type(back)
    except Exception:  # noqa: BLE001 - the user's __eq__ may do anything
        return False


def _is_same_leaf(value: Any, back: Any) -> bool:
    match value:
        case datetime() | time():
            # Times in an hour that is repeated equal no time of another zone, not even their own offset's.
            return (
                value.replace(tzinfo=None, fold=0) == back.replace(tzinfo=None, fold=0)
                and value.utcoffset() == back.utcoffset()
                and (value.tzinfo is None) == (back.tzinfo is None)
            )
        case float():
            return math.isnan(value) and math.isnan(back)
        case _:
            return False


def _field_names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if (fields := getattr(type(value), "__pydantic_fields__", None)) is not None:
        return tuple(fields)
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    names: tuple[str, ...] | None = getattr(value, "_fields", None)
    return names


def _with_article(value: Any) -> str:
    name = show_type(type(value))
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return f"{shorten(value)}, {article} {name},"
