"""The two levels of retry, as pure functions of a policy and the retries already spent.

Level 1, scheduler retries: an attempt that raised runs again after a delay, of a list or a growing one, a number of
times. Level 2, enqueueing retries: when level 1 is used up, or at once when the handler returned a failure, the job is
enqueued again, due now unless the handler says when, with level 1 afresh.

Which of them an attempt's end asks for is decided in `perdure.core.decide`; when "after a delay" is, by the database.
Chance is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from perdure.errors import ConfigError

__all__ = [
    "Backoff",
    "Retry",
    "RetryPolicy",
    "enqueueing_retry",
    "retry_after_raise",
    "scheduler_retry",
    "scheduler_retry_delay",
]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow by a factor up to a cap, with full jitter: the wait is anything from 0 to the delay.

    So jobs that failed together, of one cause, don't come back together. "Full" is the kind of jitter that needs the
    fewest calls until all are through: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        first_seconds: The longest wait before the first retry.
        factor: What it grows by with every further one.
        cap_seconds: What it never exceeds.
    """

    first_seconds: float
    factor: float
    cap_seconds: float

    def __post_init__(self) -> None:
        """Refuse what never ends or never grows.

        Raises:
            ConfigError: A wait is negative or not a finite number, or the factor is below 1.
        """
        for key, least in (("first_seconds", 0), ("factor", 1), ("cap_seconds", 0)):
            value: float = getattr(self, key)
            if not (isfinite(value) and value >= least):
                message = f"{key} is {value}; allowed are finite numbers, {least} and more"
                raise ConfigError(message)

    def longest_seconds(self, scheduler_retries: int) -> float:
        """Return the longest wait before the retry that follows `scheduler_retries` spent ones."""
        try:
            return min(self.cap_seconds, self.first_seconds * float(self.factor) ** scheduler_retries)
        except OverflowError:
            return self.cap_seconds if self.first_seconds else 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which delays, a job is attempted again.

    Attributes:
        scheduler_retry_count: Most scheduler retries in a row (level 1); 0 switches the level off.
        scheduler_retry_delays: Seconds before each of them; past the end the last repeats, none means at once. Or how
            they grow.
        max_retry_count: Most enqueueing retries (level 2).
    """

    scheduler_retry_count: int
    scheduler_retry_delays: tuple[float, ...] | Backoff
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
        if isinstance(self.scheduler_retry_delays, Backoff):
            return
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


def scheduler_retry_delay(policy: RetryPolicy, scheduler_retries: int, chance: float = 1.0) -> float:
    """Return the seconds to wait before the scheduler retry that follows `scheduler_retries` spent ones.

    Args:
        policy: Whose delays.
        scheduler_retries: How many retries of level 1 are spent.
        chance: A random number from 0 to 1, for delays with jitter.
    """
    delays = policy.scheduler_retry_delays
    if isinstance(delays, Backoff):
        return chance * delays.longest_seconds(scheduler_retries)
    if not delays:
        return 0.0
    return delays[min(scheduler_retries, len(delays) - 1)]


def scheduler_retry(
    policy: RetryPolicy, retry_number: int, scheduler_retries: int, chance: float = 1.0
) -> Retry | None:
    """Spend one retry of level 1, if there is one left."""
    if scheduler_retries >= policy.scheduler_retry_count:
        return None
    delay_seconds = scheduler_retry_delay(policy, scheduler_retries, chance)
    return Retry(delay_seconds, retry_number, scheduler_retries + 1)


def enqueueing_retry(policy: RetryPolicy, retry_number: int, delay_seconds: float = 0.0) -> Retry | None:
    """Spend one retry of level 2, if there is one left; level 1 starts afresh."""
    if retry_number >= policy.max_retry_count:
        return None
    return Retry(delay_seconds, retry_number + 1, 0)


def retry_after_raise(
    policy: RetryPolicy, retry_number: int, scheduler_retries: int, chance: float = 1.0
) -> Retry | None:
    """Spend one retry of level 1, or of level 2 when level 1 is used up, or none when both are."""
    return scheduler_retry(policy, retry_number, scheduler_retries, chance) or enqueueing_retry(policy, retry_number)
