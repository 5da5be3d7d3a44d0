"""The two levels of retry, as pure functions of a policy and the retries already spent.

Level 1, scheduler retries: an attempt that raised runs again after a delay of a list, a number of times.
Level 2, enqueueing retries: when level 1 is used up, or at once when the handler returned a failure, the job is
enqueued again, due now, with level 1 afresh.

Which of them an attempt's end asks for is decided in `perdure.core.decide`; when "after a delay" is, by the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from perdure.errors import ConfigError

__all__ = ["Retry", "RetryPolicy", "enqueueing_retry", "retry_after_raise", "scheduler_retry", "scheduler_retry_delay"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which delays, a job is attempted again.

    Attributes:
        scheduler_retry_count: Most scheduler retries in a row (level 1); 0 switches the level off.
        scheduler_retry_delays: Seconds before each of them; past the end the last repeats, none means at once.
        max_retry_count: Most enqueueing retries (level 2).
    """

    scheduler_retry_count: int
    scheduler_retry_delays: tuple[float, ...]
    max_retry_count: int

    def __post_init__(self) -> None:
        """Refuse what no policy can mean.

        Raises:
            ConfigError: A count is negative, or a delay negative or not a finite number.
        """
        for key in ("scheduler_retry_count", "max_retry_count"):
            count: int = getattr(self, key)
            if count < 0:
                message = f"{key} is {count}; allowed are 0 (no retries) and more"
                raise ConfigError(message)
        for place, delay in enumerate(self.scheduler_retry_delays):
            if not (isfinite(delay) and delay >= 0):
                message = f"scheduler_retry_delays[{place}] is {delay}; allowed are seconds, finite, 0 and more"
                raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class Retry:
    """One more attempt: when, and the counters that it leaves.

    Attributes:
        delay_seconds: How long to wait before it; 0 is at once.
        retry_number: Enqueueing retries spent, this one included.
        scheduler_retries: Scheduler retries spent in this level, this one included.
    """

    delay_seconds: float
    retry_number: int
    scheduler_retries: int


def scheduler_retry_delay(policy: RetryPolicy, scheduler_retries: int) -> float:
    """Return the seconds to wait before the scheduler retry that follows `scheduler_retries` spent ones."""
    delays = policy.scheduler_retry_delays
    if not delays:
        return 0.0
    return delays[min(scheduler_retries, len(delays) - 1)]


def scheduler_retry(policy: RetryPolicy, retry_number: int, scheduler_retries: int) -> Retry | None:
    """Spend one retry of level 1, if there is one left."""
    if scheduler_retries >= policy.scheduler_retry_count:
        return None
    delay_seconds = scheduler_retry_delay(policy, scheduler_retries)
    return Retry(delay_seconds, retry_number, scheduler_retries + 1)


def enqueueing_retry(policy: RetryPolicy, retry_number: int) -> Retry | None:
    """Spend one retry of level 2, if there is one left; level 1 starts afresh."""
    if retry_number >= policy.max_retry_count:
        return None
    return Retry(0.0, retry_number + 1, 0)


def retry_after_raise(policy: RetryPolicy, retry_number: int, scheduler_retries: int) -> Retry | None:
    """Spend one retry of level 1, or of level 2 when level 1 is used up, or none when both are."""
    return scheduler_retry(policy, retry_number, scheduler_retries) or enqueueing_retry(policy, retry_number)
