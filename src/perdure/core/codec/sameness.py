"""Finds out whether what comes back from JSON is what went in, and if not, where they differ.

Asked only where `==` says no: for classes that don't compare by their content, and to tell the place.
"""

from __future__ import annotations

import math
from datetime import datetime, time
from typing import Any

from perdure.core.codec.hints import show_type
from perdure.core.codec.insides import field_names, is_dict, is_row
from perdure.core.codec.misfit import Misfit
from perdure.shown import shorten

__all__ = ["check_same"]


def check_same(value: Any, back: Any) -> None:
    """Compare a value with what JSON makes of it.

    Raises:
        Misfit: They differ.
    """
    if _is_equal(value, back):
        return
    if is_dict(value) and is_dict(back):
        _check_dicts(value, back)
    elif type(value) is not type(back):
        message = f"{_describe(value)} comes back as {_describe(back)}"
        raise Misfit(message)
    elif is_row(value):
        _check_rows(value, back)
    elif (names := field_names(value)) is not None:
        for name in names:
            _check_at(f".{name}", getattr(value, name, None), getattr(back, name, None))
    elif not _is_same_leaf(value, back):
        message = f"{shorten(value)} comes back as {shorten(back)}"
        raise Misfit(message)


def _check_dicts(value: dict[Any, Any], back: dict[Any, Any]) -> None:
    for key, before in value.items():
        if key not in back:
            message = f"the key {shorten(key)} doesn't come back"
            raise Misfit(message)
        _check_at(f"[{key!r}]", before, back[key])
    for key in back:
        if key not in value:
            message = f"the key {shorten(key)} comes back, which wasn't there"
            raise Misfit(message)


def _check_rows(value: Any, back: Any) -> None:
    if len(value) != len(back):
        message = f"{len(value)} items come back as {len(back)}"
        raise Misfit(message)
    for place, (before, after) in enumerate(zip(value, back, strict=True)):
        _check_at(f"[{place}]", before, after)


def _check_at(path: str, value: Any, back: Any) -> None:
    try:
        check_same(value, back)
    except Misfit as misfit:
        raise misfit.within(path) from None


def _is_equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back)
    except Exception:  # noqa: BLE001 - the user's __eq__ may do anything
        return False


def _is_same_leaf(value: Any, back: Any) -> bool:
    match value:
        case datetime() | time():
            # A time in an hour that is repeated equals no time of another zone, not even of its own offset.
            return (
                value.replace(tzinfo=None) == back.replace(tzinfo=None)
                and value.utcoffset() == back.utcoffset()
                and (value.tzinfo is None) == (back.tzinfo is None)
            )
        case float():
            return math.isnan(value) and math.isnan(back)
        case _:
            return False


def _describe(value: Any) -> str:
    name = show_type(type(value))
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return f"{shorten(value)} ({article} {name})"
