"""A job's story: its attempts, as rows, as JSON, and with their errors in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.cli.jobs import views
from perdure.cli.output import time_text
from perdure.core.failure import Raised
from perdure.core.history import AttemptEnding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from perdure.history import AttemptRecord

__all__ = ["HEADER", "as_json", "as_row", "style_of", "tracebacks"]

HEADER: Final = ("attempt", "woken by", "started", "took", "ended", "worker", "error")

_STYLES: Final = {
    AttemptEnding.RUNNING: "cyan",
    AttemptEnding.RAISED: "yellow",
    AttemptEnding.TIMED_OUT: "yellow",
    AttemptEnding.FAILED: "yellow",
    AttemptEnding.LAPSED: "yellow",
    AttemptEnding.COMPLETED: "green",
    AttemptEnding.JOB_FAILED: "red",
    AttemptEnding.JOB_CANCELLED: "magenta",
}
_SHORT_ID: Final = 8


def style_of(attempt: AttemptRecord[Any]) -> str:
    """Return the style of an attempt on a terminal."""
    return _STYLES.get(attempt.ending, "")


def as_row(attempt: AttemptRecord[Any]) -> tuple[str, ...]:
    """Return the cells under `HEADER`."""
    return (
        str(attempt.number),
        views.woken_by(attempt),
        time_text(attempt.started_at),
        "" if attempt.duration is None else _took(attempt.duration),
        attempt.ending.value,
        "" if attempt.worker_id is None else str(attempt.worker_id)[:_SHORT_ID],
        views.error_line(attempt),
    )


def as_json(attempt: AttemptRecord[Any]) -> dict[str, object]:
    """Return what `--output json` prints of an attempt."""
    kind, error = views.error_as_json(attempt)
    return {
        "number": attempt.number,
        "worker_id": None if attempt.worker_id is None else str(attempt.worker_id),
        "started_at": views.iso(attempt.started_at),
        "ended_at": views.iso(attempt.ended_at),
        "ending": attempt.ending.value,
        "woken_by": views.woken_by(attempt),
        "error_kind": kind,
        "error": error,
    }


def tracebacks(attempts: Iterable[AttemptRecord[Any]]) -> Iterator[tuple[str, str]]:
    """Return the errors in full, with names for them."""
    for attempt in attempts:
        error = views.error_of(attempt)
        if isinstance(error, Raised) and error.traceback:
            yield f"attempt {attempt.number}", error.traceback


def _took(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:.3g} s" if seconds < 100 else str(duration).partition(".")[0]  # noqa: PLR2004 - digits that matter
