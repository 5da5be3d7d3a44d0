"""How an attempt ended, as its history tells it.

Only names what has happened; what becomes of the job is decided in `perdure.core.decide`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

__all__ = ["AttemptEnding"]


class AttemptEnding(StrEnum):
    """How an attempt ended; the value is the word that users see.

    Attributes:
        code: The number that is stored. Codes are in every database there is: never give one another meaning.
    """

    code: int

    # It hasn't: the attempt is under way. Never stored.
    RUNNING = "running", 0
    RAISED = "raised", 1
    TIMED_OUT = "timed out", 2
    # `Failed` with a retry left.
    FAILED = "failed", 3
    SUSPENDED = "suspended", 4
    # Its worker was stopped, and it with it.
    STOPPED = "stopped", 5
    # Its worker was lost.
    LAPSED = "lapsed", 6
    # It ended the job: from here on the codes are those of the final states, and one.
    COMPLETED = "job completed", 7
    JOB_FAILED = "job failed", 8
    JOB_CANCELLED = "job cancelled", 9

    def __new__(cls, words: str, code: int = -1) -> Self:
        """Make the words the value and the code an attribute, as `JobState` does."""
        ending = str.__new__(cls, words)
        ending._value_ = words
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
            message = f"no attempt ends with the code {code!r}; the codes are 0 to {max(_BY_CODE)}"
            raise ValueError(message) from None


_BY_CODE: Final = {ending.code: ending for ending in AttemptEnding}
