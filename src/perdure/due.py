"""Points in time that callers give, `at=` and `until=`: an aware datetime, or a timedelta from now.

Does not know what time it is: the database adds durations to its own clock, and takes the past for now.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from perdure.errors import MisuseError
from perdure.shown import shorten

__all__ = ["Due", "split_due"]

Due = datetime | timedelta

_LONGEST = timedelta(days=1_000_000)


def split_due(value: object, *, key: str) -> tuple[datetime | None, timedelta | None]:
    """Return the time as either a datetime or a duration; two Nones mean now.

    Args:
        value: What the caller gave.
        key: Whose value it is, to be named when it can't be used: "at", "Suspended(until=…)".

    Raises:
        MisuseError: It is a naive datetime, or neither a datetime nor a timedelta.
    """
    match value:
        case None:
            return None, None
        case timedelta() if abs(value) <= _LONGEST:
            return None, value
        case timedelta():
            message = (
                f"{key}: {shorten(value)} is longer than the database's clock can count; "
                f"allowed are {_LONGEST.days} days"
            )
        case datetime() if value.utcoffset() is not None:
            return value, None
        case datetime():
            message = (
                f"{key}: {shorten(value)} has no time zone, so it is no point in time; "
                "give datetime.now(UTC) + …, datetime(…, tzinfo=UTC), or a timedelta from now"
            )
        case _:
            message = f"{key}: {shorten(value)} is no time; allowed are an aware datetime, and a timedelta from now"
    raise MisuseError(message)
