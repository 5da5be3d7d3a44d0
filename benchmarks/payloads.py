"""What the jobs of all measurements carry, on all sides: some 100 bytes of JSON in, a few out."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

__all__ = ["Done", "Order", "big_note", "encoded", "order", "plain"]

_NOTE = "x" * 65


@dataclass
class Order:
    """A job's input.

    Attributes:
        number: Counts the jobs.
        sent_at_seconds: When it was sent, by the machine's monotonic clock, which all its processes share.
        note: Fills it up.
    """

    number: int
    sent_at_seconds: float
    note: str = _NOTE


@dataclass
class Done:
    """A job's result."""

    number: int
    ok: bool = True


def order(number: int, sent_at_seconds: float = 0.0, note: str = _NOTE) -> Order:
    """Make an input."""
    return Order(number, sent_at_seconds, note)


def big_note(size: int) -> str:
    """Return so many letters that no compression makes much smaller."""
    return random.Random(size).randbytes(size // 2).hex()


def plain(payload: Order) -> dict[str, Any]:
    """Return an input as a mapping, for libraries that know no types."""
    return {"number": payload.number, "sent_at_seconds": payload.sent_at_seconds, "note": payload.note}


def encoded(payload: Order) -> str:
    """Return an input as JSON."""
    return json.dumps(plain(payload))
