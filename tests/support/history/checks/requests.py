"""I3, I10: a cancel or a proceed that was acknowledged is in the log, written between its question and its answer.

Each was written by a transaction that began after the question and was committed before the answer. So what is the
effect of one call can't excuse another one's loss: a flag that stood at that time counts for all ("several count as
one"), any other effect for one call.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from perdure import JobState
from tests.support.history.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.history.values import Call, History, Image, Move

__all__ = ["cancels_hold", "proceeds_are_kept"]

_SUSPENDED, _PROCEEDED, _RUNNING = JobState.SUSPENDED, JobState.PROCEEDED, JobState.RUNNING
# The client's clock and the database's are the machine's; what is between them is how exactly they are read.
_EXACT_SECONDS = 0.01


def _exactness_seconds(history: History) -> float:
    """How far apart a question or its answer and what is written between them may be: any, where a clock was set."""
    return _EXACT_SECONDS if Times(history).are_comparable else inf


class _Trace(NamedTuple):
    """What the calls of one kind have left in a job's log.

    Attributes:
        stood: From when to when their flag stood.
        done: When something else was done, each by one call.
    """

    stood: list[tuple[float, float]]
    done: list[float]


def cancels_hold(history: History) -> Iterator[str]:
    """I3: a cancel that was answered `CancelRequested` is followed by the end, and by no other attempt before it."""
    calls, exactness_seconds = _by_job(history, "cancel"), _exactness_seconds(history)
    for job, moves in history.moves.items():
        for before, after in moves:
            if before is None or after is None or not before.cancel_requested or before.state is after.state:
                continue
            if after.state not in {JobState.COMPLETED, JobState.CANCELLED}:
                yield f"job {job} was to be cancelled in attempt {before.attempt}, and became {after.state}"
        trace = _trace(moves, lambda image: image.cancel_requested, _is_cancelled_at_once)
        for call in _untraced(calls[job], "CancelRequested", trace, exactness_seconds):
            yield f"job {job}: {_words(call)} was acknowledged, and its row has seen nothing of it"


def proceeds_are_kept(history: History) -> Iterator[str]:
    """I10: each proceed that was acknowledged is in the log; a remembered one is used up by the next suspension."""
    calls, exactness_seconds = _by_job(history, "proceed"), _exactness_seconds(history)
    for job, moves in history.moves.items():
        applied = 0
        for before, after in moves:
            if before is None or after is None:
                continue
            applied += _is_proceeded(before, after)
            yield from _forgotten(job, before, after)
        trace = _trace(
            moves,
            lambda image: image.proceed_requested,
            lambda before, after: _is_proceeded(before, after) or _is_brought_forward(before, after),
        )
        for call in _untraced(calls[job], "Proceeded", trace, exactness_seconds):
            yield f"job {job}: {_words(call)} was acknowledged, and neither applied nor remembered then"
        answered = sum(call.answer == "Proceeded" for call in calls[job])
        unknown = sum(call.answer is None for call in calls[job])
        if applied > answered + unknown:
            yield f"job {job} was proceeded {applied} times, of {answered} proceeds answered, {unknown} without answer"


def _trace(moves: Sequence[Move], has_flag: Callable[[Image], bool], is_done: Callable[[Image, Image], bool]) -> _Trace:
    trace = _Trace([], [])
    since: float | None = None
    for before, after in moves:
        image = after or before
        assert image is not None
        stands = after is not None and has_flag(after)
        if stands and since is None:
            since = image.at
        elif not stands and since is not None:
            trace.stood.append((since, image.at))
            since = None
        if before is not None and after is not None and is_done(before, after):
            trace.done.append(after.at)
    if since is not None:
        trace.stood.append((since, float("inf")))
    return trace


def _untraced(calls: Sequence[Call], answer: str, trace: _Trace, exactness_seconds: float) -> Iterator[Call]:
    """Yield the acknowledged calls of which nothing was written at their time: each gets what is left for it first."""
    left = sorted(trace.done)
    acknowledged = [call for call in calls if call.answer == answer and call.answered_at is not None]
    for call in sorted(acknowledged, key=lambda call: call.answered_at or 0.0):
        asked_at, answered_at = call.at - exactness_seconds, (call.answered_at or 0.0) + exactness_seconds
        if any(began <= answered_at and ended >= asked_at for began, ended in trace.stood):
            continue
        mine = next((at for at in left if asked_at <= at <= answered_at), None)
        if mine is None:
            yield call
        else:
            left.remove(mine)


def _is_cancelled_at_once(before: Image, after: Image) -> bool:
    return after.state is JobState.CANCELLED and before.state not in {_RUNNING, JobState.CANCELLED}


def _is_proceeded(before: Image, after: Image) -> bool:
    return before.state is _SUSPENDED and after.state is _PROCEEDED and after.woken_by == 1


def _is_brought_forward(before: Image, after: Image) -> bool:
    return before.state is after.state is _PROCEEDED and before.due != after.due


def _forgotten(job: int, before: Image, after: Image) -> Iterator[str]:
    if not before.proceed_requested:
        return
    if before.state is _RUNNING and after.state is _SUSPENDED and not after.asleep:
        yield f"job {job} was suspended in attempt {before.attempt}, against a remembered proceed"
    elif not after.proceed_requested and after.live and after.state is not _PROCEEDED:
        yield f"job {job}, {before.state} to {after.state}: it forgot a proceed"


def _words(call: Call) -> str:
    return f"the {call.verb} that {call.client} asked for at {call.at:.3f}"


def _by_job(history: History, verb: str) -> dict[int, list[Call]]:
    found: dict[int, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.verb == verb:
            for job in call.jobs:
                found[job].append(call)
    return found
