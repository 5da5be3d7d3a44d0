"""What a scenario's jobs are to do: a list of acts in the metadata, and how far a job has come in its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["Note", "Place", "Plan", "Trouble", "draw_acts"]

_ACTS = {
    "row": 6,  # a row in `ctx.transaction()`
    "effect": 4,  # a line outside of any transaction, then `ctx.persist()`
    "step": 2,
    "work": 4,  # takes a moment
    "wait": 2,  # until an event comes; a row is written for it
    "pause": 2,  # until somebody proceeds it
    "nap": 2,  # `Suspended(until=…)`
    "sleep": 1,  # `ctx.sleep`
    "raise": 2,  # once
    "fail": 1,  # once
}
_MOST_ACTS = 6
_LAST_ACTS = {"": 40, "doom": 1, "cancel": 1}  # none; it raises each time; it returns `Cancelled`
# Of a job with a deadline: it suspends, and nobody lets it go on for good; it runs for ever. Only the deadline ends it.
_LIMITED_LAST_ACTS = {"": 2, "linger": 2, "endure": 1}
_THREADED_ACTS = {name: weight for name, weight in _ACTS.items() if name not in {"step", "work", "sleep"}}


@dataclass
class Plan:
    """A job's metadata.

    Attributes:
        key: What its client calls it.
        acts: What it does, one after the other.
    """

    key: str
    acts: list[str]


@dataclass
class Place:
    """A job's checkpoint; the checkers know its fields.

    Attributes:
        at: How many acts are done.
        rows: How many rows it has written.
        effects: How many effects it has had outside of transactions.
        seen: The events that it has used.
        writer: The attempt that has written this.
        asked: The act that it has suspended in, if it has.
    """

    at: int = 0
    rows: int = 0
    effects: int = 0
    seen: list[str] = field(default_factory=list)
    writer: int = 0
    asked: int = -1


@dataclass
class Note:
    """An event."""

    key: str


@dataclass
class Trouble:
    """An error."""

    attempt: int


def draw_acts(random: Random, *, threaded: bool, limited: bool = False) -> list[str]:
    """Draw what a job does; `limited`: it has a deadline."""
    weights = _THREADED_ACTS if threaded else _ACTS
    acts = random.choices(list(weights), list(weights.values()), k=random.randint(0, _MOST_ACTS))
    lasts = _LIMITED_LAST_ACTS if limited else _LAST_ACTS
    [last] = random.choices(list(lasts), list(lasts.values()))
    if threaded and last == "endure":  # a thread can't be interrupted
        last = "linger"
    return [*acts, last] if last else acts
