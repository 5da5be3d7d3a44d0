"""Durations as they are handed to PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from perdure.store.jobs import interval

if TYPE_CHECKING:
    from tests.store.workbench import Workbench

_DURATIONS = (
    timedelta(),
    timedelta(microseconds=1),
    timedelta(microseconds=-1),
    timedelta(seconds=59, microseconds=999_999),
    timedelta(minutes=36),
    timedelta(hours=25),
    -timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=5),
    timedelta(days=1_000_000),
    timedelta(days=-1_000_000),
)


@pytest.mark.parametrize("duration", _DURATIONS, ids=str)
def test_a_duration_is_told_to_the_microsecond(every_bench: Workbench, duration: timedelta) -> None:
    found = every_bench.connection.execute(
        "select %s::interval, extract(day from %s::interval)", [interval(duration)] * 2
    )
    assert found.fetchone() == (duration, 0)


def test_none_is_none() -> None:
    assert interval(None) is None


@pytest.mark.parametrize("duration", _DURATIONS, ids=str)
def test_no_number_in_it_is_too_large_for_postgresql_14(duration: timedelta) -> None:
    text = interval(duration)
    assert text is not None
    assert all(int(number) < 2**31 for number in re.findall(r"\d+", text))
