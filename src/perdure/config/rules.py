"""What a setting may be: each rule reads a value, or refuses it, and says in words what it allows.

Knows nothing of which settings there are, nor of where a value came from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, cast

from perdure.config.dsn import Dsn, hide_passwords, read_dsn
from perdure.durations import HOW_TO_WRITE, format_timespan, read_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Delays", "DsnRule", "DurationBetween", "Rule", "SchemaName", "Shown", "Switch", "WholeNumber", "show_value"]

Shown = str | bool | int | list[float] | None
"""A setting's value as JSON can hold it."""

LONGEST = timedelta(days=36_500)
"""A century: far more than anybody means, and far less than what PostgreSQL's timestamps can hold."""

_LONGEST_SHOWN = 80
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_NAME_BYTES = 63  # PostgreSQL's NAMEDATALEN - 1


class Rule(Protocol):
    """What all rules can do. `read` and `read_text` raise `ValueError` with the reason, if one is worth giving."""

    @property
    def allowed(self) -> str:
        """What is allowed, in words that follow "allowed is"."""
        ...

    def read(self, value: object) -> object:
        """Read a value from code, TOML or JSON; what it returns, it reads again as it is."""
        ...

    def read_text(self, text: str) -> object:
        """Read a value from a place where everything is text."""
        ...

    def show(self, value: object) -> Shown:
        """Write a value that was read."""
        ...


@dataclass(frozen=True)
class WholeNumber:
    """A whole number within bounds."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        """The bounds in words."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object) -> int:
        """Take an int, and no bool or float that looks like one."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise ValueError
        return value

    def read_text(self, text: str) -> int:
        """Take decimal digits."""
        if not _INTEGER.fullmatch(text.strip()):
            raise ValueError
        return self.read(int(text))

    def show(self, value: object) -> Shown:
        """As it is."""
        return self.read(value)


@dataclass(frozen=True)
class Switch:
    """On or off."""

    @property
    def allowed(self) -> str:
        """The two words."""
        return "true or false"

    def read(self, value: object) -> bool:
        """Take a bool, and nothing that only looks like one."""
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004 - every refusal is one kind of error
        return value

    def read_text(self, text: str) -> bool:
        """Take either word, in capitals too."""
        word = text.strip().lower()
        if word not in ("true", "false"):
            raise ValueError
        return word == "true"

    def show(self, value: object) -> Shown:
        """As it is."""
        return self.read(value)


@dataclass(frozen=True)
class DurationBetween:
    """A duration within bounds."""

    least: timedelta
    most: timedelta = LONGEST

    @property
    def allowed(self) -> str:
        """The bounds and the notations in words."""
        return f"{_words(self.least)} to {_words(self.most)}, as {HOW_TO_WRITE}"

    def read(self, value: object) -> timedelta:
        """Take a timedelta, seconds or a timespan."""
        return self._within(read_duration(value))

    def read_text(self, text: str) -> timedelta:
        """Take seconds or a timespan."""
        return self._within(read_duration(text, text_seconds=True))

    def show(self, value: object) -> Shown:
        """As a timespan."""
        return format_timespan(self.read(value))

    def _within(self, duration: timedelta) -> timedelta:
        if not self.least <= duration <= self.most:
            raise ValueError
        return duration


@dataclass(frozen=True)
class Delays:
    """A list of delays, kept as seconds."""

    each: DurationBetween

    @property
    def allowed(self) -> str:
        """What each delay may be, and how a list is written."""
        return f"a list of durations, each {self.each.allowed}; comma-separated in the environment"

    def read(self, value: object) -> tuple[float, ...]:
        """Take a list or tuple of durations."""
        if not isinstance(value, list | tuple):
            raise ValueError  # noqa: TRY004 - every refusal is one kind of error
        delays = cast("Sequence[object]", value)
        return tuple(self._seconds(self.each.read(delay)) for delay in delays)

    def read_text(self, text: str) -> tuple[float, ...]:
        """Take durations between commas; nothing at all is the empty list."""
        parts = text.split(",") if text.strip() else []
        return tuple(self._seconds(self.each.read_text(part)) for part in parts)

    def show(self, value: object) -> Shown:
        """As numbers of seconds."""
        return list(self.read(value))

    @staticmethod
    def _seconds(delay: timedelta) -> float:
        seconds = delay.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds


@dataclass(frozen=True)
class SchemaName:
    """Any name that PostgreSQL takes for a schema of a user's."""

    @property
    def allowed(self) -> str:
        """PostgreSQL's own rules in words."""
        return (
            f'a non-empty PostgreSQL name of at most {_NAME_BYTES} bytes in UTF-8, not beginning with "pg_", '
            "nor information_schema"
        )

    def read(self, value: object) -> str:
        """Take what `create schema` takes: it would cut a longer name short without a word."""
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 - every refusal is one kind of error
        if not value:
            self._refuse("it is empty")
        if "\0" in value:
            self._refuse("PostgreSQL can't hold the character NUL")
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            self._refuse("it holds half a surrogate pair, which is no character")
        else:
            if length > _NAME_BYTES:
                self._refuse(f"it has {length} bytes")
        if value.startswith("pg_") or value == "information_schema":
            self._refuse("PostgreSQL keeps that name for itself")
        return value

    def read_text(self, text: str) -> str:
        """As it is: spaces may be part of a name."""
        return self.read(text)

    def show(self, value: object) -> Shown:
        """As it is."""
        return self.read(value)

    @staticmethod
    def _refuse(reason: str) -> None:
        raise ValueError(reason)


@dataclass(frozen=True)
class DsnRule:
    """A connection string."""

    @property
    def allowed(self) -> str:
        """The two forms that libpq knows."""
        return (
            'a connection string such as "postgresql://user@host:5432/database" or "host=… dbname=…"; '
            "none for the embedded PostgreSQL"
        )

    def read(self, value: object) -> Dsn:
        """Take what libpq takes."""
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 - every refusal is one kind of error
        return read_dsn(value)

    def read_text(self, text: str) -> Dsn:
        """As anywhere else."""
        return read_dsn(text)

    def show(self, value: object) -> Shown:
        """With its passwords masked."""
        return self.read(value).masked


def show_value(value: object) -> str:
    """Write a refused value into a message: shortened, its passwords masked, of a container its type alone."""
    match value:
        case str():
            text = repr(hide_passwords(value))
        case list() | tuple():
            items = cast("Sequence[object]", value)
            text = f"[{', '.join(show_value(item) for item in items)}]"
        case None | bool() | float() | timedelta():
            text = repr(value)
        case int():
            # repr() refuses to write an int of thousands of digits.
            text = repr(value) if abs(value) < 10**_LONGEST_SHOWN else "a number of more than 80 digits"
        case _:
            text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _words(duration: timedelta) -> str:
    units = {"day": timedelta(days=1), "min": timedelta(minutes=1), "s": timedelta(seconds=1)}
    if not duration:
        return "0 s"
    for unit, length in units.items():
        if not duration % length:
            number = duration // length
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''}"
    return f"{duration // timedelta(milliseconds=1)} ms"
