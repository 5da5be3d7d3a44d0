"""The calls of clients: start, read, proceed, send, cancel, retry, wait. Payloads go in and out as encoded JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.store.arrays import int8s, jsonbs
from perdure.store.calls import Call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Unpack
    from uuid import UUID

    from perdure.query import Filters
    from perdure.store.sql import Names

__all__ = [
    "AttemptRow",
    "JobRow",
    "Locked",
    "NewPayloads",
    "Proceeding",
    "Started",
    "StartedMany",
    "await_end",
    "cancel",
    "find",
    "finished",
    "get",
    "get_many",
    "history",
    "hold",
    "lock",
    "page",
    "proceed",
    "request_cancel",
    "retry",
    "send",
    "start",
    "start_many",
    "unread_events",
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
    woken_by: int
    deadline_at: datetime | None
    version: int


class AttemptRow(NamedTuple):
    """An attempt as stored; `ending` and `woken_by` are codes, `error` is JSON."""

    attempt: int
    worker_id: UUID | None
    started_at: datetime | None
    ended_at: datetime | None
    ending: int
    woken_by: int
    error: bytes | None


class Proceeding(NamedTuple):
    """Whether a job goes on, and the job as it is now."""

    goes_on: bool
    row: JobRow


class Locked(NamedTuple):
    """A locked job: its checkpoint's number, and whether it waits to be let go on."""

    checkpoint: int
    waits: bool
    row: JobRow


class NewPayloads(NamedTuple):
    """Payloads to be stored with a move: of the code's version, `metadata` only when that changes it."""

    execution_metadata: bytes
    metadata: bytes | None
    version: int


class Started(NamedTuple):
    """What the database decided about a started job."""

    id: int
    created_at: datetime
    scheduled_at: datetime
    deadline_at: datetime | None = None


class StartedMany(NamedTuple):
    """What the database decided about a batch of started jobs; ids in the order of the input."""

    ids: list[int]
    created_at: datetime
    scheduled_at: datetime
    deadline_at: datetime | None = None


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
    deadline: timedelta | None = None,
    version: int = 1,
) -> Call[Started]:
    """Store one job, due `at` a time or `after` a duration by the database's clock, else now.

    The `deadline` counts from when it is due; `version` is that of the code that encoded the payloads. With `notify`
    the workers are told in any case: for a caller's transaction, of which nobody knows when it ends.
    """
    parameters = {
        "task": task,
        "queue": queue,
        "priority": priority,
        "metadata": jsonb(metadata),
        "execution_metadata": jsonb(execution_metadata),
        "at": at,
        "after": interval(after),
        "deadline": interval(deadline),
        "version": version,
        "notify": notify,
        "channel": names.work_channel,
    }
    return Call(names.statements["start"], parameters, lambda rows: Started(*rows[0][:4]))


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
    deadline: timedelta | None = None,
    version: int = 1,
) -> Call[StartedMany]:
    """Store many jobs that differ in their metadata only; arguments as for `start`."""
    parameters = {
        "task": task,
        "queue": queue,
        "priority": priority,
        "metadata": jsonbs(metadata),
        "execution_metadata": jsonb(execution_metadata),
        "at": at,
        "after": interval(after),
        "deadline": interval(deadline),
        "version": version,
        "notify": notify,
        "channel": names.work_channel,
    }
    return Call(names.statements["start_many"], parameters, lambda rows: StartedMany(rows[0][0] or [], *rows[0][1:4]))


def get(names: Names, job_id: int) -> Call[JobRow | None]:
    """Read one job."""
    return Call(names.statements["get"], {"id": job_id}, lambda rows: JobRow(*rows[0]) if rows else None)


def get_many(names: Names, job_ids: Sequence[int]) -> Call[dict[int, JobRow]]:
    """Read those of these jobs that there are."""

    def read(rows: Sequence[tuple[Any, ...]]) -> dict[int, JobRow]:
        return {row.id: row for row in map(JobRow._make, rows)}

    return Call(names.statements["get_many"], {"ids": int8s(job_ids)}, read)


def page(
    names: Names, *, after: int | None, limit: int, descending: bool = False, **filters: Unpack[Filters]
) -> Call[list[JobRow]]:
    """Read a page of jobs by id, behind the id `after`."""
    if after is None:
        after = 2**63 - 1 if descending else -(2**63)
    parameters = {"after": after, "limit": limit, **_filters(filters)}
    statement = names.statements["list_descending" if descending else "list"]
    return Call(statement, parameters, lambda rows: [JobRow(*row) for row in rows])


def find(names: Names, *, limit: int, **filters: Unpack[Filters]) -> Call[list[JobRow]]:
    """Read the first live jobs by id; none that has ended is looked at."""
    parameters = {"limit": limit, **_filters(filters)}
    return Call(names.statements["find"], parameters, lambda rows: [JobRow(*row) for row in rows])


def history(names: Names, job_id: int) -> Call[list[AttemptRow]]:
    """Read a job's attempts by number, one that runs included."""
    return Call(names.statements["history"], {"id": job_id}, lambda rows: [AttemptRow(*row) for row in rows])


def unread_events(names: Names, job_id: int) -> Call[int]:
    """Count the events that a job hasn't consumed."""
    return Call(names.statements["unread_events"], {"id": job_id}, lambda rows: int(rows[0][0]))


def lock(
    names: Names, job_id: int, *, task: str | None = None, at: datetime | None = None, after: timedelta | None = None
) -> Call[Locked | None]:
    """Lock a live job until the transaction ends; None when it isn't live, or of another task than that given."""
    parameters = {"id": job_id, "task": task, "at": at, "after": interval(after)}
    return Call(
        names.statements["lock"],
        parameters,
        lambda rows: Locked(rows[0][0], bool(rows[0][1]), JobRow(*rows[0][2:])) if rows else None,
    )


def hold(names: Names, job_id: int) -> Call[bool]:
    """Keep a live job from being suspended and from ending until the transaction ends; False when it isn't live."""
    return Call(names.statements["hold"], {"id": job_id}, bool)


def proceed(
    names: Names,
    job_id: int,
    *,
    at: datetime | None,
    after: timedelta | None,
    task: str | None = None,
    checkpoint: int | None = None,
    payloads: NewPayloads | None = None,
) -> Call[Proceeding | None]:
    """Let a suspended job go on, or a running one remember it; None when it isn't live, or of another task.

    With `payloads` these are stored, if the stored ones still are those of `checkpoint`; not in a running job.
    """
    parameters = {
        "id": job_id,
        "at": at,
        "after": interval(after),
        "task": task,
        "checkpoint": checkpoint,
        "channel": names.work_channel,
        **_payloads(payloads),
    }
    return Call(
        names.statements["proceed"],
        parameters,
        lambda rows: Proceeding(rows[0][0], JobRow(*rows[0][2:])) if rows else None,
    )


def send(names: Names, job_id: int, *, task: str, version: int, event: bytes, notify: bool) -> Call[int | None]:
    """Store an event, and let its job go on; answers the job's state, None when it isn't live or of another task.

    With `notify` the workers are told in any case, as for `start`.
    """
    parameters = {
        "id": job_id,
        "task": task,
        "version": version,
        "event": jsonb(event),
        "notify": notify,
        "channel": names.work_channel,
    }
    return Call(names.statements["send"], parameters, lambda rows: rows[0][0])


def retry(
    names: Names, job_id: int, *, attempt: int | None = None, payloads: NewPayloads | None = None
) -> Call[JobRow | None]:
    """Take an ended job back to pending, and answer with it; None when there is no such ended job.

    With `payloads` it begins afresh with these, if `attempt` is still its last.
    """
    parameters = {"id": job_id, "attempt": attempt, "channel": names.work_channel, **_payloads(payloads)}
    return Call(names.statements["retry"], parameters, lambda rows: JobRow(*rows[0][1:]) if rows else None)


def cancel(names: Names, job_id: int) -> Call[bool]:
    """Cancel a job that isn't running; False when it runs, has ended, or isn't there."""
    return Call(names.statements["cancel"], {"id": job_id, "done_channel": names.done_channel}, bool)


def request_cancel(names: Names, job_id: int) -> Call[bool]:
    """Ask for the cancellation of a running job, and tell its worker; False when it isn't running."""
    parameters = {"id": job_id, "cancel_channel": names.cancel_channel}
    return Call(names.statements["request_cancel"], parameters, bool)


def await_end(names: Names, job_ids: Sequence[int]) -> Call[list[int]]:
    """Ask to be notified of these jobs' ends; read the jobs afterwards, since some may have ended before.

    Answers those that have to be asked for again, since somebody has their row locked.
    """
    return Call(names.statements["await"], {"ids": int8s(job_ids)}, lambda rows: [row[0] for row in rows])


def finished(names: Names, job_ids: Sequence[int]) -> Call[list[int]]:
    """Tell which of these jobs have ended or are gone."""
    return Call(names.statements["finished"], {"ids": int8s(job_ids)}, lambda rows: [row[0] for row in rows])


def jsonb(data: bytes) -> str:
    """Hand encoded JSON to a `::jsonb` placeholder."""
    return data.decode()


def interval(duration: timedelta | None) -> str | None:
    """Hand a duration to an `::interval` placeholder: without days, which some time zones have of 23 or 25 hours.

    Nor as a count of microseconds: PostgreSQL 14 reads no number of more than 31 bits, which are 35 minutes.
    """
    if duration is None:
        return None
    sign = "-" if duration < timedelta() else ""
    seconds, microseconds = divmod(abs(duration) // timedelta(microseconds=1), 1_000_000)
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{microseconds:06}"


def _payloads(new: NewPayloads | None) -> dict[str, Any]:
    return {
        "execution_metadata": None if new is None else jsonb(new.execution_metadata),
        "metadata": None if new is None or new.metadata is None else jsonb(new.metadata),
        "version": None if new is None else new.version,
    }


def _filters(filters: Filters) -> dict[str, Any]:
    metadata, execution_metadata = filters.get("metadata"), filters.get("execution_metadata")
    return {
        "states": _list(filters.get("states")),
        "names": _list(filters.get("tasks")),
        "queues": _list(filters.get("queues")),
        "metadata": None if metadata is None else jsonb(metadata),
        "execution_metadata": None if execution_metadata is None else jsonb(execution_metadata),
        "created_after": filters.get("created_after"),
        "max_scheduled_at": filters.get("max_scheduled_at"),
    }


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
