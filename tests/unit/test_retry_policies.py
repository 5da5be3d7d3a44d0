"""What a task can be told of retries and time limits is checked where it is written, with words that help."""

from __future__ import annotations

import functools
import math
from datetime import timedelta
from typing import Any

import pytest

import perdure.retry
from perdure.errors import DefinitionError
from perdure.options import read_options
from perdure.retry import Exponential, FixedDelays

SECOND = timedelta(seconds=1)


def refused(**options: Any) -> str:
    with pytest.raises(DefinitionError) as refusal:
        read_options("task 'poll'", options)
    message = str(refusal.value)
    assert message.startswith("task 'poll': ")
    return message


def test_the_module_offers_the_policies_and_nothing_else() -> None:
    assert perdure.retry.__all__ == ["Exponential", "FixedDelays", "Retry", "RetryFunction"]


def test_every_delay_may_be_a_timedelta_seconds_or_a_timespan() -> None:
    policy = FixedDelays([1, 2.5, timedelta(minutes=1), "00:00:00.500"], count=9)
    assert policy.delays == (SECOND, 2.5 * SECOND, 60 * SECOND, 0.5 * SECOND)
    assert policy == FixedDelays(delays=(SECOND, 2.5 * SECOND, 60 * SECOND, 0.5 * SECOND), count=9)
    assert Exponential(1, cap="00:01:00") == Exponential(first=SECOND, factor=2, cap=timedelta(minutes=1), count=None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: FixedDelays([1, -1]),
            "FixedDelays: delays[1]=-1 isn't allowed; it is 0 to 36500 days, as a timedelta",
        ),
        (lambda: FixedDelays([math.nan]), "delays[0]=nan"),
        (lambda: FixedDelays(["60"]), "delays[0]='60'"),
        (lambda: FixedDelays("60"), "delays='60' isn't allowed; it is a list of delays, each a timedelta, seconds"),
        (lambda: FixedDelays(60), "delays=60"),  # type: ignore[arg-type]
        (lambda: FixedDelays([1], count=-1), "count=-1 isn't allowed; it is a whole number, 0 (no retries) or more"),
        (lambda: FixedDelays([1], count=True), "count=True"),
        (lambda: Exponential(0), "Exponential: first=datetime.timedelta(0) isn't allowed; it is more than 0"),
        (lambda: Exponential(-1), "first=-1"),
        (lambda: Exponential(1, factor=0.5), "factor=0.5 isn't allowed; it is a finite number, 1 or more"),
        (lambda: Exponential(1, factor=math.inf), "factor=inf"),
        (lambda: Exponential(1, factor=True), "factor=True"),
        (
            lambda: Exponential(60, cap=1),
            "isn't allowed; it is no less than first, which is datetime.timedelta(seconds=60",
        ),
        (lambda: Exponential(1, cap=timedelta.max), "cap="),
        (lambda: Exponential(1, count=2.0), "count=2.0"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_can_t_be_meant_is_refused_with_its_value_and_what_is_allowed(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        make()
    assert said in str(refusal.value)


class Own:
    def __call__(self, attempt: int, error: BaseException) -> float | None: ...


class AsyncOwn:
    async def __call__(self, attempt: int, error: BaseException) -> float | None: ...


async def async_own(attempt: int, error: BaseException) -> float | None: ...


@pytest.mark.parametrize(
    "own",
    [lambda _attempt, _error: 1, Own(), Own().__call__, functools.partial(lambda *_all: 1, 1), lambda *_all: None],
)
def test_a_function_of_attempt_and_error_is_a_policy(own: Any) -> None:
    assert read_options("it", {"retry": own}).retry is own


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (5, "retry=5 isn't allowed; it is FixedDelays(…) or Exponential(…) of perdure.retry, or a function"),
        ([1, 2], "retry=[1, 2]"),
        (FixedDelays, "retry=<class 'perdure.retry.FixedDelays'>"),
        (lambda: 1, "this one can't be called with (attempt, error)"),
        (lambda _attempt, _error, _more: 1, "this one can't be called with (attempt, error)"),
        (async_own, "a plain function: an `async def` can't be asked while an attempt ends"),
        (AsyncOwn(), "a plain function"),
        (functools.partial(async_own), "a plain function"),
    ],
)
def test_what_is_no_policy_is_refused(own: Any, said: str) -> None:
    assert said in refused(retry=own)


@pytest.mark.parametrize("other", [{"scheduler_retry_count": 0}, {"scheduler_retry_delays": [1]}])
def test_a_policy_and_the_options_that_it_stands_for_exclude_each_other(other: dict[str, Any]) -> None:
    message = refused(retry=FixedDelays([1]), **other)
    name, value = next(iter(other.items()))
    assert f"and {name}={value} both say when an attempt that raised runs again; give one of them" in message
    assert read_options("it", {"retry": None, **other})


def test_exceptions_that_are_never_retried() -> None:
    assert read_options("it", {}).no_retry_on == ()
    assert read_options("it", {"no_retry_on": ValueError}).no_retry_on == (ValueError,)
    assert read_options("it", {"no_retry_on": [ValueError, OSError]}).no_retry_on == (ValueError, OSError)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            (ValueError, BaseException),
            "no_retry_on[1]=<class 'BaseException'> isn't allowed; it is a class of exceptions",
        ),
        (KeyboardInterrupt, "no_retry_on=<class 'KeyboardInterrupt'> isn't allowed"),
        (ValueError("x"), "no_retry_on=ValueError('x')"),
        ("ValueError", "no_retry_on='ValueError'"),
        ((int,), "derived from Exception, such as ValueError, or a tuple of these"),
    ],
)
def test_only_classes_of_exceptions_can_be_told_never_to_be_retried(value: Any, said: str) -> None:
    assert said in refused(no_retry_on=value)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_progress_resets_retries_is_a_switch(value: Any) -> None:
    assert "progress_resets_retries=" in refused(progress_resets_retries=value)
    assert read_options("it", {"progress_resets_retries": True}).progress_resets_retries


@pytest.mark.parametrize("option", ["deadline", "timeout"])
@pytest.mark.parametrize("value", [timedelta(0), -SECOND, 0, "60", "soon", math.nan, math.inf, True, timedelta.max])
def test_a_limit_is_a_duration_above_0(option: str, value: Any) -> None:
    said = "isn't allowed; it is more than 0, and 0 s to 36500 days, as a timedelta, seconds, or a timespan such as"
    assert said in refused(**{option: value})
    for second in (SECOND, 1, 1.0, "00:00:01"):
        assert getattr(read_options("it", {option: second}), option) == SECOND
    assert getattr(read_options("it", {}), option) is None


def test_delays_are_durations() -> None:
    given = [0, 2.5, "00:05:00", SECOND]
    assert read_options("it", {"scheduler_retry_delays": given}).scheduler_retry_delays == (0, 2.5, 300, 1)


# --- Versions and events ----------------------------------------------------------------------------------------------


def upgrade(old: Any) -> Any:
    return old


@pytest.mark.parametrize("versions", [(), (3,), (2, 3), (1, 2, 3)])
def test_upgrades_lead_without_a_hole_to_the_version(versions: tuple[int, ...]) -> None:
    options = read_options("it", {"version": 4, "upgrades": dict.fromkeys(versions, upgrade)})
    assert (options.version, options.upgrades) == (4, dict.fromkeys(versions, upgrade))


def test_without_a_version_the_code_is_at_the_first() -> None:
    options = read_options("it", {})
    assert (options.version, options.upgrades, options.events) == (1, {}, None)


def test_later_changes_of_the_mapping_don_t_reach_the_task() -> None:
    given = {1: upgrade}
    options = read_options("it", {"version": 2, "upgrades": given})
    given.clear()
    assert options.upgrades == {1: upgrade}


@pytest.mark.parametrize("version", [0, -1, 1.0, True, "2", 2**31, None])
def test_a_version_is_a_whole_number_from_1(version: Any) -> None:
    assert f"version={version!r} isn't allowed; it is a whole number from 1 to" in refused(version=version)


@pytest.mark.parametrize(
    ("version", "upgrades", "said"),
    [
        (4, {1: upgrade, 3: upgrade}, "upgrades has 1 but not 2, so that nothing leads from version 2 to 3"),
        (4, {2: upgrade}, "upgrades has 2 but not 3, so that nothing leads from version 3 to 4"),
        (4, {1: upgrade}, "it takes one function for each version from the oldest to 3"),
        (2, {2: upgrade}, "upgrades has the key 2, which isn't allowed; allowed are 1 to 1, the versions before"),
        (2, {0: upgrade, 1: upgrade}, "upgrades has the key 0"),
        (2, {"1": upgrade}, "upgrades has the key '1'"),
        (2, {True: upgrade}, "upgrades has the key True"),
        (1, {1: upgrade}, "allowed are none: version is 1"),
        (2, {1: "f"}, "upgrades[1]='f' isn't allowed; it is a function"),
        (2, [upgrade], "it is a mapping of versions to functions"),
    ],
)
def test_upgrades_with_a_hole_or_a_stranger_are_refused(version: int, upgrades: Any, said: str) -> None:
    assert said in refused(version=version, upgrades=upgrades)


def test_the_annotation_of_events_is_kept_as_it_is() -> None:
    assert read_options("it", {"events": int | str}).events == int | str
