"""A length of time as people write it: a `timedelta`, seconds, or a timespan such as `"1.02:03:04.500"`.

Knows the notation and nothing of what is sensible: whoever asks for a duration checks its bounds.
"""

from __future__ import annotations

import math
import re
from datetime import time, timedelta
from typing import TYPE_CHECKING, TypeAlias

from perdure.errors import MisuseError
from perdure.shown import shorten

if TYPE_CHECKING:
    from perdure.errors import PerdureError

__all__ = ["HOW_TO_WRITE", "Duration", "format_timespan", "parse_duration", "read_duration", "wait_seconds"]

Duration: TypeAlias = timedelta | float | str

HOW_TO_WRITE = 'a timedelta, seconds, or a timespan such as "00:00:00.500" or "1.02:03:04"'

# .NET's constant format: [-][days.]hours:minutes[:seconds[.fraction down to 100 ns]]
_TIMESPAN = re.compile(
    r"(?P<minus>-)?(?:(?P<days>\d{1,9})\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})"
    r"(?::(?P<seconds>\d{1,2})(?:\.(?P<fraction>\d{1,7}))?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)
_SECOND, _MILLISECOND = 1_000_000, 1_000  # in microseconds


def parse_duration(value: object, *, key: str, error: type[PerdureError] = MisuseError) -> timedelta:
    """Read a duration given as an argument.

    Args:
        value: A `timedelta`, seconds, or a timespan.
        key: What the duration is for, to be named when it can't be read: "timeout", "at".
        error: The class to raise.

    Raises:
        PerdureError: `value` is no duration. Names the key, the value and what is allowed.
    """
    try:
        return read_duration(value)
    except ValueError as refusal:
        reason = f" ({refusal})" if str(refusal) else ""
        message = f"{key}: {shorten(value)} is no duration{reason}; allowed is {HOW_TO_WRITE}"
        raise error(message) from None


def wait_seconds(value: object, *, key: str) -> float | None:
    """Read how long a call may wait at most, in seconds; None, and infinity, is for ever.

    Raises:
        MisuseError: `value` is no duration.
    """
    if value is None or value == math.inf:
        return None
    return parse_duration(value, key=key).total_seconds()


def read_duration(value: object, *, text_seconds: bool = False) -> timedelta:
    """Read a duration; `text_seconds` takes `"0.5"` for seconds too, where everything is text (the environment).

    Raises:
        ValueError: `value` is no duration. Its message is the reason, or empty when there is none worth giving.
    """
    match value:
        case timedelta():
            return value
        case bool():
            reason = "a truth value is no number"
        case int() | float():
            return _from_seconds(value)
        case str() if _NUMBER.fullmatch(value.strip()):
            if text_seconds:
                return _from_seconds(float(value))
            # .NET reads "1" as a day, most people as a second.
            reason = "seconds are written as a number, without quotes"
        case str():
            return _from_timespan(value.strip())
        case time():
            reason = "TOML reads that as a time of day: put it in quotes"
        case _:
            reason = ""
    raise ValueError(reason)


def format_timespan(duration: timedelta) -> str:
    """Write a duration as the timespan that reads back as it, to the microsecond."""
    microseconds = duration // _MICROSECOND
    sign = "-" if microseconds < 0 else ""
    seconds, fraction = divmod(abs(microseconds), _SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{sign}{f'{days}.' if days else ''}{hours:02}:{minutes:02}:{seconds:02}"
    if fraction % _MILLISECOND:
        return f"{text}.{fraction:06}"
    return f"{text}.{fraction // _MILLISECOND:03}" if fraction else text


def _from_seconds(seconds: float) -> timedelta:
    try:
        if math.isfinite(seconds):
            return timedelta(seconds=seconds)
    except OverflowError:
        pass
    else:
        reason = "a duration is finite"
        raise ValueError(reason)
    reason = "more than a duration can hold"
    raise ValueError(reason)


def _from_timespan(text: str) -> timedelta:
    found = _TIMESPAN.fullmatch(text)
    if found is None:
        raise ValueError
    days, hours, minutes, seconds = (int(found[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
    for name, number, most in (("hours", hours, 23), ("minutes", minutes, 59), ("seconds", seconds, 59)):
        if number > most:
            reason = f"{name} go up to {most} in a timespan"
            raise ValueError(reason)
    # The last of .NET's seven digits is finer than a timedelta: rounded, since no setting can mean it.
    microseconds = round(int((found["fraction"] or "").ljust(7, "0")) / 10)
    try:
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    except OverflowError:
        reason = "more than a duration can hold"
        raise ValueError(reason) from None
    return -duration if found["minus"] else duration
