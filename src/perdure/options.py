"""What a task can be told beside its handler, and a job at its start: queue, priority, time limits, retries, version.

Checks values; what they then do is written where they are used (claims, the worker, `perdure.core.retry`). The retry
policies are in `perdure.retry`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from perdure.config.rules import DurationBetween
from perdure.errors import DefinitionError, MisuseError
from perdure.retry import Exponential, FixedDelays, Retry
from perdure.shown import shorten

if TYPE_CHECKING:
    from typing import TypeGuard

    from psycopg import AsyncConnection

    from perdure.due import Due
    from perdure.durations import Duration
    from perdure.errors import PerdureError

__all__ = [
    "DEFAULT_QUEUE",
    "Options",
    "PlaceOptions",
    "StartOptions",
    "TaskOptions",
    "check_deadline",
    "check_priority",
    "check_queue",
    "check_queues",
    "read_options",
]

DEFAULT_QUEUE: Final = "default"

_LONGEST_QUEUE = 63
_HIGHEST_PRIORITY = 100
_DURATION = DurationBetween(timedelta(0))
_LAST_VERSION = 2**31 - 1  # a PostgreSQL integer


class TaskOptions(TypedDict, total=False):
    """What `app.task` takes beside the name. A duration is a timedelta, seconds, or a timespan such as "00:05:00".

    Attributes:
        queue: The queue of its jobs, when their start names none.
        priority: Their priority, when their start names none: larger runs first, -100 to 100.
        timeout: How long an attempt may run.
        deadline: How long the whole job may take from its first due time, waits and suspensions included.
        max_retry_count: Enqueueing retries, instead of what the configuration says.
        scheduler_retry_count: Scheduler retries, instead of what the configuration says.
        scheduler_retry_delays: The wait before each of these.
        retry: A policy for scheduler retries, instead of these two: `FixedDelays` or `Exponential` of `perdure.retry`,
            or a function of (attempt, error) that returns a delay, or None to fail the job at once.
        no_retry_on: Exceptions that fail the job at once.
        progress_resets_retries: Whether scheduler retries start afresh once an attempt has stored a new checkpoint.
        version: The version of the payloads' types, 1 or more.
        upgrades: For each older version that may still be stored, the function that makes the next version of it.
        events: What the task's events may be: a type, or a union of them. None takes no events.
    """

    queue: str
    priority: int
    timeout: Duration | None
    deadline: Duration | None
    max_retry_count: int | None
    scheduler_retry_count: int | None
    scheduler_retry_delays: Sequence[Duration] | None
    retry: Retry | None
    no_retry_on: type[Exception] | Collection[type[Exception]]
    progress_resets_retries: bool
    version: int
    upgrades: Mapping[int, Callable[..., Any]]
    events: Any


class PlaceOptions(TypedDict, total=False):
    """Where a job is put at its start.

    Attributes:
        at: When it is due: an aware datetime, or a timedelta from now by the database's clock. The past means now.
        queue: Its queue, instead of its task's.
        priority: Its priority, instead of its task's: larger runs first, -100 to 100.
        deadline: How long it may take from when it is due, instead of what its task says: a timedelta, seconds, or a
            timespan such as "00:05:00".
    """

    at: Due | None
    queue: str | None
    priority: int | None
    deadline: Duration | None


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
        deadline: How long the whole job may take from its first due time; None is without end.
        max_retry_count: Enqueueing retries.
        scheduler_retry_count: Scheduler retries.
        scheduler_retry_delays: Seconds before each of these.
        retry: A policy instead of the two above.
        no_retry_on: Exceptions that fail the job at once.
        progress_resets_retries: Whether scheduler retries start afresh once an attempt has stored a new checkpoint.
        version: The version of the payloads' types.
        upgrades: What makes version n + 1 of version n, from the oldest that is known to the one before `version`.
        events: The annotation of the task's events; None takes no events.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    timeout: timedelta | None = None
    deadline: timedelta | None = None
    max_retry_count: int | None = None
    scheduler_retry_count: int | None = None
    scheduler_retry_delays: tuple[float, ...] | None = None
    retry: Retry | None = None
    no_retry_on: tuple[type[Exception], ...] = ()
    progress_resets_retries: bool = False
    version: int = 1
    upgrades: Mapping[int, Callable[..., Any]] = field(default_factory=lambda: MappingProxyType({}))
    events: Any = None


def read_options(where: str, given: Mapping[str, object]) -> Options:
    """Check what a task was given.

    Args:
        where: What to call the task in errors.
        given: The options by name.

    Raises:
        DefinitionError: One is unknown, or its value isn't allowed.
    """
    _check_names(where, given)
    version = _version(where, given.get("version", 1))
    return Options(
        queue=check_queue(given.get("queue", DEFAULT_QUEUE), where=where, error=DefinitionError),
        priority=check_priority(given.get("priority", 0), where=where, error=DefinitionError),
        timeout=_limit(where, "timeout", given.get("timeout")),
        deadline=_limit(where, "deadline", given.get("deadline")),
        max_retry_count=_count(where, "max_retry_count", given.get("max_retry_count")),
        scheduler_retry_count=_count(where, "scheduler_retry_count", given.get("scheduler_retry_count")),
        scheduler_retry_delays=_delays(where, given.get("scheduler_retry_delays")),
        retry=_retry(where, given.get("retry")),
        no_retry_on=_no_retry_on(where, given.get("no_retry_on")),
        progress_resets_retries=_switch(where, "progress_resets_retries", given.get("progress_resets_retries", False)),
        version=version,
        upgrades=_upgrades(where, version, given.get("upgrades")),
        events=given.get("events"),
    )


def _check_names(where: str, given: Mapping[str, object]) -> None:
    known = TaskOptions.__optional_keys__
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(sorted(known))}"
            message = f"{where}: there is no option {name!r}; {advice}"
            raise DefinitionError(message)
    for name in ("scheduler_retry_count", "scheduler_retry_delays"):
        if given.get("retry") is not None and given.get(name) is not None:
            message = (
                f"{where}: retry={given['retry']!r} and {name}={given[name]!r} both say when an attempt that raised "
                "runs again; give one of them"
            )
            raise DefinitionError(message)


def check_queue(value: object, *, where: str, error: type[PerdureError] = MisuseError) -> str:
    """Return the queue's name.

    Raises:
        PerdureError: It can't name a queue.
    """
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_QUEUE and value.isprintable():
        return value
    message = (
        f"{where}: queue={shorten(value)} isn't allowed; a queue's name has 1 to {_LONGEST_QUEUE} printable characters"
    )
    raise error(message)


def check_queues(given: object, *, where: str) -> list[str]:
    """Return the names of several queues.

    Raises:
        MisuseError: They aren't a list of names, or none at all.
    """
    value, reason = given, "it is a list of queues' names, at least one, or None for all queues"
    if isinstance(value, str):
        reason = f"a text alone; give a list: queues=[{shorten(given)}]"
    elif isinstance(value, Iterable):
        queues = [check_queue(queue, where=f"{where}: queues") for queue in cast("Iterable[object]", value)]
        if queues:
            return queues
    message = f"{where}: queues={shorten(given)} isn't allowed; {reason}"
    raise MisuseError(message)


def check_priority(value: object, *, where: str, error: type[PerdureError] = MisuseError) -> int:
    """Return the priority.

    Raises:
        PerdureError: It is no priority.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _HIGHEST_PRIORITY:
        return value
    message = (
        f"{where}: priority={shorten(value)} isn't allowed; a priority is a whole number from {-_HIGHEST_PRIORITY} to "
        f"{_HIGHEST_PRIORITY}, and larger runs first"
    )
    raise error(message)


def check_deadline(value: object, *, where: str) -> timedelta | None:
    """Return the deadline, or None.

    Raises:
        MisuseError: It is none.
    """
    return _limit(where, "deadline", value, error=MisuseError)


def _limit(where: str, name: str, value: object, *, error: type[PerdureError] = DefinitionError) -> timedelta | None:
    if value is None:
        return None
    duration = _duration(value)
    if duration:
        return duration
    message = (
        f"{where}: {name}={shorten(value)} isn't allowed; it is more than 0, and {_DURATION.allowed}, or None for no "
        "limit"
    )
    raise error(message)


def _duration(value: object) -> timedelta | None:
    """Return a duration; None, if it is none that is allowed."""
    try:
        return _DURATION.read(value)
    except ValueError:
        return None


def _switch(where: str, name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    message = f"{where}: {name}={shorten(value)} isn't allowed; it is True or False"
    raise DefinitionError(message)


def _version(where: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LAST_VERSION:
        return value
    message = f"{where}: version={shorten(value)} isn't allowed; it is a whole number from 1 to {_LAST_VERSION}"
    raise DefinitionError(message)


def _upgrades(where: str, version: int, value: object) -> Mapping[int, Callable[..., Any]]:
    """Check that the functions lead, one after another and without a hole, to the version."""
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping):
        message = f"{where}: upgrades={shorten(value)} isn't allowed; it is a mapping of versions to functions"
        raise DefinitionError(message)
    functions = cast("Mapping[object, object]", value)
    for key, function in functions.items():
        if not (isinstance(key, int) and not isinstance(key, bool) and 1 <= key < version):
            allowed = f"1 to {version - 1}, the versions before the task's" if version > 1 else "none: version is 1"
            message = f"{where}: upgrades has the key {key!r}, which isn't allowed; allowed are {allowed}"
            raise DefinitionError(message)
        if not callable(function):
            message = f"{where}: upgrades[{key}]={function!r} isn't allowed; it is a function"
            raise DefinitionError(message)
    checked = cast("Mapping[int, Callable[..., Any]]", value)
    oldest = min(checked, default=version)
    for needed in range(oldest, version):
        if needed not in checked:
            message = (
                f"{where}: upgrades has {oldest} but not {needed}, so that nothing leads from version {needed} to "
                f"{needed + 1}; it takes one function for each version from the oldest to {version - 1}"
            )
            raise DefinitionError(message)
    return MappingProxyType(dict(checked))


def _count(where: str, name: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    message = f"{where}: {name}={shorten(value)} isn't allowed; it is a whole number, 0 (no retries) or more"
    raise DefinitionError(message)


def _delays(where: str, given: object) -> tuple[float, ...] | None:
    value = given
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        delays = [_duration(delay) for delay in cast("Sequence[object]", value)]
        if None not in delays:
            return tuple(delay.total_seconds() for delay in delays if delay is not None)
    message = (
        f"{where}: scheduler_retry_delays={shorten(given)} isn't allowed; it is a list of durations, each "
        f"{_DURATION.allowed}"
    )
    raise DefinitionError(message)


def _retry(where: str, value: object) -> Retry | None:
    if value is None or isinstance(value, FixedDelays | Exponential):
        return value
    allowed = "FixedDelays(…) or Exponential(…) of perdure.retry, or a function (attempt, error) that returns a delay"
    reason = None
    if not callable(value) or isinstance(value, type):
        reason = allowed
    elif inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004 - an instance's
        reason = "a plain function: an `async def` can't be asked while an attempt ends"
    elif not _takes_two(value):
        reason = f"{allowed}; this one can't be called with (attempt, error)"
    if reason is None:
        return cast("Retry", value)
    message = f"{where}: retry={shorten(value)} isn't allowed; it is {reason}"
    raise DefinitionError(message)


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(1, ValueError())
    except TypeError:
        return False
    except ValueError:  # a built-in that doesn't tell what it takes
        return True
    return True


def _no_retry_on(where: str, value: object) -> tuple[type[Exception], ...]:
    if value is None:
        return ()
    if isinstance(value, tuple | list | set | frozenset):
        several = cast("Collection[object]", value)
        return tuple(_exception_class(where, f"no_retry_on[{place}]", one) for place, one in enumerate(several))
    return (_exception_class(where, "no_retry_on", value),)


def _exception_class(where: str, name: str, value: object) -> type[Exception]:
    if _is_exception_class(value):
        return value
    message = (
        f"{where}: {name}={shorten(value)} isn't allowed; it is a class of exceptions derived from Exception, such as "
        "ValueError, or a tuple of these"
    )
    raise DefinitionError(message)


def _is_exception_class(value: object) -> TypeGuard[type[Exception]]:
    return isinstance(value, type) and issubclass(value, Exception)
