"""What a task can be told beside its handler, and a job at its start: queue, priority, time-out, retries.

Checks values; what they then do is written where they are used (claims, the worker, `perdure.core.retry`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from perdure.errors import DefinitionError, MisuseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import AsyncConnection

    from perdure.due import Due
    from perdure.errors import PerdureError

__all__ = [
    "DEFAULT_QUEUE",
    "Options",
    "PlaceOptions",
    "StartOptions",
    "TaskOptions",
    "check_priority",
    "check_queue",
    "read_options",
]

DEFAULT_QUEUE: Final = "default"

_LONGEST_QUEUE = 63
_HIGHEST_PRIORITY = 100


class TaskOptions(TypedDict, total=False):
    """What `app.task` takes beside the name.

    Attributes:
        queue: The queue of its jobs, when their start names none.
        priority: Their priority, when their start names none: larger runs first, -100 to 100.
        timeout: How long an attempt may run.
        max_retry_count: Enqueueing retries, instead of what the configuration says.
        scheduler_retry_count: Scheduler retries, instead of what the configuration says.
        scheduler_retry_delays: The seconds (or timedeltas) before each of these.
    """

    queue: str
    priority: int
    timeout: timedelta | None
    max_retry_count: int | None
    scheduler_retry_count: int | None
    scheduler_retry_delays: Sequence[float | timedelta] | None


class PlaceOptions(TypedDict, total=False):
    """Where a job is put at its start.

    Attributes:
        at: When it is due: an aware datetime, or a timedelta from now by the database's clock. The past means now.
        queue: Its queue, instead of its task's.
        priority: Its priority, instead of its task's: larger runs first, -100 to 100.
    """

    at: Due | None
    queue: str | None
    priority: int | None


class StartOptions(PlaceOptions, total=False):
    """What `start` takes beside the payloads.

    Attributes:
        connection: A connection of the caller's: the job is stored in its transaction, and rolled back with it.
    """

    connection: AsyncConnection[Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A task's options, checked. None means: as the configuration says.

    Attributes:
        queue: The queue of its jobs, when their start names none.
        priority: Their priority, when their start names none.
        timeout: How long an attempt may run; None is without end.
        max_retry_count: Enqueueing retries.
        scheduler_retry_count: Scheduler retries.
        scheduler_retry_delays: Seconds before each of these.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    timeout: timedelta | None = None
    max_retry_count: int | None = None
    scheduler_retry_count: int | None = None
    scheduler_retry_delays: tuple[float, ...] | None = None


def read_options(where: str, given: Mapping[str, object]) -> Options:
    """Check what a task was given.

    Args:
        where: What to call the task in errors.
        given: The options by name.

    Raises:
        DefinitionError: One is unknown, or its value isn't allowed.
    """
    known = TaskOptions.__optional_keys__
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(sorted(known))}"
            message = f"{where}: there is no option {name!r}; {advice}"
            raise DefinitionError(message)
    return Options(
        queue=check_queue(given.get("queue", DEFAULT_QUEUE), where=where, error=DefinitionError),
        priority=check_priority(given.get("priority", 0), where=where, error=DefinitionError),
        timeout=_timeout(where, given.get("timeout")),
        max_retry_count=_count(where, "max_retry_count", given.get("max_retry_count")),
        scheduler_retry_count=_count(where, "scheduler_retry_count", given.get("scheduler_retry_count")),
        scheduler_retry_delays=_delays(where, given.get("scheduler_retry_delays")),
    )


def check_queue(value: object, *, where: str, error: type[PerdureError] = MisuseError) -> str:
    """Return the queue's name.

    Raises:
        PerdureError: It can't name a queue.
    """
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_QUEUE and value.isprintable():
        return value
    message = f"{where}: queue={value!r} isn't allowed; a queue's name has 1 to {_LONGEST_QUEUE} printable characters"
    raise error(message)


def check_priority(value: object, *, where: str, error: type[PerdureError] = MisuseError) -> int:
    """Return the priority.

    Raises:
        PerdureError: It is no priority.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _HIGHEST_PRIORITY:
        return value
    message = (
        f"{where}: priority={value!r} isn't allowed; a priority is a whole number from {-_HIGHEST_PRIORITY} to "
        f"{_HIGHEST_PRIORITY}, and larger runs first"
    )
    raise error(message)


def _timeout(where: str, value: object) -> timedelta | None:
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    message = f"{where}: timeout={value!r} isn't allowed; it is a timedelta above 0, or None for no time-out"
    raise DefinitionError(message)


def _count(where: str, name: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    message = f"{where}: {name}={value!r} isn't allowed; it is a whole number, 0 (no retries) or more"
    raise DefinitionError(message)


def _delays(where: str, value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        delays = [_delay_seconds(delay) for delay in cast("Sequence[object]", value)]
        if all(delay is not None and math.isfinite(delay) and delay >= 0 for delay in delays):
            return tuple(delay for delay in delays if delay is not None)
    message = f"{where}: scheduler_retry_delays={value!r} isn't allowed; it is a list of seconds, each 0 or more"
    raise DefinitionError(message)


def _delay_seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
