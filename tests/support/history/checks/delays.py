"""I8 in time: what a lost worker held goes on soon, and what is due begins soon, where another could have seen to it.

Not timed: jobs of which one more lapse makes them fail, for of these a worker runs one at a time; jobs that can't be
read; and any job while no worker lived without a break for as long as it may take. How long that is goes by how slow
the machine was: see `Times`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from perdure import JobState
from tests.support.history.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.history.values import History, Image, Move

__all__ = ["due_jobs_are_claimed", "recovery_is_quick", "spans"]

T = TypeVar("T")

_WAITING = frozenset({JobState.PENDING, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED})


def recovery_is_quick(history: History) -> Iterator[str]:
    """I8: once a worker's lease has ended, whatever by, none of its jobs stays its own for long."""
    seconds, times = history.rules.recovery_seconds, Times(history)
    if seconds is None or not times.are_comparable:
        return
    for job, moves in history.moves.items():
        for worker, _, until in spans(moves, history.ended_at, _holder):
            since = times.lease_ends.get(worker, until)
            if until - since <= seconds:
                continue
            chance, allowed = times.longest_chance(since, until), times.allowed(seconds, since, until)
            if chance > allowed:
                yield (
                    f"job {job} stayed with a lost worker for {until - since:.1f} s after its lease, while another one "
                    f"served for {chance:.1f} s ({allowed:.1f} s allowed)"
                )


def due_jobs_are_claimed(history: History) -> Iterator[str]:
    """I8: a job that is due is claimed soon, where a worker has room for it."""
    seconds, times = history.rules.claim_seconds, Times(history)
    if seconds is None or not times.are_comparable:
        return
    unreadable = {job for call in history.calls if call.verb == "spoil" for job in call.jobs}

    def due_of(image: Image) -> float | None:
        is_suspect = 0 < image.lapses >= history.rules.max_lapses - 1
        return None if is_suspect or image.state not in _WAITING else image.due

    for job, moves in history.moves.items():
        if job in unreadable:
            continue
        for due, at, until in spans(moves, history.ended_at, due_of):
            since = max(due, at)
            if until - since <= seconds:
                continue
            chance = times.longest_chance(since, until, has_room=True)
            allowed = times.allowed(seconds, since, until)
            if chance > allowed:
                yield (
                    f"job {job} was due for {until - since:.1f} s, while a worker had room for it for {chance:.1f} s "
                    f"({allowed:.1f} s allowed)"
                )


def _holder(image: Image) -> str | None:
    return image.worker if image.state is JobState.RUNNING else None


def spans(
    moves: Sequence[Move], ended_at: float, what: Callable[[Image], T | None]
) -> Iterator[tuple[T, float, float]]:
    """Yield for how long something of a job stayed as it was: what, since when, and until when; None isn't told of."""
    current: T | None = None
    since = 0.0
    for before, after in moves:
        image = after or before
        assert image is not None
        found = None if after is None else what(after)
        if found != current:
            if current is not None:
                yield (current, since, image.at)
            current, since = found, image.at
    if current is not None:
        yield (current, since, ended_at)
