"""Many jobs that can't be read are no flood of warnings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure import App, Context, JobState
from perdure.worker import seldom
from tests.support.jobs import job_until

if TYPE_CHECKING:
    import pytest


async def test_jobs_of_an_unknown_task_are_warned_of_once_each_task(
    app: App, migrated_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = App(migrated_database)
    async with other:
        for name in ("mail", "report"):

            @other.task(name)
            async def task(ctx: Context[int, None]) -> None: ...

            jobs = await task.start_many(range(50))
        with caplog.at_level(logging.DEBUG, "perdure.worker"):
            async with app.worker():
                for job in jobs:
                    await job_until(job, lambda job: job.state is JobState.PENDING and job.last_error is not None)
    said = [record for record in caplog.records if "can't be read here" in record.message]
    warned = [record.message for record in said if record.levelno == logging.WARNING]
    assert sum("'mail'" in message for message in warned) == 1
    assert sum("'report'" in message for message in warned) == 1
    assert len(warned) == 2
    assert len(said) >= 100


def test_the_next_minute_it_is_said_how_many_there_were(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = seldom.Seldom()
    for number in range(3):
        warnings.warn("mail", "job %d can't be read", number)
    monkeypatch.setattr(seldom, "_EVERY_SECONDS", 0.0)
    warnings.warn("mail", "job %d can't be read", 3)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "job 0 can't be read",
        "job 3 can't be read (and 2 more of mail since this was last said)",
    ]


def test_of_many_names_the_last_thousand_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    warnings = seldom.Seldom()
    for number in range(1_001):
        warnings.warn(f"task {number}", "first")
    caplog.clear()
    for number in reversed(range(1_001)):
        warnings.warn(f"task {number}", "task %d", number)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == ["task 0"]
