"""What is wrong with a value or with stored JSON: a place in it and a reason.

Turns what other libraries say into that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Misfit"]

_PLACE: Final = re.compile(r"(?s)(?P<reason>.*) - at (?P<key>`key` in )?`\$(?P<path>.*)`")


class Misfit(Exception):
    """A value or JSON doesn't fit its type.

    Attributes:
        path: Where in it: `.orders[3].price`, or nothing for the whole.
        reason: Why.
        is_depth: Whether it is nested too deeply, so that no part of it is worth a look.
    """

    def __init__(self, reason: str, path: str = "", *, is_depth: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.is_depth = is_depth

    @classmethod
    def of(cls, error: Exception) -> Misfit:
        """Read what another library says, or the user's own code."""
        if isinstance(error, cls):
            return error
        if isinstance(error, RecursionError):
            return cls.too_deep()
        if type(error).__module__.startswith("pydantic"):
            return cls._of_pydantic(error)
        text = str(error)
        if found := _PLACE.fullmatch(text):
            reason = f"a key: {found['reason']}" if found["key"] else found["reason"]
            return cls(_plain(reason), found["path"])
        if type(error).__module__.partition(".")[0] == "msgspec":
            return cls(_plain(text))
        return cls(f"{type(error).__name__}: {text}")

    @classmethod
    def too_deep(cls) -> Misfit:
        """Say that there are too many arrays and objects within each other."""
        return cls("it is nested too deeply, or contains itself", is_depth=True)

    @classmethod
    def _of_pydantic(cls, error: Any) -> Misfit:
        if not hasattr(error, "errors"):
            return cls(str(error))
        first: dict[str, Any] = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return cls(first["msg"], join(first["loc"]))

    def within(self, path: str) -> Misfit:
        """Put what is around it in front of its path."""
        self.path = path + self.path
        return self

    def describe(self, what: str) -> str:
        """Make it a sentence."""
        return f"{what}: {self.path.removeprefix('.')}: {self.reason}" if self.path else f"{what}: {self.reason}"


def join(parts: Iterable[str | int]) -> str:
    """Write keys and indexes as a path."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _plain(text: str) -> str:
    """Write msgspec's sentences as ours are written."""
    text = text.replace("`", "")
    return text[:1].lower() + text[1:]
