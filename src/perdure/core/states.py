"""The states of a job and the one table of the moves between them.

What makes a job move is decided in `perdure.core.decide` (the end of an attempt) and in the store's statements (claim,
proceed, cancel), each guarded in SQL by the state that it moves from. This module only says which moves exist.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from perdure.core.coded import Coded
from perdure.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPERATOR_TRANSITIONS", "TRANSITIONS", "JobState", "WokenBy", "check"]


class JobState(Coded):
    """Where a job is in its life; the value is the word that users see."""

    # Stored, due now or at `scheduled_at`. In: start, shutdown, a worker that was lost, an operator's retry.
    # Out: a claim, a cancel.
    PENDING = "pending", 0
    # Handed to a distributed engine, not started yet; never seen with the local engine. In: its claim.
    # Out: the engine starts it, loses it, or a cancel.
    ENQUEUED = "enqueued", 1
    # An attempt runs under its worker's lease. In: a claim, an engine's start.
    # Out: however the attempt ends (see perdure.core.decide).
    RUNNING = "running", 2
    # Waits for its next attempt. In: an attempt that raised or failed with a retry left.
    # Out: a claim when due, a cancel.
    RETRYING = "retrying", 3
    # Waits, for ever or until `scheduled_at`. In: its handler returned `Suspended`.
    # Out: proceed, an event, a claim when due, a cancel.
    SUSPENDED = "suspended", 4
    # Let go on, not claimed yet. In: proceed, an event, or a suspension that a remembered proceed meets at once.
    # Out: a claim when due, a cancel.
    PROCEEDED = "proceeded", 5
    # Ended with a result. In: its handler returned one. Out: only an operator's retry.
    COMPLETED = "completed", 6
    # Ended with an error. In: no retry left, or too many workers lost. Out: only an operator's retry.
    FAILED = "failed", 7
    # Ended because somebody or its handler wanted so. In: a cancel, from any state that isn't final.
    # Out: only an operator's retry.
    CANCELLED = "cancelled", 8

    @property
    def is_final(self) -> bool:
        """Whether the job has ended: nothing but an operator's explicit retry moves it any more."""
        # The codes are laid out for this: as quick as it gets, and the store's check constraints ask the same.
        return self.code >= _FIRST_FINAL_CODE


_FIRST_FINAL_CODE: Final = JobState.COMPLETED.code


class WokenBy(Coded):
    """What let a job go on from its last suspension; the value is the word that users see.

    It stays through retries, stops and lost workers, so that every attempt after the suspension knows.
    """

    # Nothing: the job hasn't been suspended yet, or an operator let it begin again.
    START = "start", 0
    # Somebody proceeded it.
    PROCEED = "proceed", 1
    # An event that it hadn't consumed.
    EVENT = "event", 2
    # The time that it was suspended until.
    TIME = "time", 3


_NOWHERE: Final = frozenset[JobState]()
# A waiting job is claimed by a worker that runs it, or for a distributed engine that will.
_CLAIMED: Final = frozenset({JobState.RUNNING, JobState.ENQUEUED})
# What becomes of a job that no worker holds: somebody cancels it, or its deadline passes.
_ENDED: Final = frozenset({JobState.CANCELLED, JobState.FAILED})

TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        JobState.PENDING: _CLAIMED | _ENDED,
        JobState.ENQUEUED: _ENDED | {JobState.RUNNING, JobState.PENDING},
        JobState.RUNNING: frozenset(
            {
                JobState.PENDING,
                JobState.RETRYING,
                JobState.SUSPENDED,
                JobState.PROCEEDED,
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
        JobState.RETRYING: _CLAIMED | _ENDED,
        JobState.SUSPENDED: _CLAIMED | _ENDED | {JobState.PROCEEDED},
        JobState.PROCEEDED: _CLAIMED | _ENDED,
        JobState.COMPLETED: _NOWHERE,
        JobState.FAILED: _NOWHERE,
        JobState.CANCELLED: _NOWHERE,
    }
)
"""Every move that perdure makes by itself or for a user. Final states have none."""

OPERATOR_TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {state: frozenset({JobState.PENDING}) for state in JobState if state.is_final}
)
"""The moves of an operator's explicit retry, which nothing else may make."""


def check(before: JobState, after: JobState, *, by_operator: bool = False) -> None:
    """Refuse a move that the table doesn't have; staying in a state is no move either.

    Args:
        before: The state that the job is in.
        after: The state that it is to be in.
        by_operator: Whether this is an operator's explicit retry; then only `OPERATOR_TRANSITIONS` count.

    Raises:
        IllegalTransition: The table has no such move; the message lists those there are.
    """
    table = OPERATOR_TRANSITIONS if by_operator else TRANSITIONS
    allowed = table.get(before, _NOWHERE)
    if after in allowed:
        return
    mover = "an operator's retry" if by_operator else "a job"
    targets = ", ".join(state for state in JobState if state in allowed) or "nowhere"
    message = f"{mover} can't go from {before} to {after}; from {before} it can go to: {targets}"
    if before.is_final and not by_operator:
        message += " (it has ended: only an operator's retry takes it back)"
    raise IllegalTransition(message)
