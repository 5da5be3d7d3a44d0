"""What the jobs of all measurements carry, on both sides: some 100 bytes of JSON in, a few out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Done", "Order", "order"]

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


def order(number: int, sent_at_seconds: float = 0.0) -> Order:
    """Make an input."""
    return Order(number, sent_at_seconds)
