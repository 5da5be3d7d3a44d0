"""What was written to the job of a race, write by write: only what may be, and all that was acknowledged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.core.states import OPERATOR_TRANSITIONS, TRANSITIONS, JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Move", "Wrong", "check_cancels", "check_retries", "check_transitions", "demand", "moves_of", "proceeds_of"]

_Image = dict[str, Any]
_BEGIN_AGAIN = ("retry_number", "scheduler_retries", "lapses", "unreadable", "woken_by")
_FORGOTTEN = ("proceed_requested", "cancel_requested", "asleep", "suspect")
_GO_ON = ("claim", "attempt", "checkpoint", "priority", "queue", "task", "metadata", "execution_metadata")


class Wrong(AssertionError):
    """An invariant doesn't hold."""


def demand(holds: bool, complaint: str) -> None:  # noqa: FBT001 - what is demanded
    """Complain unless it holds."""
    if not holds:
        raise Wrong(complaint)


class Move(NamedTuple):
    """One write: the job's row before and after, from the one table to the other where it has changed that.

    None: before it there was no row, or after it there is none.
    """

    before: _Image | None
    after: _Image | None

    def __str__(self) -> str:
        """Its states."""
        before, after = (image and image["state"] for image in self)
        return f"{before} to {after}"

    @property
    def is_retry(self) -> bool:
        """Whether an operator has taken the job back."""
        return _is_final(self.before) and self.after is not None and not _is_final(self.after)


def moves_of(rows: Iterable[tuple[str, bytes | None, bytes | None]]) -> list[Move]:
    """Read the log: a row that was taken from one table and put into the other has moved."""
    moves: list[Move] = []
    taken: _Image | None = None
    for operation, old, new in rows:
        before, after = (None if image is None else json.loads(image) for image in (old, new))
        if operation == "DELETE":
            demand(taken is None, "I1: a row that was taken away, and put nowhere")
            taken = before
        else:
            moves.append(Move(taken if operation == "INSERT" else before, after))
            taken = None
    demand(taken is None, "I1: a row that was taken away, and put nowhere")
    return moves


def check_transitions(moves: Sequence[Move]) -> int:
    """I3: only moves of the table; answers how many ended the job."""
    finals = 0
    for before, after in moves:
        demand(before is not None and after is not None, "I3: a row of no job")
        assert before is not None
        assert after is not None
        source, target = JobState.from_code(before["state"]), JobState.from_code(after["state"])
        if source is target:
            demand(not source.is_final, f"I3: {source}, and written to")
            continue
        allowed = (OPERATOR_TRANSITIONS if source.is_final else TRANSITIONS)[source]
        demand(target in allowed, f"I3: a move from {source} to {target}")
        finals += target.is_final
    return finals


def check_cancels(moves: Sequence[Move], acknowledged: int) -> None:
    """I3: each acknowledged cancel was noted where it counts; a running job then ends by it, or by a value."""
    noted = 0
    for before, after in moves:
        if before is None or after is None:
            continue
        is_running = before["state"] == JobState.RUNNING.code
        if is_running and after["state"] == JobState.RUNNING.code:
            noted += after["cancel_requested"] and before["proceed_requested"] == after["proceed_requested"]
        elif is_running and before["cancel_requested"]:
            ended = {JobState.CANCELLED.code, JobState.COMPLETED.code}
            demand(after["state"] in ended, f"I3: a cancel was noted, and the job became {after['state']}")
        elif after["state"] == JobState.CANCELLED.code:
            noted += 1
    demand(acknowledged <= noted, f"I3: {acknowledged} cancels acknowledged, of which the row has seen {noted}")


def check_retries(moves: Sequence[Move], acknowledged: int) -> None:
    """I3, I4, I9: an operator's retry begins the counts anew, forgets what was asked for, keeps the rest."""
    retries = [move for move in moves if move.is_retry]
    demand(len(retries) == acknowledged, f"I3: {acknowledged} retries acknowledged, and {len(retries)} done")
    for before, after in retries:
        assert before is not None
        assert after is not None
        demand(not any(after[name] for name in _BEGIN_AGAIN), f"I9: a retry that has spent something: {after}")
        demand(not any(after[name] for name in _FORGOTTEN), f"I3: a retry of what was asked for before it: {after}")
        other = [name for name in _GO_ON if after[name] != before[name]]
        demand(not other, f"I4: a retry that has changed {other}")


def proceeds_of(moves: Sequence[Move]) -> int:
    """Count the proceeds that have ended a suspension, or are remembered by a job that runs."""
    suspended, running = JobState.SUSPENDED.code, JobState.RUNNING.code
    count = 0
    for before, after in moves:
        if before is None or after is None:
            continue
        states = before["state"], after["state"]
        if states == (suspended, JobState.PROCEEDED.code):
            count += after["woken_by"] == 1
        elif states == (running, running):
            count += after["proceed_requested"] and before["cancel_requested"] == after["cancel_requested"]
    return count


def _is_final(image: _Image | None) -> bool:
    return image is not None and JobState.from_code(image["state"]).is_final
