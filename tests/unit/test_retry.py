"""Both levels of retry: the delays, the counts, and what no policy can mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.retry import (
    Backoff,
    Retry,
    RetryPolicy,
    enqueueing_retry,
    retry_after_raise,
    scheduler_retry,
    scheduler_retry_delay,
)
from perdure.errors import ConfigError

delays = st.floats(min_value=0, max_value=1e9, allow_nan=False)
policies = st.builds(
    RetryPolicy,
    scheduler_retry_count=st.integers(0, 6),
    scheduler_retry_delays=st.lists(delays, max_size=5).map(tuple),
    max_retry_count=st.integers(0, 4),
)


def policy_of(
    *, scheduler_retry_count: int = 5, delays: tuple[float, ...] = (60, 120, 300, 600), max_retry_count: int = 0
) -> RetryPolicy:
    return RetryPolicy(scheduler_retry_count, delays, max_retry_count)


def raise_until_the_end(policy: RetryPolicy) -> list[Retry]:
    """Return the retries that a job gets that raises in every attempt."""
    retries: list[Retry] = []
    retry = retry_after_raise(policy, 0, 0)
    while retry is not None:
        retries.append(retry)
        retry = retry_after_raise(policy, retry.retry_number, retry.scheduler_retries)
    return retries


def test_past_the_end_of_the_list_the_last_delay_repeats() -> None:
    assert [retry.delay_seconds for retry in raise_until_the_end(policy_of())] == [60, 120, 300, 600, 600]


def test_a_list_longer_than_the_count_is_used_from_its_front() -> None:
    policy = policy_of(scheduler_retry_count=2, delays=(1, 2, 3, 4))
    assert [retry.delay_seconds for retry in raise_until_the_end(policy)] == [1, 2]


def test_without_delays_every_retry_is_at_once() -> None:
    policy = policy_of(scheduler_retry_count=2, delays=())
    assert [retry.delay_seconds for retry in raise_until_the_end(policy)] == [0, 0]


def test_an_enqueueing_retry_is_at_once_and_level_1_starts_afresh_after_it() -> None:
    policy = policy_of(scheduler_retry_count=2, delays=(10, 20), max_retry_count=1)
    assert raise_until_the_end(policy) == [
        Retry(delay_seconds=10, retry_number=0, scheduler_retries=1),
        Retry(delay_seconds=20, retry_number=0, scheduler_retries=2),
        Retry(delay_seconds=0, retry_number=1, scheduler_retries=0),
        Retry(delay_seconds=10, retry_number=1, scheduler_retries=1),
        Retry(delay_seconds=20, retry_number=1, scheduler_retries=2),
    ]


def test_no_retries_at_all() -> None:
    assert raise_until_the_end(policy_of(scheduler_retry_count=0)) == []


@given(policies)
def test_a_job_that_always_raises_is_attempted_as_often_as_both_levels_allow(policy: RetryPolicy) -> None:
    attempts = 1 + len(raise_until_the_end(policy))
    assert attempts == (policy.scheduler_retry_count + 1) * (policy.max_retry_count + 1)


@given(policies, st.integers(0, 20))
def test_the_delay_is_the_list_s_or_its_last_or_none(policy: RetryPolicy, spent: int) -> None:
    listed = list(policy.scheduler_retry_delays)
    endless = listed + listed[-1:] * 20 or [0.0] * 21
    assert scheduler_retry_delay(policy, spent) == endless[spent]


@given(policies, st.integers(0, 10), st.integers(0, 10))
def test_each_level_stops_at_its_own_count(policy: RetryPolicy, retry_number: int, scheduler_retries: int) -> None:
    level_1 = scheduler_retry(policy, retry_number, scheduler_retries)
    level_2 = enqueueing_retry(policy, retry_number)
    assert (level_1 is not None) == (scheduler_retries < policy.scheduler_retry_count)
    assert (level_2 is not None) == (retry_number < policy.max_retry_count)
    assert retry_after_raise(policy, retry_number, scheduler_retries) == (level_1 or level_2)


def test_a_count_lowered_below_what_is_spent_leaves_none() -> None:
    policy = policy_of(scheduler_retry_count=1, max_retry_count=1)
    assert retry_after_raise(policy, 7, 7) is None


@pytest.mark.parametrize("key", ["scheduler_retry_count", "max_retry_count"])
def test_a_negative_count_is_refused_by_name(key: str) -> None:
    counts = {"scheduler_retry_count": 0, "max_retry_count": 0} | {key: -1}
    with pytest.raises(ConfigError, match=rf"^{key} is -1; allowed are 0 \(no retries\) and more$"):
        RetryPolicy(scheduler_retry_delays=(), **counts)


@pytest.mark.parametrize("delay", [-0.001, math.nan, math.inf, -math.inf])
def test_a_delay_that_no_clock_can_wait_is_refused_with_its_place(delay: float) -> None:
    with pytest.raises(ConfigError, match=rf"^scheduler_retry_delays\[1\] is {delay}; allowed are seconds, finite"):
        policy_of(delays=(1, delay))


# --- Growing delays ---------------------------------------------------------------------------------------------------


def test_the_longest_wait_grows_by_the_factor_up_to_the_cap() -> None:
    backoff = Backoff(first_seconds=1, factor=3, cap_seconds=20)
    assert [backoff.longest_seconds(spent) for spent in range(5)] == [1, 3, 9, 20, 20]


@given(st.floats(0, 1))
def test_full_jitter_draws_the_wait_evenly_between_0_and_the_longest(chance: float) -> None:
    policy = RetryPolicy(9, Backoff(first_seconds=2, factor=2, cap_seconds=100), 0)
    for spent, longest in enumerate([2, 4, 8, 16, 32, 64, 100, 100]):
        assert scheduler_retry_delay(policy, spent, chance) == chance * longest


def test_any_number_of_retries_keeps_to_the_cap() -> None:
    assert Backoff(1, 2, 600).longest_seconds(2**31 - 1) == 600
    assert Backoff(1, 1.5, 600).longest_seconds(10**6) == 600
    assert Backoff(0, 2, 600).longest_seconds(10**6) == 0


def test_growing_delays_have_a_count_and_then_level_2_too() -> None:
    policy = RetryPolicy(2, Backoff(1, 2, 60), 1)
    assert [retry.delay_seconds for retry in raise_until_the_end(policy)] == [1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((-1, 2, 3), r"first_seconds is -1; allowed are finite numbers, 0 and more"),
        ((1, 0.9, 3), r"factor is 0.9; allowed are finite numbers, 1 and more"),
        ((1, 2, math.inf), r"cap_seconds is inf"),
    ],
)
def test_growth_that_can_t_be_meant_is_refused(values: tuple[float, float, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Backoff(*values)
