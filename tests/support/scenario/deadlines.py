"""Deadlines: what the database has set for which job, and whether each holds. Their own log stands beside the journal.

Guarantee 11: a job that isn't done within its deadline is failed with `DeadlineExceeded`, wherever it is by then,
unless its handler has returned a value or a cancel came first; and that is its one end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from perdure import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.history.values import History, Image, Move

__all__ = ["deadlines_hold", "install", "read"]

_EXCEEDED, _WORKER_LOST = "perdure.errors.DeadlineExceeded", "perdure.errors.WorkerLost"
_TABLES = """
create table history.deadlines (job bigint not null, at timestamptz not null);

create function history.log_deadline() returns trigger language plpgsql as $$
begin
    insert into history.deadlines (job, at) values (new.id, new.deadline_at);
    return null;
end
$$;
"""


def install(dsn: str, schema_name: str) -> None:
    """Write down each deadline that a job is stored with; the journal is there already."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLES)
        connection.execute(
            sql.SQL(
                "create trigger deadlines after insert on {}.jobs for each row when (new.deadline_at is not null) "
                "execute function history.log_deadline()"
            ).format(sql.Identifier(schema_name))
        )


def read(dsn: str) -> dict[int, float]:
    """Read each job's deadline, in seconds since the epoch."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return dict(connection.execute("select job, extract(epoch from at)::float8 from history.deadlines").fetchall())


def deadlines_hold(history: History, deadlines: Mapping[int, float], *, within_seconds: float) -> Iterator[str]:
    """Find jobs that outlive their deadline, that end by it wrongly, or twice.

    Args:
        history: The run.
        deadlines: Of the jobs that have one.
        within_seconds: How long a job may outlive it: a dead worker's lease, the sweep, and what a busy machine needs.
    """
    for job, moves in history.moves.items():
        at = deadlines.get(job)
        ends = _ends(moves)
        if at is None:
            yield from (f"job {job} has no deadline, and failed by one" for end in ends if _error(end) == _EXCEEDED)
            continue
        if len(ends) > 1:
            yield f"job {job} has a deadline, and ended {len(ends)} times"
        if not ends:
            if history.ended_at > at + within_seconds:
                yield f"job {job} lives on {history.ended_at - at:.1f} s after its deadline"
            continue
        yield from _ended(history, job, at, ends[0], within_seconds)


def _ends(moves: Sequence[Move]) -> list[Move]:
    """Return the moves into a final state, up to an operator's retry: that lifts the deadline."""
    ends: list[Move] = []
    for move in moves:
        before, after = move
        if before is None or after is None:
            continue
        if before.state.is_final and not after.state.is_final:
            break
        if after.state.is_final:
            ends.append(move)
    return ends


def _ended(history: History, job: int, at: float, end: Move, within_seconds: float) -> Iterator[str]:
    before, after = end
    assert before is not None
    assert after is not None
    late_seconds = after.at - at
    # One that was to be cancelled is, and keeps the error with which its attempt ended: that of the deadline, perhaps.
    if after.state is JobState.FAILED and _error(end) == _EXCEEDED:
        if late_seconds < 0:
            yield f"job {job} failed by its deadline, {-late_seconds:.1f} s before it"
        if before.cancel_requested:
            yield f"job {job} was to be cancelled, and failed by its deadline"
    elif late_seconds > 0 and after.state is JobState.FAILED and not _failed_by_itself(history, before, end):
        yield f"job {job} failed {late_seconds:.1f} s after its deadline, with {_error(end) or after.error}"
    if late_seconds > within_seconds:
        yield f"job {job} became {after.state} {late_seconds:.1f} s after its deadline ({within_seconds:.1f} s allowed)"


def _failed_by_itself(history: History, before: Image, end: Move) -> bool:
    """Whether its handler has raised or failed, or its worker was lost, as the deadline came."""
    lines = history.ended.get((before.job, before.attempt), [])
    ended = bool(lines) and lines[-1].how in {"raises", "fails"}
    return before.state is JobState.RUNNING and (ended or _error(end) == _WORKER_LOST)


def _error(end: Move) -> Any:
    error = end.after.error if end.after is not None else None
    raised = error.get("raised") if isinstance(error, dict) else None
    return raised.get("type") if isinstance(raised, dict) else None
