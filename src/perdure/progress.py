"""How far a job is, as its handler tells it: what that may be, and how it is written for people to look at."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

import msgspec

from perdure.errors import MisuseError
from perdure.shown import shorten

__all__ = ["LONGEST_NOTE", "written"]

LONGEST_NOTE: Final = 1_000
"""So many characters of a note are kept."""

_LARGEST_INT: Final = 2**63  # from there on a number is as good as a float
_encode = msgspec.json.Encoder().encode


class _Progress(msgspec.Struct):
    done: float
    total: float | None
    note: str | None
    at: datetime


def written(done: object, total: object, note: object) -> bytes:
    """Write a progress as it is stored.

    Raises:
        MisuseError: It can't be one: a number isn't finite, say.
    """
    number = _number("done", done)
    whole = None if total is None else _number("total", total)
    return _encode(_Progress(number, whole, None if note is None else _text(note), datetime.now(UTC)))


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value if type(value) is int and abs(value) < _LARGEST_INT else float(value)
    except OverflowError:  # an int that no float can hold
        pass
    message = f"ctx.progress: {name}={shorten(value)} isn't allowed; it is a finite number (int or float)"
    raise MisuseError(message)


def _text(note: object) -> str:
    """Cut a note, and replace what the database can't hold: a cosmetic call isn't to fail a job by a file's name."""
    if not isinstance(note, str):
        message = f"ctx.progress: note={shorten(note)} isn't allowed; it is a text, or None"
        raise MisuseError(message)
    return note[:LONGEST_NOTE].replace("\0", "?").encode(errors="replace").decode()
