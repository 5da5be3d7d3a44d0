"""Rate and remaining time of a job, by the times that its reports carry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perdure.cli.jobs.pace import Pace
from perdure.job import JobProgress

_BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def _report(seconds: float, done: float, total: float | None = 100) -> JobProgress:
    return JobProgress(done=done, total=total, note=None, at=_BEGIN + timedelta(seconds=seconds))


def _pace(*reports: JobProgress | None) -> Pace:
    pace = Pace()
    for report in reports:
        pace.see(report)
    return pace


def test_one_report_tells_no_rate() -> None:
    assert _pace(None, _report(0, 5), _report(0, 5)).rate is None
    assert str(_pace(_report(0, 5))) == ""


def test_rate_and_remaining_time() -> None:
    pace = _pace(_report(0, 0), _report(10, 20))
    assert pace.rate == 2.0
    assert pace.remaining == timedelta(seconds=40)
    assert str(pace) == "2/s, 0:00:40 left"


def test_without_a_total_nothing_remains_to_be_told() -> None:
    assert str(_pace(_report(0, 0, None), _report(1, 12_345, None))) == "12,345/s"


def test_only_the_last_half_minute_counts() -> None:
    assert _pace(_report(0, 0), _report(100, 10), _report(110, 30)).rate == 2.0


def test_a_job_that_was_put_back_is_measured_anew() -> None:
    pace = _pace(_report(0, 0), _report(10, 50), _report(20, 10))
    assert pace.rate is None
    pace.see(_report(30, 20))
    assert pace.rate == 1.0


def test_standing_still_has_no_end() -> None:
    assert str(_pace(_report(0, 5), _report(10, 5))) == "0/s"


def test_more_done_than_there_was_is_no_negative_time() -> None:
    assert _pace(_report(0, 0), _report(10, 120)).remaining == timedelta(0)


def test_two_reports_at_one_time_are_no_division_by_zero() -> None:
    assert _pace(_report(0, 0), _report(0, 50)).rate is None
