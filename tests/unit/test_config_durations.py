"""A duration is a timedelta, seconds or a timespan, everywhere."""

from __future__ import annotations

import math
from datetime import time, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.durations import format_timespan, parse_duration, read_duration
from perdure.errors import DefinitionError, MisuseError

ARABIC_DIGITS = "\N{ARABIC-INDIC DIGIT ONE}:\N{ARABIC-INDIC DIGIT TWO}"  # int() would read them


@given(st.timedeltas())
def test_every_timedelta_survives_being_written_as_a_timespan(duration: timedelta) -> None:
    assert read_duration(format_timespan(duration)) == duration


@given(st.timedeltas())
def test_a_timedelta_is_read_as_it_is(duration: timedelta) -> None:
    assert read_duration(duration) == duration


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_whole_seconds_and_their_text_are_the_same_duration(seconds: int) -> None:
    assert read_duration(seconds) == timedelta(seconds=seconds)
    assert read_duration(f" {seconds} ", text_seconds=True) == timedelta(seconds=seconds)


@given(st.floats(min_value=-(10**6), max_value=10**6))
def test_fractions_of_seconds_and_their_text_are_the_same_duration(seconds: float) -> None:
    assert read_duration(seconds) == timedelta(seconds=seconds)
    assert read_duration(repr(seconds), text_seconds=True) == timedelta(seconds=seconds)


@given(
    days=st.integers(0, 10_000),
    hours=st.integers(0, 23),
    minutes=st.integers(0, 59),
    seconds=st.integers(0, 59),
    ticks=st.integers(0, 9_999_999),
)
def test_a_timespan_as_dotnet_writes_it_is_read_to_the_microsecond(
    days: int, hours: int, minutes: int, seconds: int, ticks: int
) -> None:
    text = f"{days}.{hours:02}:{minutes:02}:{seconds:02}.{ticks:07}"
    exact = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assert abs((read_duration(text) - exact) / timedelta(microseconds=1) - ticks / 10) <= 0.5
    assert read_duration(f"-{text}") == -read_duration(text)


@example("-9.1:2:3.4567891")
@given(st.from_regex(r"-?(\d{1,3}[.:])?\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{1,8})?)?", fullmatch=True))
def test_text_that_looks_like_a_timespan_is_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        duration = read_duration(text)
    except ValueError:
        return
    assert read_duration(format_timespan(duration)) == duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00:00.500", timedelta(milliseconds=500)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("01:30", timedelta(hours=1, minutes=30)),
        ("1.01:30", timedelta(days=1, hours=1, minutes=30)),
        ("-00:00:01", timedelta(seconds=-1)),
        ("00:00:00.3333333", timedelta(microseconds=333_333)),
        ("23:59:59.9999999", timedelta(days=1)),
        (" 00:00:05 ", timedelta(seconds=5)),
    ],
)
def test_timespans_of_the_source_format(text: str, expected: timedelta) -> None:
    assert read_duration(text) == expected


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(0), "00:00:00"),
        (timedelta(milliseconds=500), "00:00:00.500"),
        (timedelta(microseconds=1), "00:00:00.000001"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4), "1.02:03:04"),
        (timedelta(seconds=-1), "-00:00:01"),
    ],
)
def test_a_timespan_is_written_short_and_readable(duration: timedelta, expected: str) -> None:
    assert format_timespan(duration) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "a truth value is no number"),
        (math.nan, "a duration is finite"),
        (math.inf, "a duration is finite"),
        (-math.inf, "a duration is finite"),
        (10**400, "more than a duration can hold"),
        (1e300, "more than a duration can hold"),
        ("1", "without quotes"),
        ("0.5", "without quotes"),
        ("24:00:00", "hours go up to 23"),
        ("00:60:00", "minutes go up to 59"),
        ("00:00:60", "seconds go up to 59"),
        ("999999999.23:59:59.9999999", "more than a duration can hold"),
        (time(0, 0, 1), "put it in quotes"),
    ],
)
def test_a_refused_duration_comes_with_its_reason(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_duration(value)


@pytest.mark.parametrize(
    "value", ["", "soon", "5s", "1:2:3:4", "00:00:00.12345678", "1.2", "00:00:00,5", ARABIC_DIGITS, None, [], b"1", 1j]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - there is no reason to name but that it isn't one
        read_duration(value)


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1_000", "٣", "0x10", "True"])
def test_text_that_python_would_read_as_a_number_is_refused_as_seconds(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        read_duration(text, text_seconds=True)


@pytest.mark.parametrize("error", [MisuseError, DefinitionError])
def test_parse_duration_names_key_value_and_what_is_allowed(error: Any) -> None:
    with pytest.raises(error) as caught:
        parse_duration("24:00:00", key="timeout", error=error)
    assert str(caught.value) == (
        "timeout: '24:00:00' is no duration (hours go up to 23 in a timespan); allowed is a timedelta, seconds, "
        'or a timespan such as "00:00:00.500" or "1.02:03:04"'
    )


def test_parse_duration_reads_all_three_notations() -> None:
    assert {parse_duration(value, key="at") for value in (timedelta(seconds=1.5), 1.5, "00:00:01.500")} == {
        timedelta(seconds=1.5)
    }
