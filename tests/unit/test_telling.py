"""A worker's lines about its jobs: each its own, but for what thousands may meet at once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from perdure.errors import DatabaseUnavailable
from perdure.worker.telling import Telling

if TYPE_CHECKING:
    from perdure.store.claims import Claimed


class Job:
    """What is said of a job."""

    def __init__(self, number: int, task: str = "orders.import") -> None:
        self.id = number
        self.task = task
        self.attempt = 2


def job(number: int, task: str = "orders.import") -> Claimed:
    return cast("Claimed", Job(number, task))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("no connection within 10 s"), psycopg.OperationalError("the connection is lost")]
)
def test_a_thousand_jobs_that_meet_the_same_outage_are_one_line_a_task(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    telling = Telling()
    with caplog.at_level(logging.DEBUG, "perdure.worker"):
        for number in range(1_000):
            telling.raised(job(number), error)
        telling.raised(job(1_000, "mail"), error)
    assert [line.split(" raised")[0] for line in lines(caplog)] == [
        "job 0 (orders.import), attempt 2",
        "job 1000 (mail), attempt 2",
    ]
    assert len(caplog.records) == 2 * 1_001  # of each, for who wants to see it: the line, and what was raised


def test_each_jobs_own_error_is_a_line_and_one_only(caplog: pytest.LogCaptureFixture) -> None:
    telling = Telling()
    with caplog.at_level(logging.INFO, "perdure.worker"):
        for number in range(3):
            telling.raised(job(number), ValueError("a message\nof two lines"))
    assert lines(caplog) == [
        f"job {number} (orders.import), attempt 2 raised: ValueError; its last_error says more" for number in range(3)
    ]
