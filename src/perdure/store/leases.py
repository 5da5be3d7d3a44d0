"""The calls for workers' leases and for the rescue of jobs whose worker has lost its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.store.arrays import int8s, texts
from perdure.store.calls import Call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from perdure.store.sql import Names

__all__ = [
    "CancelRequest",
    "LapsedJob",
    "Revived",
    "Stray",
    "Sweep",
    "WorkerRow",
    "cancelling",
    "expire",
    "forget_workers",
    "forgive",
    "heal_bands",
    "lapsed_jobs",
    "loss",
    "make_notification_room",
    "register",
    "remove",
    "renew",
    "revive",
    "set_sleeping",
    "strays",
    "sweep",
    "wake",
    "workers",
]


class CancelRequest(NamedTuple):
    """A job whose cancellation was requested, and the claim that was there by then."""

    id: int
    claim: int


class LapsedJob(NamedTuple):
    """A job of a lapsed worker, as far as its rescue is decided by it; `has_left`: the worker isn't to blame."""

    id: int
    claim: int
    checkpoint: int
    persisted: bool
    retry_number: int
    scheduler_retries: int
    lapses: int
    cancel_requested: bool
    proceed_requested: bool
    woken_by: int
    task: str
    has_left: bool


class Stray(NamedTuple):
    """A job that this worker holds without knowing."""

    id: int
    claim: int
    checkpoint: int
    cancel_requested: bool


class Revived(NamedTuple):
    """How many jobs are due since their code has come, and how many had waited: more, where some are locked."""

    revived: int
    waited: int


class Sweep(NamedTuple):
    """What a sweep has found.

    Attributes:
        lapsed: Ids whose lease it has marked as lapsed.
        lost: Ids that hold jobs and have no lease.
        next_lapse_seconds: Until the first lease of another worker ends, if nobody renews it; None without another.
        suspect_due: Whether a suspect of the queues waits to be claimed.
        deadline_due: Whether a job that no worker holds is past its deadline.
        next_deadline_seconds: Until the next deadline of such a job; None without one.
    """

    lapsed: list[UUID]
    lost: list[UUID]
    next_lapse_seconds: float | None
    suspect_due: bool
    deadline_due: bool
    next_deadline_seconds: float | None


class WorkerRow(NamedTuple):
    """A worker as people see it."""

    id: UUID
    host: str
    pid: int
    started_at: datetime
    lease_until: datetime
    lapsed_at: datetime | None
    concurrency: int
    queues: list[str] | None
    version: str
    sleeping: bool


def register(
    names: Names,
    worker: UUID,
    *,
    lease_seconds: float,
    host: str,
    pid: int,
    concurrency: int,
    queues: Sequence[str] | None,
    version: str,
) -> Call[None]:
    """Insert the worker's row with its first lease."""
    parameters = {
        "id": worker,
        "lease_seconds": lease_seconds,
        "host": host,
        "pid": pid,
        "concurrency": concurrency,
        "queues": None if queues is None else list(queues),
        "version": version,
    }
    return Call(names.statements["register_worker"], parameters, lambda _rows: None)


def renew(names: Names, worker: UUID) -> Call[bool]:
    """Renew a lease that hasn't lapsed; False when it has, or was registered on another time line."""
    return Call(names.statements["renew_lease"], {"id": worker}, bool)


def loss(names: Names, worker: UUID) -> Call[str]:
    """Tell why a lease couldn't be renewed, as half a sentence."""
    return Call(names.statements["loss"], {"id": worker}, _loss)


def _loss(rows: Sequence[tuple[Any, ...]]) -> str:
    if not rows:
        return "this database doesn't know of it: its row was deleted, or never came to the server that took over"
    if rows[0][0]:
        return "another server has taken over, which may lack the last of what this worker had written"
    return "it had lapsed by the database's clock"


def remove(names: Names, worker: UUID) -> Call[None]:
    """Give the lease back."""
    return Call(names.statements["remove_worker"], {"id": worker}, lambda _rows: None)


def set_sleeping(names: Names, worker: UUID, *, sleeping: bool) -> Call[None]:
    """Tell starters whether this worker has to be notified."""
    return Call(names.statements["sleep"], {"id": worker, "sleeping": sleeping}, lambda _rows: None)


def strays(names: Names, worker: UUID, known: Sequence[int]) -> Call[list[Stray]]:
    """Find jobs that this worker holds and doesn't know of."""
    parameters = {"worker": worker, "known": int8s(known)}
    return Call(names.statements["strays"], parameters, lambda rows: [Stray(*row) for row in rows])


def cancelling(names: Names, worker: UUID) -> Call[list[CancelRequest]]:
    """Find the worker's own jobs whose cancellation was requested."""
    parameters = {"worker": worker}
    return Call(names.statements["cancelling"], parameters, lambda rows: [CancelRequest(*row) for row in rows])


def sweep(names: Names, worker: UUID, *, scans: bool = True, queues: Sequence[str] | None = None) -> Call[Sweep]:
    """Mark the leases that have lapsed by the database's clock, and tell what there is to rescue.

    Args:
        names: The schema's names.
        worker: Who sweeps.
        scans: Whether to look for jobs whose holders have no lease, which may cost much.
        queues: Those of which this worker takes suspects; all, if None.
    """
    parameters = {
        "worker": worker,
        "scans": scans,
        "queues": None if queues is None else texts([queue.encode() for queue in queues]),
    }
    return Call(names.statements["sweep"], parameters, lambda rows: Sweep(*rows[0]))


def expire(names: Names, *, error: bytes, last_error: bytes, limit: int, stepped_over: int = 0) -> Call[int]:
    """Fail jobs that are past their deadline and that no worker holds; answers how many.

    Args:
        names: The schema's names.
        error: Of each, as the column holds it: JSON.
        last_error: Of each, one line.
        limit: The most at once.
        stepped_over: How many of the first are left out.
    """
    parameters = {
        "stepped_over": stepped_over,
        "error": error.decode(),
        "last_error": last_error.decode(),
        "limit": limit,
        "done_channel": names.done_channel,
    }
    return Call(names.statements["expire"], parameters, lambda rows: int(rows[0][0]))


def wake(names: Names) -> Call[None]:
    """Wake all workers that listen."""
    return Call(names.statements["notify"], {"channel": names.work_channel, "payload": ""}, lambda _rows: None)


def make_notification_room(names: Names) -> Call[None]:
    """Let the server find out what of its full queue of notifications is read."""
    return Call(names.statements["notification_room"], {}, lambda _rows: None)


def lapsed_jobs(names: Names, worker: UUID, *, limit: int, skipped: Sequence[int] = ()) -> Call[list[LapsedJob]]:
    """Lock some jobs of a worker without a lease, but for the skipped ones; answers them sorted by id."""
    parameters = {"worker": worker, "limit": limit, "skipped": int8s(skipped)}
    return Call(names.statements["lapsed_jobs"], parameters, lambda rows: sorted(LapsedJob(*row) for row in rows))


def forgive(names: Names, worker: UUID, ids: Sequence[int]) -> Call[int]:
    """Take back the lapses that were counted against these jobs: the worker is alive after all.

    Answers how many of them somebody had locked for a moment: ask again.
    """
    parameters = {"worker": worker, "ids": int8s(sorted(ids))}
    return Call(names.statements["forgive"], parameters, lambda rows: int(rows[0][0]))


def revive(names: Names, tasks: Sequence[str], *, limit: int) -> Call[Revived]:
    """Make jobs of these tasks due that waited for a worker that can read them, so many at most."""
    parameters = {"names": texts([task.encode() for task in tasks]), "limit": limit}
    return Call(names.statements["revive"], parameters, lambda rows: Revived(*rows[0]))


def forget_workers(names: Names) -> Call[None]:
    """Delete the rows of workers that lapsed long ago."""
    return Call(names.statements["forget_workers"], {}, lambda _rows: None)


def heal_bands(names: Names) -> Call[list[tuple[str, int]]]:
    """Add the bands (queue, priority) that jobs are in without being known; answers those."""
    return Call(names.statements["heal_bands"], {}, lambda rows: sorted((row[0], row[1]) for row in rows))


def workers(names: Names) -> Call[list[WorkerRow]]:
    """Read all workers."""
    return Call(names.statements["workers"], {}, lambda rows: [WorkerRow(*row) for row in rows])
