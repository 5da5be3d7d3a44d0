"""Deadlines where nobody can see to them in time: the job's worker is killed or frozen, or a claim comes too late.

It ends all the same, by another, and once; and nothing begins after its deadline.
"""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure import JobFailed, Raised
from perdure.core.history import AttemptEnding
from tests.support.history import Pulse, Recorder, Rules, collect, journal
from tests.support.history.checks.delays import recovery_is_quick
from tests.support.history.checks.ends import one_end_a_job
from tests.support.history.lines import Fault
from tests.support.scenario import deadlines
from tests.support.tiers import drawn, seeds
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.processes import Process, Processes
    from tests.support.scenario import Scenario

pytestmark = pytest.mark.timeout(300)

SCRIPT = str(Path(process_definitions.__file__).with_name("process_app.py"))
SCHEMA = "background_tasks"
LEASE_SECONDS, POLLING_SECONDS, DEADLINE = 6, 0.1, timedelta(seconds=3)
SLACK_SECONDS = 60.0
SHORT = timedelta(seconds=0.2)


@pytest.mark.parametrize("how", drawn("a deadline without its worker", ["killed", "frozen"], push=1))
async def test_a_job_past_its_deadline_whose_worker_is_gone_is_ended_once_by_another(
    migrated_database: str, processes: Processes, tmp_path: Path, how: str
) -> None:
    journal.install(migrated_database, SCHEMA)
    deadlines.install(migrated_database, SCHEMA)
    recorder = Recorder(tmp_path, "faults")
    first = start_worker(processes, migrated_database)
    async with process_definitions.make(migrated_database) as client:
        job = await client.tasks["sleepy"].start(None, deadline=DEADLINE)
        await first.line("sleepy")
        with Pulse(lambda: migrated_database, tmp_path):
            number = signal.SIGKILL if how == "killed" else signal.SIGSTOP
            recorder.write(Fault(number.name, first.pid))
            first.send(number)
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
    assert "sleepy" not in other.output
    for worker in (first, other):
        if worker.is_running:
            worker.terminate()
            assert await worker.end(within_seconds=60) == 0, worker.output
    history = collect(migrated_database, tmp_path, Rules().timed(POLLING_SECONDS))
    given = deadlines.read(migrated_database)
    assert given.at.keys() == {job.id}
    within_seconds = LEASE_SECONDS + SLACK_SECONDS
    wrong = [*one_end_a_job(history), *recovery_is_quick(history)]
    assert [*wrong, *deadlines.deadlines_hold(history, given, within_seconds=within_seconds)] == []


@pytest.mark.parametrize("seed", seeds("claims after deadlines", push=1, nightly=6))
async def test_what_is_claimed_after_its_deadline_is_not_begun(
    new_scenario: Callable[..., Scenario], migrated_database: str, seed: int
) -> None:
    async def claim_late(struck: Scenario) -> None:
        await struck.until_acknowledged(10)
        for worker in struck.crew.workers:
            struck.crew.send(worker, signal.SIGSTOP)
        for threaded in (True, False):
            await struck.clients[0].start(4, acts=["row"], threaded=threaded, deadline=SHORT)
        with kept_from_sweeps(migrated_database) as jobs:
            assert jobs
            await struck.until(lambda: are_overdue(migrated_database, jobs), "the deadlines don't pass")
            struck.crew.thaw()
            await struck.until(lambda: claimed_late(migrated_database) >= jobs, "the jobs aren't claimed")
        await struck.until_acknowledged(10)

    history = await new_scenario(seed, seconds=1.0).must_hold(first=claim_late)
    assert not deadlines.read(migrated_database).overdue.keys() & history.began.keys()


@contextmanager
def kept_from_sweeps(dsn: str) -> Iterator[set[int]]:
    """Lock the jobs that wait with a deadline so that none can be removed, and so ended; each can be claimed."""
    with psycopg.connect(dsn) as connection:
        query = "select id from background_tasks.jobs where state = 0 and deadline_at is not null for key share"
        yield {job for (job,) in connection.execute(query)}


def are_overdue(dsn: str, jobs: set[int]) -> bool:
    query = "select bool_and(deadline_at < clock_timestamp()) from background_tasks.jobs where id = any(%s)"
    with psycopg.connect(dsn) as connection:
        return connection.execute(query, [list(jobs)]).fetchone() == (True,)


def claimed_late(dsn: str) -> set[int]:
    return {job for job, _ in deadlines.read(dsn).overdue}


def start_worker(processes: Processes, dsn: str) -> Process:
    execution = {"lease_duration": LEASE_SECONDS, "shutdown_grace": 0, "cancel_grace": 1}
    environment = {"TEST_DSN": dsn, "TEST_EXECUTION": json.dumps(execution), "TEST_GATE": ""}
    worker = processes.python(SCRIPT, env=environment)
    worker.wait_for_line("worker ready", within_seconds=60)
    return worker
