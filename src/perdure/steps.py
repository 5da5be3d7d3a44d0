"""What a step is: a function whose typed result is stored with the checkpoint, so that no later attempt calls it again.

Reads the result's type, calls, waits between tries. What is stored when is `context`'s.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import time
import typing
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from perdure.core.codec import codec_for
from perdure.core.retry import Backoff
from perdure.durations import read_duration
from perdure.errors import DefinitionError, MisuseError
from perdure.retry import Exponential, FixedDelays
from perdure.shown import shorten
from perdure.upgrading import read_payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from perdure.core.codec import Codec
    from perdure.retry import Retry
    from perdure.store.running import SleepBegun
    from perdure.task import Task

__all__ = ["Asleep", "call_step", "call_step_blocking", "check_same_sleep", "result_codec"]

_MISSING: Final = object()
_codecs: WeakKeyDictionary[Any, Codec[Any]] = WeakKeyDictionary()


class Asleep(BaseException):
    """Ends an attempt whose handler sleeps: the job is suspended until then.

    Attributes:
        until: When it goes on.
    """

    def __init__(self, until: datetime) -> None:
        """Sleep until then."""
        super().__init__(f"asleep until {until}")
        self.until = until


def result_codec(key: str, function: Callable[..., Any], result: Any) -> Codec[Any]:
    """Return how a step's result is stored.

    Args:
        key: The step's, for errors.
        function: What it calls.
        result: The type of what that returns; None reads it from its return annotation.

    Raises:
        MisuseError: That is no function, or doesn't say what it returns.
        DefinitionError: What it returns can't be stored.
    """
    if not callable(function):
        raise _no_function(key, function)
    if result is not None:
        return _codec(key, result)
    inner = _behind(function)
    codec = _codecs.get(inner)
    if codec is None:
        codec = _codecs[inner] = _codec(key, _returned(key, function, inner))
    return codec


def _codec(key: str, annotation: Any) -> Codec[Any]:
    try:
        return codec_for(annotation)
    except DefinitionError as error:
        message = f"step {key!r}, result: {error}"
        raise DefinitionError(message) from error


def check_same_sleep(task: Task[Any, Any, Any, Any], job_id: int, key: str, begun: SleepBegun, found: bytes) -> None:
    """Make sure that the sleep without a key that is over is the one that the handler has come to now.

    It is known by its number in the run alone. That says nothing in a handler that goes on from its execution metadata:
    there the first sleep of a run is another one each time. So it is over only for the execution metadata that it was
    begun with; as this code has that, for a deploy in between may have changed its form.

    Raises:
        MisuseError: The execution metadata is another one by now.
        PayloadUndecodable: The code at hand can't read what the sleep was begun with.
    """
    if begun.found is None or begun.found == found:
        return
    before = read_payload(task, "execution_metadata", begun.found, begun.version, what=f"execution metadata of {key!r}")
    if task.execution_metadata.encode(before, what="execution metadata", limit=None) != found:
        message = (
            f"job {job_id}: {key!r} is over, but the execution metadata isn't what it was when that began, so it can't "
            "be told whether this is the same sleep or another; give each sleep of the job a key of its own: "
            'ctx.sleep(…, key=f"pause {number}")'
        )
        raise MisuseError(message)


async def call_step(key: str, function: Callable[..., Any], arguments: tuple[Any, ...], retry: Retry | None) -> Any:
    """Call a step's function, again after waits where its own policy says so."""
    _check(key, retry)
    tries = 0
    while True:
        try:
            returned = function(*arguments)
            return await returned if inspect.isawaitable(returned) else returned
        except Exception as error:
            tries += 1
            wait_seconds = _wait_seconds(retry, tries, error)
            if wait_seconds is None:
                raise
        await asyncio.sleep(wait_seconds)


def call_step_blocking(
    key: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    retry: Retry | None,
    check: Callable[[], None],
) -> Any:
    """Do as `call_step` does, in a thread; `check` raises once the attempt is stopped."""
    _check(key, retry)
    tries = 0
    while True:
        try:
            return function(*arguments)
        except Exception as error:
            tries += 1
            wait_seconds = _wait_seconds(retry, tries, error)
            if wait_seconds is None:
                raise
        until_seconds = time.monotonic() + wait_seconds
        while (left_seconds := until_seconds - time.monotonic()) > 0:
            check()
            time.sleep(min(left_seconds, 0.1))


def _check(key: str, retry: Retry | None) -> None:
    if isinstance(retry, Exponential) and retry.count is None:
        message = f"step {key!r}: retry=Exponential(…) needs a count here: how often the step is tried again"
        raise MisuseError(message)


def _wait_seconds(retry: Retry | None, tries: int, error: Exception) -> float | None:
    """Say how long to wait after the try of this number, from 1; None when it was the last."""
    match retry:
        case None:
            return None
        case FixedDelays():
            count = len(retry.delays) if retry.count is None else retry.count
            if tries > count:
                return None
            return retry.delays[min(tries, len(retry.delays)) - 1].total_seconds() if retry.delays else 0.0
        case Exponential():
            if tries > (retry.count or 0):
                return None
            backoff = Backoff(retry.first.total_seconds(), retry.factor, retry.cap.total_seconds())
            return random.random() * backoff.longest_seconds(tries - 1)  # noqa: S311 - jitter
        case _:
            answer = retry(tries, error)
            return None if answer is None else max(0.0, read_duration(answer).total_seconds())


def _no_function(key: str, given: object) -> MisuseError:
    if not inspect.iscoroutine(given):
        return MisuseError(f"step {key!r}: {shorten(given)} is no function; give one, and behind it its arguments")
    given.close()  # or it would be warned that it was never awaited
    name = given.__qualname__.rpartition("<locals>.")[2]
    return MisuseError(
        f"step {key!r}: {name}(…) has been called already, so that every attempt would do it; give the function, and "
        f"behind it its arguments: ctx.step({key!r}, {name}, …)"
    )


def _behind(function: Callable[..., Any]) -> Any:
    """Look behind partials and methods at what has the annotations, and lives long."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__func__", function)


def _returned(key: str, function: Callable[..., Any], inner: Any) -> Any:
    named = getattr(inner, "__qualname__", repr(function))
    target = inner if inspect.isroutine(inner) else type(inner).__call__
    try:
        hint = typing.get_type_hints(target, include_extras=True).get("return", _MISSING)
    except (NameError, TypeError) as error:
        message = f"step {key!r}: the annotations of {named} can't be evaluated here ({error}); pass result=, its type"
        raise MisuseError(message) from error
    if hint is _MISSING:
        message = (
            f"step {key!r}: {named} doesn't say what it returns, so it can't be stored: annotate it, or pass result=, "
            "its type"
        )
        raise MisuseError(message)
    return hint
