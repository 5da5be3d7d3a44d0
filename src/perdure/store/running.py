"""The calls of a running attempt for its own job alone: events, steps, sleeps, payloads brought up to date.

What is written together with checkpoints and outcomes, in batches: `perdure.store.settles`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perdure.store.calls import Call
from perdure.store.jobs import jsonb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from perdure.store.settles import Persist
    from perdure.store.sql import Names

__all__ = [
    "Event",
    "Sleep",
    "SleepBegun",
    "Upgrade",
    "begin_sleep",
    "consume",
    "next_event",
    "steps",
    "take_checkpoint_number",
    "upgrade",
]

# A thousand years: the end of a longer one may lie past the end of PostgreSQL's calendar.
_LONGEST_SLEEP_SECONDS = 1000 * 365.25 * 24 * 60 * 60


class Event(NamedTuple):
    """An event of a job; `data` is JSON, written by code of this version."""

    id: int
    version: int
    data: bytes


class Sleep(NamedTuple):
    """A sleep of a running attempt: where the attempt stands, and what it asks for.

    `found`: the execution metadata, as JSON of code of this version, to be stored with it; None for nothing.
    """

    id: int
    claim: int
    key: str
    seconds: float
    found: bytes | None = None
    version: int = 0


class SleepBegun(NamedTuple):
    """Until when a sleep lasts, whether that is past; and the execution metadata that it was begun with, as JSON."""

    until: datetime | None
    is_over: bool
    found: bytes | None
    version: int


class Upgrade(NamedTuple):
    """Both payloads of a job as newer code has them, as JSON; `checkpoint` is the number of the stored ones."""

    id: int
    claim: int
    checkpoint: int
    metadata: bytes
    execution_metadata: bytes
    version: int


def next_event(names: Names, job_id: int, handed: Sequence[int]) -> Call[Event | None]:
    """Read the oldest event of a job that is not among those handed out already."""
    parameters = {"id": job_id, "handed": list(handed)}
    return Call(names.statements["next_event"], parameters, lambda rows: Event(*rows[0]) if rows else None)


def consume(names: Names, job_id: int, ids: Sequence[int]) -> Call[None]:
    """Delete events in a user's transaction whose last statement is the fence, which guards this as well.

    To be sent in one message with the fence and its COMMIT: else a process that is frozen just then holds locks that
    the job's next attempt waits for.
    """
    return Call(names.statements["consume"], {"id": job_id, "ids": list(ids)}, lambda _rows: None)


def steps(names: Names, job_id: int) -> Call[dict[str, bytes]]:
    """Read what the steps of a job have returned, as JSON, by their keys; sleeps are among them."""
    return Call(names.statements["steps"], {"id": job_id}, dict)


def begin_sleep(names: Names, worker: UUID, sleep: Sleep) -> Call[SleepBegun | None]:
    """Store until when a sleep lasts, unless that is stored already.

    Answers what is stored, and whether it is past by the database's clock; None: the attempt may not write any more.
    """
    parameters = {
        "worker": worker,
        "id": sleep.id,
        "claim": sleep.claim,
        "key": sleep.key,
        "seconds": min(sleep.seconds, _LONGEST_SLEEP_SECONDS),
        "found": None if sleep.found is None else jsonb(sleep.found),
        "version": sleep.version,
    }
    return Call(names.statements["begin_sleep"], parameters, lambda rows: SleepBegun(*rows[0]) if rows else None)


def upgrade(names: Names, worker: UUID, entry: Upgrade) -> Call[bool]:
    """Write both payloads, and the version of the code that wrote them, as the job's next checkpoint.

    Answers whether the attempt might still write, and named the right predecessor.
    """
    parameters = {
        "worker": worker,
        "id": entry.id,
        "claim": entry.claim,
        "checkpoint": entry.checkpoint,
        "metadata": jsonb(entry.metadata),
        "execution_metadata": jsonb(entry.execution_metadata),
        "version": entry.version,
    }
    return Call(names.statements["upgrade"], parameters, bool)


def take_checkpoint_number(names: Names, worker: UUID, entry: Persist) -> Call[int | None]:
    """Take the number of a checkpoint whose COMMIT wasn't acknowledged; may be repeated.

    Answers the number that is stored from now on: the COMMIT hasn't landed and never will. None: it may have landed.
    """
    parameters = {"worker": worker, "id": entry.id, "claim": entry.claim, "checkpoint": entry.checkpoint}
    return Call(names.statements["take_checkpoint_number"], parameters, lambda rows: rows[0][0] if rows else None)
