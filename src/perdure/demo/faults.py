"""What is done to the workers, and when: drawn from the seed. Does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

__all__ = ["Fault", "Kind", "plan_faults"]

# The share of the work before whose end all faults have struck: a job that has ended can't be disturbed any more.
_SHARE: Final = 0.85
_LONGEST_DELAY_SECONDS: Final = 0.1


class Kind(Enum):
    """What can happen to a worker."""

    STOP = "SIGTERM"
    KILL = "SIGKILL"
    FREEZE = "SIGSTOP"


@dataclass(frozen=True)
class Fault:
    """Something that happens to the worker that holds the job.

    Attributes:
        number: Which of them it is, from 1.
        kind: What it is.
        after: How many modules are indexed before.
        delay_seconds: How long after that it happens: in the midst of a page, or of its commit.
    """

    number: int
    kind: Kind
    after: int
    delay_seconds: float


def plan_faults(random: Random, count: int, modules: int) -> list[Fault]:
    """Spread faults over the work: one at a random point of each of `count` equal parts.

    Every kind comes as often as the others, or once more.
    """
    kinds = [kind for _round in range(-(-count // len(Kind))) for kind in random.sample(list(Kind), len(Kind))]
    length = modules * _SHARE / max(1, count)
    return [
        Fault(
            number=part + 1,
            kind=kind,
            after=int((part + random.random()) * length),
            delay_seconds=random.uniform(0, _LONGEST_DELAY_SECONDS),
        )
        for part, kind in enumerate(kinds[:count])
    ]
