"""A deadline while its worker is gone: killed or frozen past it, the job ends all the same, by another, and once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from perdure import JobFailed, Raised
from perdure.core.history import AttemptEnding
from tests.support.history import Rules, collect, journal
from tests.support.history.checks.ends import one_end_a_job
from tests.support.scenario import deadlines
from tests.support.tiers import drawn
from tests.worker import process_definitions

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(300)

SCRIPT = str(Path(process_definitions.__file__).with_name("process_app.py"))
SCHEMA = "background_tasks"
LEASE_SECONDS, DEADLINE = 6, timedelta(seconds=3)
SLACK_SECONDS = 60.0


@pytest.mark.parametrize("how", drawn("a deadline without its worker", ["killed", "frozen"], push=1))
async def test_a_job_past_its_deadline_whose_worker_is_gone_is_ended_once_by_another(
    migrated_database: str, processes: Processes, tmp_path: Path, how: str
) -> None:
    journal.install(migrated_database, SCHEMA)
    deadlines.install(migrated_database, SCHEMA)
    first = start_worker(processes, migrated_database)
    async with process_definitions.make(migrated_database) as client:
        job = await client.tasks["sleepy"].start(None, deadline=DEADLINE)
        await first.line("sleepy")
        if how == "killed":
            first.kill()
        else:
            first.freeze()
        other = start_worker(processes, migrated_database)
        with pytest.raises(JobFailed):
            await job.result(timeout=LEASE_SECONDS + SLACK_SECONDS)
        await job.refresh()
        assert isinstance(job.error, Raised)
        assert job.error.type == "perdure.errors.DeadlineExceeded"
        # It is the other that has ended it: the first one's attempt was given up before.
        assert (await job.history())[0].ending is AttemptEnding.LAPSED
    if how == "frozen":
        first.thaw()
        await first.line("has lost its lease", within_seconds=60)
    for worker in (first, other):
        if worker.is_running:
            worker.terminate()
            assert await worker.end(within_seconds=60) == 0, worker.output
    history = collect(migrated_database, tmp_path, Rules())
    given = deadlines.read(migrated_database)
    within_seconds = LEASE_SECONDS + SLACK_SECONDS
    assert [*one_end_a_job(history), *deadlines.deadlines_hold(history, given, within_seconds=within_seconds)] == []


def start_worker(processes: Processes, dsn: str) -> Process:
    execution = {"lease_duration": LEASE_SECONDS, "shutdown_grace": 0, "cancel_grace": 1}
    environment = {"TEST_DSN": dsn, "TEST_EXECUTION": json.dumps(execution), "TEST_GATE": ""}
    worker = processes.python(SCRIPT, env=environment)
    worker.wait_for_line("worker ready", within_seconds=60)
    return worker
