"""How often a fault is tried, and with which seeds: a few times on every push, far more often in `make faults`.

A run has one seed, which pytest prints; `make faults SEED=…` repeats it. Every test derives its own from it, so that a
test that fails can be run again alone, with the same seeds.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SEED", "TIER", "count", "drawn", "seeds"]

T = TypeVar("T")

Tier = Literal["push", "nightly"]

_TIERS: dict[str, Tier] = {"push": "push", "nightly": "nightly"}


def _the_tier() -> Tier:
    name = os.environ.get("PERDURE_TEST_TIER", "push")
    if name not in _TIERS:
        message = f"PERDURE_TEST_TIER is {name!r}; it can be {' or '.join(_TIERS)}"
        raise ValueError(message)
    return _TIERS[name]


def _the_seed() -> int:
    # In the environment, so that the processes of a run that share its tests agree on them.
    if not os.environ.get("PERDURE_TEST_SEED"):
        os.environ["PERDURE_TEST_SEED"] = str(random.SystemRandom().randrange(1_000_000))
    return int(os.environ["PERDURE_TEST_SEED"])


TIER = _the_tier()
SEED = _the_seed()


def count(*, push: int, nightly: int) -> int:
    """Return how often to try in this run's tier."""
    return push if TIER == "push" else nightly


def seeds(name: str, *, push: int, nightly: int) -> list[int]:
    """Return as many seeds as this run's tier tries, derived from the run's seed and `name`, which is the test's."""
    source = random.Random(f"{SEED} {name}")
    return [source.randrange(1_000_000) for _ in range(count(push=push, nightly=nightly))]


def drawn(name: str, cases: Sequence[T], *, push: int) -> list[T]:
    """Return all cases, or as many of them as a push tries, drawn by the run's seed and `name`, in their order."""
    if TIER != "push":
        return list(cases)
    places = random.Random(f"{SEED} {name}").sample(range(len(cases)), push)
    return [cases[place] for place in sorted(places)]
