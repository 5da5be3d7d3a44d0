"""The lives of a job: an operator's retry afresh begins another, in which its checkpoint starts from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.history.values import Image, Move

__all__ = ["Life", "is_afresh", "is_retry", "lives"]


class Life(NamedTuple):
    """The moves of one life.

    Attributes:
        after_attempt: The last attempt of the life before; 0 of the first.
        moves: Its moves.
    """

    after_attempt: int
    moves: list[Move]

    @property
    def last(self) -> Image | None:
        """The job as this life has left it."""
        return next((move.after for move in reversed(self.moves) if move.after is not None), None)


def is_retry(move: Move) -> bool:
    """Tell whether it takes an ended job back."""
    before, after = move
    return before is not None and after is not None and before.state.is_final and not after.state.is_final


def is_afresh(move: Move) -> bool:
    """Tell whether it takes an ended job back, to begin from nothing: that spends a checkpoint's number."""
    before, after = move
    return is_retry(move) and before is not None and after is not None and after.checkpoint > before.checkpoint


def lives(moves: Sequence[Move]) -> list[Life]:
    """Split a job's moves."""
    found = [Life(0, [])]
    for move in moves:
        if is_afresh(move) and move.after is not None:
            # What an ended job had is the old life's; what it is given is the new one's.
            found.append(Life(move.after.attempt, [move._replace(before=None)]))
        else:
            found[-1].moves.append(move)
    return found
