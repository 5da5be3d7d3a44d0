"""Retry policies: what a task's `retry=` takes. `FixedDelays`, `Exponential`, or a function of the task's own.

They say when an attempt that raised runs again (level 1, scheduler retries). Checked when they are made; what they then
do is written in `perdure.worker.retrying` and `perdure.core.retry`; docs/retries.md explains both levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from perdure.durations import HOW_TO_WRITE, Duration, read_duration
from perdure.errors import DefinitionError

__all__ = ["Exponential", "FixedDelays", "Retry", "RetryFunction"]

RetryFunction: TypeAlias = Callable[[int, BaseException], timedelta | float | None]
"""A policy of the task's own: how long to wait, as a timedelta or seconds, or None to fail the job at once.

It is given which attempt of this level has raised, counted from 1 and afresh where level 1 starts afresh, and what it
has raised. It runs in the worker's event loop: it must not block.
"""

_LONGEST: Final = timedelta(days=36_500)
_MOST: Final = 2**31 - 1  # what the column of retries can hold


@dataclass(frozen=True)
class FixedDelays:
    """These delays, one after another.

    Attributes:
        delays: The wait before each retry, as timedeltas or seconds; past their end the last repeats.
        count: Most retries in a row; one for each delay, if None.
    """

    delays: tuple[timedelta, ...]
    count: int | None = None

    if TYPE_CHECKING:  # the constructor takes every notation of a duration; the attribute is of one type

        def __init__(self, delays: Sequence[Duration], count: int | None = None) -> None: ...

    def __post_init__(self) -> None:
        """Read the delays.

        Raises:
            DefinitionError: A delay or the count isn't allowed.
        """
        name = "FixedDelays"
        given = enumerate(_listed(name, "delays", self.delays))
        object.__setattr__(self, "delays", tuple(_duration(name, f"delays[{at}]", delay) for at, delay in given))
        _check_count(name, self.count)


@dataclass(frozen=True)
class Exponential:
    """Delays that grow, with full jitter: each wait is drawn evenly from 0 to min(cap, first * factor**retries).

    So jobs that failed together, of one cause, don't all come back together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        first: The longest wait before the first retry.
        factor: What it grows by with every further one, 1 or more.
        cap: What it never exceeds.
        count: Most retries in a row; the configuration's `scheduler_retry_count`, if None.
    """

    first: timedelta
    factor: float = 2
    cap: timedelta = timedelta(hours=1)
    count: int | None = None

    if TYPE_CHECKING:  # as above

        def __init__(
            self, first: Duration, factor: float = 2, cap: Duration = ..., count: int | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        """Read the durations.

        Raises:
            DefinitionError: One of the values isn't allowed.
        """
        name = "Exponential"
        object.__setattr__(self, "first", _duration(name, "first", self.first))
        object.__setattr__(self, "cap", _duration(name, "cap", self.cap))
        if not (_is_number(self.factor) and self.factor >= 1):
            raise _refusal(name, "factor", self.factor, "a finite number, 1 or more")
        if not self.first:
            raise _refusal(name, "first", self.first, "more than 0: nothing times any factor stays nothing")
        if self.cap < self.first:
            raise _refusal(name, "cap", self.cap, f"no less than first, which is {self.first!r}")
        _check_count(name, self.count)


Retry: TypeAlias = FixedDelays | Exponential | RetryFunction
"""What `retry=` takes."""


def _listed(where: str, name: str, value: object) -> Sequence[object]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return cast("Sequence[object]", value)
    raise _refusal(where, name, value, f"a list of delays, each {HOW_TO_WRITE}")


def _duration(where: str, name: str, value: object) -> timedelta:
    try:
        duration = read_duration(value)
    except ValueError:
        duration = None
    if duration is not None and timedelta(0) <= duration <= _LONGEST:
        return duration
    raise _refusal(where, name, value, f"0 to {_LONGEST.days} days, as {HOW_TO_WRITE}")


def _check_count(where: str, value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST):
        return
    raise _refusal(where, "count", value, "a whole number, 0 (no retries) or more, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refusal(where: str, name: str, value: object, allowed: str) -> DefinitionError:
    return DefinitionError(f"{where}: {name}={value!r} isn't allowed; it is {allowed}")
