"""Words that are stored as numbers."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = ["Coded"]


class Coded(StrEnum):
    """A word that users see, and the number that is stored for it.

    Attributes:
        code: The number. Codes are in every database there is: never give one another meaning.
    """

    code: int

    def __new__(cls, word: str, code: int = -1) -> Self:
        """Make the word the value and the code an attribute.

        The code's default is never used; it lets the type checkers accept the look-up `JobState("pending")`.
        """
        coded = str.__new__(cls, word)
        coded._value_ = word
        coded.code = code
        return coded

    @classmethod
    def from_code(cls, code: int) -> Self:
        """Return the word that is stored as `code`.

        Raises:
            ValueError: None has this code.
        """
        for coded in cls:
            if coded.code == code:
                return coded
        words = list(cls)
        first, last = words[0], words[-1]
        message = (
            f"no {cls.__name__} has the code {code!r}; the codes are {first.code} ({first}) to {last.code} ({last})"
        )
        raise ValueError(message)
