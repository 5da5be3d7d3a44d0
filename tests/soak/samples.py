"""What is measured of a soak now and then, and whether it has stayed flat: the last quarter against the first."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["BOUNDS", "Sample", "Verdict", "judge"]

_WARM_UP_SHARE = 0.1
_MIB = 2**20


class Sample(msgspec.Struct, frozen=True, tag="sample", tag_field="what"):
    """One look.

    Attributes:
        at: When, in seconds since the soak's begin.
        ended: How many jobs have ended and were checked.
        memory: Bytes of memory that the spared worker has resident.
        descriptors: Its open file descriptors.
        threads: Its threads.
        connections: Connections of all workers and clients.
        live: Bytes of the tables of what lives, with their indexes: jobs, workers, bands.
        kept: Bytes of what is kept of ended jobs (finished_jobs, steps, attempts, unread events), a job; 0 before the
            first has ended.
        checker: Bytes of memory that the soak's own process has resident.
    """

    at: float
    ended: int
    memory: int
    descriptors: int
    threads: int
    connections: int
    live: int
    kept: float
    checker: int


BOUNDS: Mapping[str, tuple[Callable[[Sample], float], float, float]] = {
    "memory": (lambda sample: sample.memory, 1.15, 4 * _MIB),
    "descriptors": (lambda sample: sample.descriptors, 1.0, 3),
    "threads": (lambda sample: sample.threads, 1.0, 3),
    "connections": (lambda sample: sample.connections, 1.0, 6),
    "live": (lambda sample: sample.live, 1.5, 2 * _MIB),
    "kept": (lambda sample: sample.kept, 1.2, 50),
    "checker": (lambda sample: sample.checker, 1.5, 32 * _MIB),
}
"""What must be flat: its median in the last quarter is at most so many times that in the first, and so much more."""


class Verdict(msgspec.Struct, frozen=True, tag="verdict", tag_field="what"):
    """How a soak has ended.

    Attributes:
        flat: Whether everything has stayed within its bound.
        medians: Of each measure, in the first quarter and in the last.
        grown: Those that haven't stayed within it.
        jobs_an_hour: How many have ended.
    """

    flat: bool
    medians: dict[str, tuple[float, float]]
    grown: list[str]
    jobs_an_hour: float


def judge(samples: Sequence[Sample]) -> Verdict:
    """Compare the quarters; what comes first, and before the first round has ended, warms up, and isn't looked at.

    Raises:
        ValueError: There are too few samples for quarters.
    """
    warm = [sample for sample in samples[int(len(samples) * _WARM_UP_SHARE) :] if sample.ended]
    quarter = len(warm) // 4
    if not quarter:
        message = f"{len(samples)} samples are too few to compare quarters"
        raise ValueError(message)
    medians: dict[str, tuple[float, float]] = {}
    grown: list[str] = []
    for name, (measure, factor, more) in BOUNDS.items():
        first, last = (median(map(measure, part)) for part in (warm[:quarter], warm[-quarter:]))
        medians[name] = (first, last)
        if last > factor * first + more:
            grown.append(name)
    rate = samples[-1].ended / max(samples[-1].at, 1) * 3600
    return Verdict(flat=not grown, medians=medians, grown=grown, jobs_an_hour=rate)
