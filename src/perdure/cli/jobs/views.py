"""A job as the command line shows it: as a row, as fields, as JSON.

The jobs are those of an app without tasks, so their payloads are plain JSON values.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.cli.output import time_text
from perdure.cli.text import json_text
from perdure.core.failure import Raised
from perdure.core.states import JobState, WokenBy
from perdure.errors import PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.history import AttemptRecord
    from perdure.job import Job, JobProgress

__all__ = [
    "HEADER",
    "as_fields",
    "as_json",
    "as_row",
    "error_as_json",
    "error_line",
    "error_of",
    "iso",
    "progress_text",
    "style_of",
    "woken_by",
]

HEADER: Final = ("id", "name", "state", "queue", "attempt", "due", "progress", "last error")

_STYLES: Final = {
    JobState.RUNNING: "cyan",
    JobState.RETRYING: "yellow",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}


def style_of(state: JobState) -> str:
    """Return the style of a state on a terminal."""
    return _STYLES.get(state, "")


def as_row(job: Job[Any, Any, Any, Any]) -> tuple[str, ...]:
    """Return the cells under `HEADER`."""
    return (
        str(job.id),
        job.name,
        job.state.value,
        job.queue,
        str(job.attempt),
        _due(job),
        progress_text(job.progress),
        job.last_error or "",
    )


def as_fields(job: Job[Any, Any, Any, Any]) -> Iterator[tuple[str, str]]:
    """Return names and values; of what a job hasn't got, nothing."""
    yield "id", str(job.id)
    yield "name", job.name
    yield "state", job.state.value + (" (cancel requested)" if job.cancel_requested else "")
    yield "queue", job.queue
    yield "priority", str(job.priority)
    yield "attempt", str(job.attempt)
    yield "retry number", str(job.retry_number)
    yield from _times(job)
    if woken_by(job) != WokenBy.START.value and job.state is not JobState.SUSPENDED:
        yield "woken by", woken_by(job)
    if job.version != 1:
        yield "version", str(job.version)
    if job.worker_id is not None:
        yield "worker", str(job.worker_id)
    if job.progress is not None:
        yield "progress", f"{progress_text(job.progress)} ({time_text(job.progress.at)})"
    yield "metadata", _text_of(job, "metadata")
    yield "execution metadata", _text_of(job, "execution_metadata")
    if job.state is JobState.COMPLETED:
        yield "result", _text_of(job, "stored_result")
    if job.last_error is not None:
        yield "last error", job.last_error
    if line := error_line(job):
        yield "error", line


def as_json(job: Job[Any, Any, Any, Any]) -> dict[str, object]:
    """Return what `--output json` prints of a job; times are ISO 8601 in UTC.

    Of a payload that can't be read it is null, and `unreadable` says why.
    """
    kind, error = error_as_json(job)
    payloads = {name: _read(job, name) for name in ("metadata", "execution_metadata", "stored_result")}
    reasons = {name: str(value) for name, value in payloads.items() if isinstance(value, PayloadUndecodable)}
    values = {name: None if name in reasons else value for name, value in payloads.items()}
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state.value,
        "queue": job.queue,
        "priority": job.priority,
        "attempt": job.attempt,
        "retry_number": job.retry_number,
        "created_at": iso(job.created_at),
        "scheduled_at": iso(job.scheduled_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "deadline_at": iso(job.deadline_at),
        "woken_by": woken_by(job),
        "version": job.version,
        "worker_id": None if job.worker_id is None else str(job.worker_id),
        "cancel_requested": job.cancel_requested,
        "progress": _progress(job.progress),
        "metadata": values["metadata"],
        "execution_metadata": values["execution_metadata"],
        "result": values["stored_result"],
        **({"unreadable": reasons} if reasons else {}),
        "error_kind": kind,
        "error": error,
        "last_error": job.last_error,
    }


def progress_text(progress: JobProgress | None, pace: str = "") -> str:
    """Write how far a job is: `1,200 of 5,000 (24%), a note`; its pace, if given, between the two."""
    if progress is None:
        return ""
    text = f"{progress.done:,g}"
    if progress.total:
        text += f" of {progress.total:,g} ({progress.done / progress.total:.0%})"
    return ", ".join(part for part in (text, pace, progress.note) if part)


def _times(job: Job[Any, Any, Any, Any]) -> Iterator[tuple[str, str]]:
    for name in ("created_at", "scheduled_at", "started_at", "finished_at", "deadline_at"):
        if time := getattr(job, name):
            yield name.removesuffix("_at"), time_text(time)


def woken_by(ended: Job[Any, Any, Any, Any] | AttemptRecord[Any]) -> str:
    """Return what has woken a job, as a word."""
    try:
        return ended.woken_by.value
    except PayloadUndecodable:
        return "unknown"


def _read(job: Job[Any, Any, Any, Any], name: str) -> object:
    """Read a payload; where it can't be read, what is wrong with it."""
    try:
        return getattr(job, name)
    except PayloadUndecodable as error:
        return error


def _text_of(job: Job[Any, Any, Any, Any], name: str) -> str:
    value = _read(job, name)
    return f"(can't be read: {value})" if isinstance(value, PayloadUndecodable) else json_text(value)


def _due(job: Job[Any, Any, Any, Any]) -> str:
    """Write when a worker may take it; nothing when none is to."""
    if job.state.is_final or job.state in {JobState.RUNNING, JobState.ENQUEUED}:
        return ""
    if job.scheduled_at is None:
        # Of any other state somebody has written the row by hand: cancelled and retried it is due again.
        return "when proceeded" if job.state is JobState.SUSPENDED else "never"
    # By this machine's clock: for a look that is good enough, it is the database's that counts.
    return "now" if job.scheduled_at <= datetime.now(UTC) else time_text(job.scheduled_at)


def error_of(ended: Job[Any, Any, Any, Any] | AttemptRecord[Any]) -> object:
    """Return the error of a job or an attempt; where it can't be read, what is wrong with it."""
    try:
        return ended.error
    except PayloadUndecodable as error:
        return error


def error_as_json(ended: Job[Any, Any, Any, Any] | AttemptRecord[Any]) -> tuple[str | None, object]:
    """Return the kind of an error, and the error: an exception, one of the task's own type, or what can't be read."""
    match error_of(ended):
        case None:
            return None, None
        case Raised() as raised:
            return "raised", msgspec.to_builtins(raised)
        case PayloadUndecodable() as unreadable:
            return "unreadable", str(unreadable)
        case declared:
            return "declared", declared


def error_line(ended: Job[Any, Any, Any, Any] | AttemptRecord[Any]) -> str:
    """Return an error in a line: the last of a traceback, or JSON; nothing without an error."""
    match error_of(ended):
        case None:
            return ""
        case Raised() | PayloadUndecodable() as error:
            return " ".join(str(error).split())
        case declared:
            return json_text(declared, indent=None)


def _progress(progress: JobProgress | None) -> dict[str, object] | None:
    if progress is None:
        return None
    return {"done": progress.done, "total": progress.total, "note": progress.note, "at": iso(progress.at)}


def iso(time: datetime | None) -> str | None:
    """Write a time for programs: ISO 8601, in UTC."""
    return None if time is None else time.astimezone(UTC).isoformat()
