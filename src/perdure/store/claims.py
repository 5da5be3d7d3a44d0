"""The calls by which a worker claims jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.store.arrays import float8s, int2s, int8s, texts
from perdure.store.calls import Call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from perdure.store.sql import Names

__all__ = [
    "EVERYWHERE",
    "Band",
    "Claimed",
    "Claims",
    "Floor",
    "Front",
    "bands",
    "claim",
    "claim_band",
    "claim_suspect",
]


class Claimed(NamedTuple):
    """A job that this worker has just claimed; payloads are JSON.

    `deadline_seconds` is what is left, by the database's clock; 0 or less when the deadline is past.
    """

    id: int
    task: str
    claim: int
    attempt: int
    retry_number: int
    scheduler_retries: int
    lapses: int
    checkpoint: int
    queue: str
    metadata: bytes
    execution_metadata: bytes
    priority: int
    scheduled_at_seconds: float
    woken_by: int
    version: int
    deadline_seconds: float | None


class Band(NamedTuple):
    """A line of jobs of one priority."""

    queue: str
    priority: int


class Floor(NamedTuple):
    """Where a claim begins in a band: at this due time and id, since what is before is known to be taken."""

    queue: str
    priority: int
    at_seconds: float
    id: int


class Front(NamedTuple):
    """Where a claim begins.

    Attributes:
        floors: In bands, of each of which it is known.
        others_at_seconds: At this due time in all others; None is everywhere.
    """

    floors: Sequence[Floor]
    others_at_seconds: float | None


EVERYWHERE: Final = Front((), None)
# Where the last row of a claim, which is no job, has what it tells of the time.
_ASKED_AT = Claimed._fields.index("scheduled_at_seconds")


class Claims(NamedTuple):
    """What a claim has brought.

    Attributes:
        jobs: In the order of the line.
        left_out: Whether a due job was left out, since somebody has its row locked for a moment.
        asked_at_seconds: When it began, by the database's clock: what was due by then has been looked at.
        other_bands: Whether the worker serves other bands than the one that was claimed from; None where it was all.
    """

    jobs: list[Claimed]
    left_out: bool
    asked_at_seconds: float
    other_bands: bool | None = None


def _place_in_line(job: Claimed) -> tuple[int, float, int]:
    return -job.priority, job.scheduled_at_seconds, job.id


def _claims(rows: Sequence[tuple[Any, ...]]) -> Claims:
    *claimed, told = rows
    # The order of "returning" isn't promised, that of the jobs is.
    jobs = sorted(map(Claimed._make, claimed), key=_place_in_line)
    other_bands = None if told[2] is None else bool(told[2])
    return Claims(jobs, bool(told[3]), told[_ASKED_AT], other_bands)


def claim(
    names: Names, worker: UUID, *, want: int, queues: Sequence[str] | None, front: Front = EVERYWHERE
) -> Call[Claims]:
    """Take up to `want` due jobs of these queues (all, if None)."""
    floors = front.floors
    parameters = {
        "worker": worker,
        "want": want,
        "queues": None if queues is None else texts([queue.encode() for queue in queues]),
        "floor_queues": texts([floor.queue.encode() for floor in floors]),
        "floor_priorities": int2s([floor.priority for floor in floors]),
        "floor_ats": float8s([floor.at_seconds for floor in floors]),
        "floor_ids": int8s([floor.id for floor in floors]),
        "others_at": front.others_at_seconds,
    }
    return Call(names.statements["claim"], parameters, _claims)


def claim_band(
    names: Names, worker: UUID, *, want: int, queues: Sequence[str] | None, band: Band, front: Front = EVERYWHERE
) -> Call[Claims]:
    """Take up to `want` due jobs of one band, if there is no other of these queues (all, if None)."""
    floor_at_seconds, floor_id = next(
        ((floor.at_seconds, floor.id) for floor in front.floors if floor[:2] == band), (front.others_at_seconds, 0)
    )
    parameters = {
        "worker": worker,
        "want": want,
        "queues": None if queues is None else texts([queue.encode() for queue in queues]),
        "queue": band.queue,
        "priority": band.priority,
        "floor_at": floor_at_seconds,
        "floor_id": floor_id,
    }
    return Call(names.statements["claim_band"], parameters, _claims)


def bands(names: Names) -> Call[list[Band]]:
    """Read which bands there are; some may be there twice."""
    return Call(names.statements["bands"], {}, lambda rows: [Band(*row) for row in rows])


def claim_suspect(names: Names, worker: UUID, *, queues: Sequence[str] | None) -> Call[list[Claimed]]:
    """Take one due suspect, if there is one."""
    parameters = {"worker": worker, "queues": None if queues is None else texts([queue.encode() for queue in queues])}
    return Call(names.statements["claim_suspect"], parameters, lambda rows: [Claimed(*row) for row in rows])
