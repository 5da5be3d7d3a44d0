"""The calls of clients: start, read, proceed, cancel, wait. Payloads go in and out as encoded JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from perdure.store.arrays import jsonbs
from perdure.store.calls import Call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from perdure.store.sql import Names

__all__ = [
    "JobRow",
    "Started",
    "StartedMany",
    "await_end",
    "cancel",
    "finished",
    "get",
    "page",
    "proceed",
    "request_cancel",
    "start",
    "start_many",
]


class JobRow(NamedTuple):
    """A job as stored; `state` is a code of `JobState`, payloads are JSON."""

    id: int
    state: int
    task: str
    queue: str
    priority: int
    attempt: int
    retry_number: int
    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: UUID | None
    cancel_requested: bool
    metadata: bytes
    execution_metadata: bytes
    result: bytes | None
    error: bytes | None
    last_error: str | None
    progress: bytes | None


class Started(NamedTuple):
    """What the database decided about a started job."""

    id: int
    created_at: datetime
    scheduled_at: datetime


class StartedMany(NamedTuple):
    """What the database decided about a batch of started jobs; ids in the order of the input."""

    ids: list[int]
    created_at: datetime
    scheduled_at: datetime


def start(  # noqa: PLR0913 - an argument a column
    names: Names,
    *,
    task: str,
    queue: str,
    priority: int,
    metadata: bytes,
    execution_metadata: bytes,
    at: datetime | None,
    after: timedelta | None,
    notify: bool,
) -> Call[Started]:
    """Store one job, due `at` a time or `after` a duration by the database's clock, else now.

    With `notify` the workers are told in any case: for a caller's transaction, of which nobody knows when it ends.
    """
    parameters = {
        "task": task,
        "queue": queue,
        "priority": priority,
        "metadata": jsonb(metadata),
        "execution_metadata": jsonb(execution_metadata),
        "at": at,
        "after": after,
        "notify": notify,
        "channel": names.work_channel,
    }
    is_dated = at is not None or after is not None  # perhaps beyond Python's calendar
    return Call(names.statements["start"], parameters, lambda rows: Started(*rows[0][:3]), packs=is_dated)


def start_many(  # noqa: PLR0913 - an argument a column
    names: Names,
    *,
    task: str,
    queue: str,
    priority: int,
    metadata: Sequence[bytes],
    execution_metadata: bytes,
    at: datetime | None,
    after: timedelta | None,
    notify: bool,
) -> Call[StartedMany]:
    """Store many jobs that differ in their metadata only; arguments as for `start`."""
    parameters = {
        "task": task,
        "queue": queue,
        "priority": priority,
        "metadata": jsonbs(metadata),
        "execution_metadata": jsonb(execution_metadata),
        "at": at,
        "after": after,
        "notify": notify,
        "channel": names.work_channel,
    }
    return Call(names.statements["start_many"], parameters, lambda rows: StartedMany(rows[0][0] or [], *rows[0][1:3]))


def get(names: Names, job_id: int) -> Call[JobRow | None]:
    """Read one job."""
    return Call(names.statements["get"], {"id": job_id}, lambda rows: JobRow(*rows[0]) if rows else None)


def page(  # noqa: PLR0913 - an argument a filter
    names: Names,
    *,
    after: int | None,
    limit: int,
    descending: bool = False,
    states: Sequence[int] | None = None,
    tasks: Sequence[str] | None = None,
    queues: Sequence[str] | None = None,
    metadata: bytes | None = None,
    execution_metadata: bytes | None = None,
    created_after: datetime | None = None,
    max_scheduled_at: datetime | None = None,
) -> Call[list[JobRow]]:
    """Read a page of jobs by id, behind the id `after`; filters that are None don't filter."""
    if after is None:
        after = 2**63 - 1 if descending else -(2**63)
    parameters = {
        "after": after,
        "limit": limit,
        "states": None if states is None else list(states),
        "names": None if tasks is None else list(tasks),
        "queues": None if queues is None else list(queues),
        "metadata": None if metadata is None else jsonb(metadata),
        "execution_metadata": None if execution_metadata is None else jsonb(execution_metadata),
        "created_after": created_after,
        "max_scheduled_at": max_scheduled_at,
    }
    statement = names.statements["list_descending" if descending else "list"]
    return Call(statement, parameters, lambda rows: [JobRow(*row) for row in rows])


def proceed(names: Names, job_id: int, *, at: datetime | None, after: timedelta | None) -> Call[bool]:
    """Let a suspended job go on, or a running one remember it; False when the job is neither (or isn't there)."""
    parameters = {"id": job_id, "at": at, "after": after, "channel": names.work_channel}
    return Call(names.statements["proceed"], parameters, bool)


def cancel(names: Names, job_id: int) -> Call[bool]:
    """Cancel a job that isn't running; False when it runs, has ended, or isn't there."""
    return Call(names.statements["cancel"], {"id": job_id, "done_channel": names.done_channel}, bool)


def request_cancel(names: Names, job_id: int) -> Call[bool]:
    """Ask for the cancellation of a running job, and tell its worker; False when it isn't running."""
    parameters = {"id": job_id, "cancel_channel": names.cancel_channel}
    return Call(names.statements["request_cancel"], parameters, bool)


def await_end(names: Names, job_ids: Sequence[int]) -> Call[None]:
    """Ask to be notified of these jobs' ends; read the jobs afterwards, since some may have ended before."""
    return Call(names.statements["await"], {"ids": list(job_ids)}, lambda _rows: None)


def finished(names: Names, job_ids: Sequence[int]) -> Call[list[int]]:
    """Tell which of these jobs have ended or are gone."""
    return Call(names.statements["finished"], {"ids": list(job_ids)}, lambda rows: [row[0] for row in rows])


def jsonb(data: bytes) -> str:
    """Hand encoded JSON to a `::jsonb` placeholder."""
    return data.decode()
