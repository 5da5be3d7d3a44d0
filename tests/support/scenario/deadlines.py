"""Deadlines: what the database has set for which job, and whether each holds. Their own log stands beside the journal.

Guarantee 11: a job that isn't done within its deadline is failed with `DeadlineExceeded`, wherever it is by then,
unless its handler has returned a value or a cancel came first; and that is its one end. Nor is it begun after that.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import sql

from perdure import JobState
from tests.support.history.checks.delays import spans
from tests.support.history.checks.lives import is_retry
from tests.support.history.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.history.values import History, Image, Move

__all__ = ["WAYS", "Deadlines", "deadlines_hold", "install", "read", "ways_to_fail"]

WAYS: Final = {"waited": "linger", "ran": "endure"}
"""What a job did as it failed by its deadline, and the act in which one does that until then."""

_EXCEEDED, _WORKER_LOST = "perdure.errors.DeadlineExceeded", "perdure.errors.WorkerLost"
# What runs is stopped at once; but one that was claimed ahead begins up to a second later, and its time with it.
_STOP_SECONDS = 2.0
# A claim says what is left of a deadline when it has the row: what was past when it took it, it has said to be so.
_TABLES = """
create table history.deadlines (job bigint not null, at timestamptz not null);

create table history.overdue_claims (job bigint not null, attempt int not null, late_seconds double precision not null);

create function history.log_deadline() returns trigger language plpgsql as $$
begin
    insert into history.deadlines (job, at) values (new.id, new.deadline_at);
    return null;
end
$$;

create function history.log_overdue_claim() returns trigger language plpgsql as $$
declare
    late interval := clock_timestamp() - new.deadline_at;
begin
    if late > interval '0' then
        insert into history.overdue_claims values (new.id, new.attempt, extract(epoch from late));
    end if;
    return new;
end
$$;
"""
_TRIGGERS = """
create trigger deadlines after insert on {jobs} for each row
when (new.deadline_at is not null) execute function history.log_deadline();

create trigger overdue_claims before update on {jobs} for each row
when (new.deadline_at is not null and new.state = {running} and old.state <> {running})
execute function history.log_overdue_claim();
"""


class Deadlines(NamedTuple):
    """What the database's clock has said.

    Attributes:
        at: Each job's deadline, in seconds since the epoch.
        overdue: How many seconds after it a job was claimed, where it was: by job and attempt.
    """

    at: Mapping[int, float]
    overdue: Mapping[tuple[int, int], float]


def install(dsn: str, schema_name: str) -> None:
    """Write down each deadline that a job is stored with, and each claim after it; the journal is there already."""
    jobs, running = sql.Identifier(schema_name, "jobs"), sql.Literal(JobState.RUNNING.code)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLES)
        connection.execute(sql.SQL(_TRIGGERS).format(jobs=jobs, running=running))


def read(dsn: str) -> Deadlines:
    """Read what was written down."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        at = connection.execute("select job, extract(epoch from at)::float8 from history.deadlines").fetchall()
        claims = connection.execute("select job, attempt, late_seconds from history.overdue_claims").fetchall()
    return Deadlines(dict(at), {(job, attempt): late_seconds for job, attempt, late_seconds in claims})


def deadlines_hold(history: History, deadlines: Deadlines, *, within_seconds: float) -> Iterator[str]:
    """Find jobs that begin after their deadline, that outlive it, that end by it wrongly, or twice.

    Args:
        history: The run.
        deadlines: Of the jobs that have one.
        within_seconds: How long a job may outlive it, whatever is done to workers and database: a dead worker's lease,
            the sweep, and what a busy machine needs. Where somebody lives who can end it, it is asked to be quicker.
    """
    times = Times(history)
    yield from _begun(history, deadlines)
    for job, moves in history.moves.items():
        at = deadlines.at.get(job)
        ends = _ends(moves)
        if at is None:
            yield from (f"job {job} has no deadline, and failed by one" for end in ends if _error(end) == _EXCEEDED)
            continue
        yield from _overstayed(history, times, job, at)
        if len(ends) > 1:
            yield f"job {job} has a deadline, and ended {len(ends)} times"
        if not ends:
            if history.ended_at > at + within_seconds:
                yield f"job {job} lives on {history.ended_at - at:.1f} s after its deadline"
            continue
        yield from _ended(history, job, at, ends[0], within_seconds)


def ways_to_fail(history: History, deadlines: Deadlines) -> set[str]:
    """Tell which of `WAYS` have come about."""
    ways: set[str] = set()
    for job in deadlines.at:
        for end in _ends(history.moves.get(job, [])):
            before = end.before
            if before is None or end.states[1] is not JobState.FAILED or _error(end) != _EXCEEDED:
                continue
            if before.state is not JobState.RUNNING:
                ways.add("waited")
            elif any(line.how == "stopped" for line in history.ended.get((job, before.attempt), [])):
                ways.add("ran")
    return ways


def _begun(history: History, deadlines: Deadlines) -> Iterator[str]:
    """Find handlers that have begun though the deadline had passed when the job was claimed, whatever came of them."""
    for (job, attempt), late_seconds in deadlines.overdue.items():
        if (job, attempt) in history.began:
            yield f"job {job}, attempt {attempt}, begun: it was claimed {late_seconds:.3f} s after its deadline"


def _overstayed(history: History, times: Times, job: int, at: float) -> Iterator[str]:
    """Find jobs that stayed with a worker, or with none, for long after their deadline, while somebody could end them.

    A worker ends what it holds, any of them what nobody does. How long a lost one may hold a job, I8 says.
    """
    recovery_seconds = history.rules.recovery_seconds
    if recovery_seconds is None or not times.are_comparable:
        return
    for worker, since, until in spans(_first_life(history.moves[job]), history.ended_at, _place):
        late_since = max(since, at)
        chance = times.longest_chance(late_since, until, worker=worker or None)
        allowed = times.allowed(_STOP_SECONDS if worker else recovery_seconds, late_since, until)
        if chance > allowed:
            yield (
                f"job {job} stayed with {worker or 'no worker'} for {until - late_since:.1f} s after its deadline, "
                f"while {'it' if worker else 'one'} served for {chance:.1f} s ({allowed:.1f} s allowed)"
            )


def _place(image: Image) -> str | None:
    """Tell who has a job: a worker, or nobody; None when it has ended."""
    if image.state.is_final:
        return None
    return (image.worker or "") if image.state is JobState.RUNNING else ""


def _first_life(moves: Sequence[Move]) -> list[Move]:
    """Return the moves up to an operator's retry: that lifts the deadline."""
    return list(itertools.takewhile(lambda move: not is_retry(move), moves))


def _ends(moves: Sequence[Move]) -> list[Move]:
    """Return the moves into a final state, up to an operator's retry."""
    lived = [move for move in _first_life(moves) if move.before is not None and move.after is not None]
    return [move for move in lived if move.after is not None and move.after.state.is_final]


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
