"""I9 for the jobs of a workshop: lapses and retries are what was done to each job, write by write.

A lapse counts for each attempt that was lost with its worker and had persisted nothing; one that had persisted starts
the count afresh, as does every end that isn't a loss; and it is taken back if the worker reports again. What spends
retries is what the kind's handler ends with, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure import JobState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.history.values import Image, Move

__all__ = ["miscounted"]

_SCHEDULER_RETRIES = 1
"""How many the workshop's app allows."""


def miscounted(moves: Sequence[Move], gone: Mapping[str, bool]) -> Iterator[str]:
    """Say what is counted wrongly in one job's life.

    Args:
        moves: What was written to the job.
        gone: The workers that were killed, or frozen until their jobs had been rescued; whether they never came back.
            Another may have lost its lease as well, on a machine that is too busy, and have reported again.
    """
    claimed_at = 0  # the checkpoint
    blamed: str | None = None  # the worker whose lapse was counted last, as long as it can be taken back
    for move in moves:
        before, after = move
        if before is None or after is None:
            continue
        where = f"job {after.job} ({after.task}), attempt {before.attempt}, {before.state} to {after.state}"
        was_running, is_running = (image.state is JobState.RUNNING for image in (before, after))
        if is_running and not was_running:
            claimed_at = after.checkpoint
        elif is_running and after.checkpoint == before.checkpoint + 2 and after.place == before.place:
            claimed_at += 2  # the number of a COMMIT whose answer was lost was taken: no progress
        if move.is_rescue:
            persisted = before.checkpoint > claimed_at
            yield from _lapsed(where, before, after, persisted=persisted, gone=gone)
            blamed = before.worker if after.lapses > before.lapses else None
        elif was_running and not is_running:
            yield from _ended(where, before, after)
            blamed = blamed if after.lapses else None  # what is put back keeps them, and whom they are counted against
        elif after.lapses != before.lapses and after.live:
            if blamed is None or gone.get(blamed, False) or after.lapses != before.lapses - 1:
                yield f"{where}: lapses went from {before.lapses} to {after.lapses}, the last by {blamed}"
            blamed = None
        if not was_running or is_running or move.is_rescue:
            yield from _spent(where, before, after, _counters(before))


def _lapsed(where: str, before: Image, after: Image, *, persisted: bool, gone: Mapping[str, bool]) -> Iterator[str]:
    if persisted:
        allowed = {0}
    elif before.worker in gone:
        allowed = {before.lapses + 1}
    else:
        allowed = {before.lapses, before.lapses + 1}
    if after.lapses not in allowed:
        yield f"{where}, lost: lapses went from {before.lapses} to {after.lapses}, which can be {sorted(allowed)}"


def _ended(where: str, before: Image, after: Image) -> Iterator[str]:
    untouched = after.state is JobState.PENDING and after.checkpoint == before.checkpoint
    if after.live and after.lapses not in ({0, before.lapses} if untouched else {0}):  # put back, or deferred
        yield f"{where}: after its end {after.lapses} lapses are left of {before.lapses}"
    retries, scheduler_retries = _counters(before)
    match after.state, after.task:
        case JobState.RETRYING, "retries" if scheduler_retries < _SCHEDULER_RETRIES:
            yield from _spent(where, before, after, (retries, scheduler_retries + 1))
        case JobState.RETRYING, "retries" | "fails":
            yield from _spent(where, before, after, (retries + 1, 0))
        case ((JobState.SUSPENDED | JobState.PROCEEDED), _):
            yield from _spent(where, before, after, (0, 0))
        case JobState.RETRYING, _:
            yield f"{where}: nothing of this kind is retried"
        case _:
            yield from _spent(where, before, after, (retries, scheduler_retries))


def _spent(where: str, before: Image, after: Image, expected: tuple[int, int]) -> Iterator[str]:
    spent = _counters(after)
    if spent != (expected if after.live else (expected[0], 0)):  # what ended a job doesn't keep the second
        yield f"{where}: retries spent went from {_counters(before)} to {spent}, not to {expected}"


def _counters(image: Image) -> tuple[int, int]:
    return image.retry_number, image.scheduler_retries
