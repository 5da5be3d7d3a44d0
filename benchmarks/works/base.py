"""What a piece of work is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.bench import Bench, Figures
from benchmarks.contenders import Contender

__all__ = ["Measure", "Work", "in_turn"]

Measure: TypeAlias = Callable[[Bench, Sequence[Contender]], Awaitable[dict[str, Figures]]]
"""Does the work once for each contender, in the order given, and returns their figures by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A piece of work that is measured.

    Attributes:
        name: As it is asked for.
        about: What is done.
        measure: Does it.
        contenders: Who does it; those that aren't installed are left out.
        together: Whether it is done for all contenders by one call, and not one after the other.
        most_rounds: How often, if not in every round: for what takes minutes.
    """

    name: str
    about: str
    measure: Measure
    contenders: tuple[Contender, ...]
    together: bool = False
    most_rounds: int | None = None


def in_turn(one: Callable[[Bench, Contender], Awaitable[Figures]]) -> Measure:
    """Let one contender do it after the other."""

    async def measure(bench: Bench, contenders: Sequence[Contender]) -> dict[str, Figures]:
        return {contender.name: await one(bench, contender) for contender in contenders}

    return measure
