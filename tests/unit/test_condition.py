"""A worker's lines about its database: one for each change, and none for what comes and goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.worker import condition as module
from perdure.worker.condition import Condition

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN = "the database is there again"
REFUSED = psycopg.OperationalError("connection refused\n\tIs the server running?")
FULL = psycopg.errors.DiskFull("could not extend file")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was written since the last time, each with the level WARNING."""

    def take() -> list[str]:
        lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        caplog.clear()
        return lines

    return take


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass for the condition alone."""
    now_seconds = 1_000.0

    def pass_time(seconds: float) -> None:
        nonlocal now_seconds
        now_seconds += seconds

    monkeypatch.setattr(module.time, "monotonic", lambda: now_seconds)
    return pass_time


def test_what_is_refused_over_and_over_beside_what_works_is_said_once_and_is_trouble_until_it_isnt_asked_for_again(
    said: Callable[[], list[str]], wait: Callable[[float], None]
) -> None:
    condition = Condition()
    for _try in range(10):
        condition.failed("sweep", FULL)
        wait(10)
        condition.works("lane 1")
    assert [line.endswith("(sweep); trying again until it works") for line in said()] == [True]
    assert condition.trouble is not None
    wait(60)
    condition.works("lane 1")
    assert condition.trouble is None
    assert said() == [AGAIN]


def test_an_outage_is_said_once_in_one_line_and_its_end_once(
    said: Callable[[], list[str]], wait: Callable[[float], None]
) -> None:
    condition = Condition()
    for _try in range(100):
        for who in ("lane 1", "lane 2", "heartbeat"):
            condition.failed(who, REFUSED)
        wait(1)
    told = "the database is away: OperationalError: connection refused Is the server running?"
    assert said() == [f"{told} (lane 1); trying again until it works"]
    assert condition.trouble == told
    wait(3)
    condition.works("lane 1")
    condition.works("heartbeat")
    assert said() == []  # lane 2 hasn't come back yet
    for _time in range(10):
        condition.works("lane 2")
    assert said() == [AGAIN]
    assert condition.trouble is None


def test_what_works_in_between_is_no_end(said: Callable[[], list[str]], wait: Callable[[float], None]) -> None:
    condition = Condition()
    for _time in range(50):  # claims work, outcomes don't
        condition.failed("lane 1", FULL)
        condition.works("lane 1")
        wait(0.5)
    assert said() == [
        "the database refuses to work: DiskFull: could not extend file (lane 1); trying again until it works"
    ]
    wait(3)
    condition.works("lane 1")
    assert said() == [AGAIN]


def test_another_reason_is_another_line_once_each_outage(
    said: Callable[[], list[str]], wait: Callable[[float], None]
) -> None:
    condition = Condition()
    for error in (REFUSED, FULL, REFUSED, FULL, psycopg.errors.AdminShutdown("terminating")):
        condition.failed("lane 1", error)
    assert [line.split(":")[0] for line in said()] == ["the database is away", "the database refuses to work"]
    wait(3)
    condition.works("lane 1")
    condition.failed("lane 1", FULL)
    assert [line.split(":")[0] for line in said()] == [AGAIN, "the database refuses to work"]


def test_passwords_are_not_said(said: Callable[[], list[str]]) -> None:
    Condition().failed("lane 1", psycopg.OperationalError("postgresql://shop:secret@db/shop is no address"))
    assert "secret" not in said()[0]
