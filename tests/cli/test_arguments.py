"""Arguments that mean nothing are usage errors, and never another question than the one that was asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import pytest

from perdure.cli.jobs.arguments import due_time, json_bytes, json_filter

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine


def test_a_filter_that_filters_nothing_is_refused_and_not_left_out(perdure: CommandLine) -> None:
    ended = perdure.inside("jobs", "list", "--metadata", "null")
    assert ended.code == 2
    assert "there is nothing in it that a job could contain" in ended.err
    assert json_filter("0") == 0


def test_json_is_kept_as_it_was_written() -> None:
    text = '{"n": 1.10, "big": 123456789012345678901234567890}'
    assert json_bytes(text) == text.encode()


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{'a': 1}", "riga", ""])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no JSON"):
        json_bytes(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90", timedelta(seconds=90)),
        ("0.5", timedelta(milliseconds=500)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("2030-01-31T08:00Z", datetime(2030, 1, 31, 8, tzinfo=UTC)),
        ("2030-01-31 08:00:00+05:45", datetime(2030, 1, 31, 2, 15, tzinfo=UTC)),
    ],
)
def test_times_and_durations(text: str, time: datetime | timedelta) -> None:
    assert due_time(text) == time
