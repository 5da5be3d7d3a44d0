"""What a demo tells while it runs, and its report at the end. Whoever shows them decides how they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from perdure.errors import PerdureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perdure.demo.compare import Difference
    from perdure.demo.faults import Kind

__all__ = [
    "AttemptBegan",
    "Begun",
    "Comparing",
    "DemoFailed",
    "Event",
    "JobEnded",
    "Missed",
    "Progressed",
    "Report",
    "Struck",
    "Survived",
    "WorkerStarted",
    "ZombieRefused",
]


class DemoFailed(PerdureError):
    """The demo couldn't come to its end; the message says how far it was. No part of the library."""


@dataclass(frozen=True)
class Begun:
    """The job is started; no worker is, yet."""

    python: str
    modules: int
    page_size: int
    seed: int
    faults: int


@dataclass(frozen=True)
class WorkerStarted:
    """A worker process was started."""

    pid: int


@dataclass(frozen=True)
class AttemptBegan:
    """A worker runs the job, from its checkpoint on."""

    attempt: int
    pid: int
    done: int


@dataclass(frozen=True)
class Progressed:
    """So many modules are indexed and committed; `attempt` is the last, `pid` the worker that is at work on it."""

    done: int
    total: int
    attempt: int
    pid: int | None


@dataclass(frozen=True)
class Struck:
    """A fault happens now."""

    number: int
    kind: Kind
    pid: int
    done: int


@dataclass(frozen=True)
class Survived:
    """Another worker goes on with the job; `lost_seconds` have passed since the fault."""

    number: int
    kind: Kind
    attempt: int
    pid: int
    lost_seconds: float


@dataclass(frozen=True)
class ZombieRefused:
    """A thawed worker, which thought that it had the job still, got `LeaseLost` when it wanted to write."""

    pid: int
    attempt: int


@dataclass(frozen=True)
class Missed:
    """The job had ended before this fault could strike."""

    number: int
    kind: Kind


@dataclass(frozen=True)
class JobEnded:
    """The job is completed."""

    seconds: float
    attempts: int


@dataclass(frozen=True)
class Comparing:
    """The index in one go, which the tables are compared with, is so far."""

    done: int
    total: int


Event: TypeAlias = (
    Begun
    | WorkerStarted
    | AttemptBegan
    | Progressed
    | Struck
    | Survived
    | ZombieRefused
    | Missed
    | JobEnded
    | Comparing
)


@dataclass(frozen=True)
class Report:
    """What has come of it.

    Attributes:
        counts: The rows of each table.
        attempts: How many there were.
        job_seconds: How long the job took, faults and all.
        plain_seconds: How long the same took in one go.
        survived: The faults.
        differences: Between the tables and the index made in one go.
    """

    counts: Mapping[str, int]
    attempts: int
    job_seconds: float
    plain_seconds: float
    survived: Sequence[Survived]
    differences: Sequence[Difference]

    @property
    def is_exact(self) -> bool:
        """Whether every row is there exactly once."""
        return not self.differences
