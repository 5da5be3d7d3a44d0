"""I1 to I3: no job is lost, none is made up, each has one end."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from perdure import JobState
from perdure.core.states import check
from perdure.errors import IllegalTransition
from tests.support.history.checks.lives import is_retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.history.values import Call, History, Move

__all__ = ["nothing_is_lost", "nothing_is_made_up", "one_end_a_job"]

_STARTS = ("start", "start with a row")


def nothing_is_lost(history: History) -> Iterator[str]:
    """I1: a job whose start was acknowledged is there, once, with what it was started with."""
    found = defaultdict(list)
    for row in history.rows:
        found[row.job].append(row)
    for call in history.calls:
        if call.verb not in _STARTS or call.answer is None:
            continue
        for key, job in zip(call.keys, call.jobs, strict=True):
            rows = found[job]
            if len(rows) != 1:
                yield f"job {job} ({key}) was acknowledged and is there {len(rows)} times"
            elif rows[0].key != key:
                yield f"job {job} was acknowledged as {key} and is {rows[0].key}"
    for job, moves in history.moves.items():
        yield from (f"job {job} was taken from its table and put nowhere" for move in moves if move.after is None)


def nothing_is_made_up(history: History) -> Iterator[str]:
    """I2: a start gives one job, one without an answer one or none; and one in a transaction is there if that is."""
    there = Counter(row.key for row in history.rows if row.key is not None)
    orders = Counter(history.orders)
    asked: set[str] = set()
    for call in history.calls:
        if call.verb not in _STARTS:
            continue
        asked.update(call.keys)
        yield from (f"{key} was started once and is there {there[key]} times" for key in call.keys if there[key] > 1)
        if call.verb == "start with a row":
            for key in call.keys:
                if orders[key] != there[key]:
                    yield f"{key} is there {there[key]} times, its row in the same transaction {orders[key]} times"
    yield from (f"{key} is there, and nobody has asked for it" for key in there if key not in asked)


def one_end_a_job(history: History) -> Iterator[str]:
    """I3: every move is in the table of transitions; what has ended stays as it is, but for an operator's retry."""
    calls = _by_job(history, ("retry", "retry afresh"))
    for job, moves in history.moves.items():
        for move in moves:
            yield from _illegal(job, move)
        retries = sum(map(is_retry, moves))
        answered = sum(call.answer == "Retried" for call in calls[job])
        unknown = sum(call.answer is None for call in calls[job])
        if not answered <= retries <= answered + unknown:
            yield f"job {job} was taken back {retries} times, of {answered} retries answered, {unknown} without answer"


def _illegal(job: int, move: Move) -> Iterator[str]:
    before, after = move
    if after is None:
        return
    if before is None:
        if after.state is not JobState.PENDING:
            yield f"job {job} began as {after.state}"
    elif before.state is after.state:
        if after.state.is_final:
            yield f"job {job} had ended ({before.state}), and was written to again"
    else:
        try:
            check(before.state, after.state, by_operator=before.state.is_final)
        except IllegalTransition as error:
            yield f"job {job}: {error}"


def _by_job(history: History, verbs: Sequence[str]) -> dict[int, list[Call]]:
    found: dict[int, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.verb in verbs:
            for job in call.jobs:
                found[job].append(call)
    return found
