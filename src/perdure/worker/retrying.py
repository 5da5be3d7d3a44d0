"""What a task's own rules say of a retry, before `decide` is asked: its policy, its function, what it never retries.

Here the users' code and chance have their say; both are handed to `decide` as values.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar, cast

from perdure.core.decide import Raise
from perdure.core.retry import Backoff, RetryPolicy
from perdure.durations import read_duration
from perdure.retry import Exponential, FixedDelays

if TYPE_CHECKING:
    from perdure.options import Options
    from perdure.retry import Retry, RetryFunction

__all__ = ["judge", "policy_of"]

T = TypeVar("T")


def policy_of(options: Options, defaults: RetryPolicy) -> RetryPolicy:
    """Return both levels of a task's retries: its own where it says something, else the configuration's.

    A function of the task's own stands above this policy, which counts when the function has no answer.
    """
    count, delays = _level_1(options.retry)  # Nones for a task that has these two options instead
    return RetryPolicy(
        _first(count, options.scheduler_retry_count, default=defaults.scheduler_retry_count),
        _first(delays, options.scheduler_retry_delays, default=defaults.scheduler_retry_delays),
        _first(options.max_retry_count, default=defaults.max_retry_count),
    )


def judge(options: Options, attempt: int, error: BaseException, chance: float) -> Raise:
    """Say what the task's own rules make of an error that an attempt has raised.

    Args:
        options: The task's.
        attempt: Which attempt of this level has raised, counted from 1.
        error: What it has raised.
        chance: A random number from 0 to 1.

    Raises:
        TypeError: The task's function returned what is no delay.
        BaseException: Whatever the task's function raised.
    """
    if _is_never_retried(error, options.no_retry_on):
        return Raise(retry=False)
    if options.retry is None or isinstance(options.retry, FixedDelays | Exponential):
        return Raise(chance=chance)
    delay_seconds = _ask(options.retry, attempt, error)
    return Raise(retry=False) if delay_seconds is None else Raise(delay_seconds=delay_seconds)


def _level_1(retry: Retry | None) -> tuple[int | None, tuple[float, ...] | Backoff | None]:
    """Return the count and the delays that a policy stands for; None is as configured."""
    match retry:
        case FixedDelays():
            seconds = tuple(delay.total_seconds() for delay in retry.delays)
            return len(seconds) if retry.count is None else retry.count, seconds
        case Exponential():
            first, cap = retry.first.total_seconds(), retry.cap.total_seconds()
            return retry.count, Backoff(first, retry.factor, cap)
        case _:
            return None, None


def _first(*given: T | None, default: T) -> T:
    return next((value for value in given if value is not None), default)


def _ask(function: RetryFunction, attempt: int, error: BaseException) -> float | None:
    """Ask a task's own function for the seconds to wait, 0 or more; None fails the job.

    Raises:
        TypeError: It returned something else.
        BaseException: Whatever it raised.
    """
    answer: object = function(attempt, error)
    if answer is None:
        return None
    if inspect.iscoroutine(answer):
        answer.close()
    try:
        return max(0.0, read_duration(answer).total_seconds())
    except ValueError:
        message = f"the retry function returned {answer!r}; it returns a timedelta, seconds, or None for no retry"
        raise TypeError(message) from None


def _is_never_retried(error: BaseException, no_retry_on: tuple[type[Exception], ...]) -> bool:
    """Tell whether an error is of these classes, or is a group that holds one: a retry would meet it again."""
    if isinstance(error, no_retry_on):
        return True
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(_is_never_retried(one, no_retry_on) for one in group.exceptions)
    return False
