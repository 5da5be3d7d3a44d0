"""I9: retries, lapses and shutdowns are counted as the rules say; written down here once more, apart from the code.

What a handler did is known from the line that it wrote before its end; what became of the job, from the log.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from perdure import JobState
from tests.support.history.checks.lives import is_retry
from tests.support.history.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.values import History, Image, Move, Rules

__all__ = ["all_is_counted"]

_WORKER_LOST = "perdure.errors.WorkerLost"
_DEADLINE_EXCEEDED = "perdure.errors.DeadlineExceeded"
_STOPS = frozenset({"SIGTERM", "SIGINT"})
# Whoever comes back from these reports again: its lapse is forgiven.
_COMES_BACK = _STOPS | {"SIGSTOP", "SIGCONT"}


def all_is_counted(history: History) -> Iterator[str]:
    """I9: each attempt's end has the state and the counters that it must have."""
    times = Times(history)
    for job, moves in history.moves.items():
        claimed_at_checkpoint = 0
        for move in moves:
            before, after = move
            if before is None or after is None:
                continue
            if after.state is JobState.RUNNING and before.state is not JobState.RUNNING:
                claimed_at_checkpoint = after.checkpoint
            elif after.checkpoint == before.checkpoint + 2 and after.place == before.place:
                # The number of a COMMIT whose answer was lost was taken, so that it can't land any more: no progress.
                claimed_at_checkpoint += 2
            persisted = before.checkpoint > claimed_at_checkpoint
            if before.state is not JobState.RUNNING or after.state is JobState.RUNNING:
                yield from _elsewhere(job, move)
            elif move.is_rescue:
                yield from _unlost(times, job, before, after)
                yield from _lapsed(history, times, job, move, persisted=persisted)
            elif after.state is JobState.FAILED and _error_type(after) == _WORKER_LOST:
                yield from _unlost(times, job, before, after)
                yield from _lost_for_good(history, job, before, persisted=persisted)
            else:
                yield from _ended(history, job, before, after)


def _elsewhere(job: int, move: Move) -> Iterator[str]:
    """What isn't the end of an attempt counts nothing; an operator's retry sets the counters back."""
    before, after = move
    if before is None or after is None:
        return
    had, has = _counters(before), _counters(after)
    if is_retry(move):
        if has != (0, 0) or after.lapses:
            yield f"job {job}: after an operator's retry it has spent {has} retries and {after.lapses} lapses"
    elif not after.state.is_final and has != had:
        yield f"job {job}, {before.state} to {after.state}: retries spent went from {had} to {has}"
    elif after.lapses > before.lapses:
        yield f"job {job}, {before.state} to {after.state}: lapses went from {before.lapses} to {after.lapses}"


def _lapsed(history: History, times: Times, job: int, move: Move, *, persisted: bool) -> Iterator[str]:
    before, after = move
    assert before is not None
    assert after is not None
    where = f"job {job}, attempt {before.attempt}, lost with its worker"
    if after.state is not JobState.PENDING:
        yield f"{where}: it became {after.state}"
    if _counters(after) != _counters(before):
        yield f"{where}: retries spent went from {_counters(before)} to {_counters(after)}"
    if after.due != before.due:
        yield f"{where}: its place went from {before.due} to {after.due}"
    if after.place != before.place:
        yield f"{where}: its checkpoint changed"
    # One that lost its lease by other things, and was killed later, may have reported again in between.
    until = after.at if times.are_comparable else inf
    suffered = history.suffered(history.pid_of.get(before.worker or ""), until)
    allowed = {0} if persisted else {before.lapses + 1}
    if not persisted and (suffered & _COMES_BACK or "SIGKILL" not in suffered):
        allowed.add(before.lapses)
    if after.lapses not in allowed:
        yield f"{where}: lapses went from {before.lapses} to {after.lapses}, which can be {sorted(allowed)}"
    if after.lapses >= history.rules.max_lapses:
        yield f"{where}: it lives on after {after.lapses} lapses"


def _lost_for_good(history: History, job: int, before: Image, *, persisted: bool) -> Iterator[str]:
    where = f"job {job}, attempt {before.attempt}"
    if before.lapses + 1 < history.rules.max_lapses:
        yield f"{where}: failed as `WorkerLost` after {before.lapses + 1} lapses"
    if persisted:
        yield f"{where}: failed as `WorkerLost`, though this attempt had persisted something"


def _unlost(times: Times, job: int, before: Image, after: Image) -> Iterator[str]:
    """Find attempts that were taken for those of lost workers, and whose workers weren't lost."""
    worker = before.worker or ""
    where = f"job {job}, attempt {before.attempt}, taken from worker {worker} as lost"
    until = times.lease_ends.get(worker)
    if until is not None and times.are_comparable and after.at < until:
        yield f"{where}: its lease lasted {until - after.at:.1f} s longer"
    if not times.is_harmed(worker, after.at):
        yield f"{where}: nothing was done to it before that"


def _ended(history: History, job: int, before: Image, after: Image) -> Iterator[str]:
    lines = history.ended.get((job, before.attempt), [])
    how = lines[-1].how if lines else None
    where = f"job {job}, attempt {before.attempt} ({how or 'no end noted'})"
    if after.state is JobState.CANCELLED and (before.cancel_requested or how == "cancels"):
        return
    if after.state is JobState.FAILED and _error_type(after) == _DEADLINE_EXCEEDED:
        return  # whenever it is: whether that is right, is for who knows the deadline to say
    if after.state is JobState.PENDING:
        yield from _returned(history, where, before, after, how)
        return
    has = (after.state, after.retry_number, after.scheduler_retries if after.live else None)
    allowed = _expected(history.rules, before, how)
    if has not in allowed:
        known = " or ".join(map(_words, allowed)) or "nothing but pending"
        spent = _counters(before)
        yield f"{where}, retries spent before {spent}: it became {_words(has)}, which should be {known}"


def _returned(history: History, where: str, before: Image, after: Image, how: str | None) -> Iterator[str]:
    """A job that its worker has given back: never begun, stopped, or told that it is lost by a clock that was ahead."""
    if _counters(after) != _counters(before):
        yield f"{where}, given back: retries spent went from {_counters(before)} to {_counters(after)}"
    if after.attempt < before.attempt:
        return
    if how in {"returns", "suspends", "fails", "cancels"}:
        yield f"{where}: it was given back, as if stopped"
    if how != "refused" and not history.suffered(history.pid_of.get(before.worker or "")) & _STOPS:
        yield f"{where}: it was stopped, though nobody has stopped its worker"
    if after.due != before.due:
        yield f"{where}, stopped: its place went from {before.due} to {after.due}"


_Became = tuple[JobState, int, int | None]


def _expected(rules: Rules, before: Image, how: str | None) -> list[_Became]:
    """Return what an attempt may have become: state, and retries spent of both levels (of an ended job the first)."""
    spent, scheduler = _counters(before)
    match how:
        case "returns":
            return [(JobState.COMPLETED, spent, None)]
        case "suspends":
            return [(JobState.SUSPENDED, 0, 0), (JobState.PROCEEDED, 0, 0)]
        case "raises" if scheduler < rules.scheduler_retry_count:
            return [(JobState.RETRYING, spent, scheduler + 1)]
        case "raises" | "fails" if spent < rules.max_retry_count:
            return [(JobState.RETRYING, spent + 1, 0)]
        case "raises" | "fails":
            return [(JobState.FAILED, spent, None)]
        case _:
            return []


def _words(became: _Became) -> str:
    state, spent, scheduler = became
    return f"{state} ({spent}{'' if scheduler is None else f', {scheduler}'})"


def _counters(image: Image) -> tuple[int, int]:
    return (image.retry_number, image.scheduler_retries)


def _error_type(image: Image) -> Any:
    raised = image.error.get("raised") if isinstance(image.error, dict) else None
    return raised.get("type") if isinstance(raised, dict) else None
