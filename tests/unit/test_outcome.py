"""The outcomes check what they are given, and are values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from perdure import Cancelled, Completed, Failed, Suspended
from perdure.due import split_due
from perdure.errors import MisuseError


class NoOffset(tzinfo):
    """A zone that doesn't know its offset: a datetime with it is naive all the same."""

    def utcoffset(self, _dt: datetime | None) -> None:
        return None


def test_outcomes_are_values() -> None:
    assert Suspended() == Suspended(until=None)
    assert Failed("x") == Failed("x", retry=True)
    assert Failed("x") != Failed("x", retry=False)
    assert Cancelled("x") != Failed("x")
    assert Completed(1).result == 1
    with pytest.raises(AttributeError):
        Suspended().until = None  # type: ignore[misc]


@pytest.mark.parametrize(
    "until", [None, timedelta(seconds=-5), datetime.now(UTC), datetime.now(timezone(timedelta(hours=5)))]
)
def test_suspended_takes_an_aware_datetime_or_a_timedelta(until: Any) -> None:
    assert Suspended(until=until).until == until


@pytest.mark.parametrize("until", [datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=NoOffset())])  # noqa: DTZ001
def test_naive_datetimes_are_refused(until: datetime) -> None:
    with pytest.raises(MisuseError, match=r"Suspended\(until=…\): datetime.datetime\(2030.*has no time zone"):
        Suspended(until=until)


@pytest.mark.parametrize("until", [5, "tomorrow", datetime.now(UTC).date()])
def test_what_is_no_time_is_refused(until: Any) -> None:
    with pytest.raises(MisuseError, match="allowed are an aware datetime, and a timedelta"):
        Suspended(until=until)


def test_a_time_is_either_a_point_or_a_duration() -> None:
    now = datetime.now(UTC)
    assert split_due(now, key="at") == (now, None)
    assert split_due(timedelta(1), key="at") == (None, timedelta(1))
    assert split_due(None, key="at") == (None, None)


def test_a_duration_that_the_database_cannot_add_is_refused() -> None:
    with pytest.raises(MisuseError, match="longer than"):
        split_due(timedelta.max, key="at")


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(5, 5), (0.5, 0.5), (timedelta(minutes=1), 60), ("00:01:00", 60), (0, 0), (timedelta(seconds=-5), 0), (None, 0)],
)
def test_failed_says_when_its_retry_is_due_and_the_past_means_now(after: Any, seconds: float) -> None:
    assert Failed("x", retry_after=after).retry_after_seconds == seconds


def test_a_wait_is_a_value_however_it_is_written() -> None:
    assert Failed("x", retry_after=5) == Failed("x", retry_after=timedelta(seconds=5))
    assert Failed("x", retry_after=5) != Failed("x")


def test_a_wait_without_a_retry_is_refused() -> None:
    with pytest.raises(
        MisuseError, match=r"^Failed\(retry=False, retry_after=5\): without a retry there is nothing to"
    ):
        Failed("x", retry=False, retry_after=5)


@pytest.mark.parametrize("after", ["soon", float("nan"), True, datetime.now(UTC)])
def test_what_is_no_duration_is_refused(after: Any) -> None:
    with pytest.raises(
        MisuseError, match=r"^Failed\(retry_after=…\): .* is no duration.*allowed is a timedelta, seconds"
    ):
        Failed("x", retry_after=after)
