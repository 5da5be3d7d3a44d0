"""How an attempt ended, as the job's history keeps it.

Only attempts that weren't the job's last are kept so: how the last one ended is the job's own state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

__all__ = ["AttemptEnding"]


class AttemptEnding(StrEnum):
    """What ended an attempt; the value is what users see.

    Attributes:
        code: The number that is stored. As with states: never give one another meaning.
    """

    code: int

    # Its handler raised.
    RAISED = "raised", 1
    # It ran past its `timeout`.
    TIMED_OUT = "timed out", 2
    # Its handler returned `Failed`, and a retry was left.
    FAILED = "failed", 3
    # Its handler returned `Suspended`, or slept.
    SUSPENDED = "suspended", 4
    # Its worker stopped, and stopped it.
    STOPPED = "stopped", 5
    # Its worker was lost.
    LAPSED = "lapsed", 6
    # It ended the job, which an operator has let begin again since.
    ENDED = "ended", 7

    def __new__(cls, word: str, code: int = -1) -> Self:
        """Make the words the value and the code an attribute, as `JobState` does."""
        ending = str.__new__(cls, word)
        ending._value_ = word
        ending.code = code
        return ending

    @classmethod
    def from_code(cls, code: int) -> AttemptEnding:
        """Return the ending that is stored as `code`.

        Raises:
            ValueError: No ending has this code.
        """
        try:
            return _BY_CODE[code]
        except KeyError:
            message = f"no attempt's ending has the code {code!r}; the codes are 1 ({cls.RAISED}) to 7 ({cls.ENDED})"
            raise ValueError(message) from None


_BY_CODE: Final = {ending.code: ending for ending in AttemptEnding}
