"""Fault 17: a standby takes over from a primary that was killed.

A synchronous one has all that was acknowledged, so nothing may be lost and nothing be done twice (all invariants). An
asynchronous one lacks the last of it: what is lost is lost, but its numbers come again and may mix up nothing.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, JobState
from tests.support.failover import (
    cut_off,
    dsn_of_both,
    make_synchronous,
    promote,
    take_address,
    wait_until_replicated,
)
from tests.support.history.lines import Fault
from tests.support.migrated import migrate_database
from tests.support.pooler import start_pooler
from tests.support.scenario import Scenario
from tests.support.tiers import TIER, seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)

SCRIPT = str(Path(__file__).with_name("failover_app.py"))
# To the server that has taken over. Behind a pooler connections don't even break.
WAYS = ("a dsn of both",) if TIER == "push" else ("a dsn of both", "a pooler")


@pytest.mark.parametrize("seed", seeds("test_synchronous_failover", push=1, nightly=12))
async def test_a_synchronous_standby_that_takes_over_has_all_and_does_nothing_twice(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int
) -> None:
    primary = new_cluster()
    database = primary.create_database()
    migrate_database(primary.dsn(database))
    standby = new_cluster(settings={"synchronous_standby_names": ""}, standby_of=primary)
    dsn = dsn_of_both(primary, standby, database)
    (folder := tmp_path / "history").mkdir()
    scenario = Scenario(dsn, folder, processes, seed=seed, seconds=1.0)
    make_synchronous(primary, standby)

    async def fail_over(struck: Scenario) -> None:
        await struck.until_acknowledged(20 + seed % 30)
        workers = struck.crew.workers
        struck.note(Fault("the primary was killed"))
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(promote, standby)
        struck.note(Fault("the standby took over"))  # by which all leases are lost, however soon that is
        for worker in workers:
            await worker.line("another server has taken over", within_seconds=60)
        await struck.until_acknowledged(30)

    await scenario.must_hold(first=fail_over)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", seeds("test_asynchronous_failover", push=1, nightly=6))
async def test_a_job_that_a_failover_has_lost_doesnt_settle_the_one_that_has_its_number_now(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int, way: str
) -> None:
    primary, standby, database = primary_and_standby(new_cluster, first_id=seed + 1)
    if way == "a pooler":
        dsn = start_pooler(processes, primary.dsn(database), tmp_path).dsn
    else:
        dsn = dsn_of_both(primary, standby, database)
    worker = start_worker(processes, dsn, tmp_path)
    wait_until_replicated(primary, standby)
    cut_off(standby)
    async with client(primary.dsn(database)) as app:
        lost = await app.tasks["named"].start("lost")
    await worker.line("lost begins")
    primary.kill()
    promote(standby)
    if way == "a pooler":
        take_address(standby, primary)
    async with client(standby.dsn(database)) as app:
        # The worker's lease came over, and is good for a while yet; ids begin where they had begun.
        job = await app.tasks["named"].start("found")
        assert job.id == lost.id
        await worker.line("lost: stopped", within_seconds=60)
        await worker.line("found begins", within_seconds=60)
        (tmp_path / "lost").touch()
        await worker.line("lost: transaction refused")
        await worker.line("lost: persist refused")
        (tmp_path / "found").touch()
        assert await job.result(timeout=60) == "found"
        await job.refresh()
        assert (job.state, job.execution_metadata) == (JobState.COMPLETED, {"whose": "found"})
    with psycopg.connect(standby.dsn(database), autocommit=True) as connection:
        assert connection.execute("select job, whose from effects").fetchall() == [(job.id, "found")]
    assert worker.output.count("another server has taken over") == 1
    worker.terminate()
    assert await worker.end(within_seconds=60) == 0


async def test_a_planned_switchover_loses_nothing_and_lets_no_attempt_from_before_it_write(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path
) -> None:
    primary, standby, database = primary_and_standby(new_cluster)
    dsn = dsn_of_both(primary, standby, database)
    worker = start_worker(processes, dsn, tmp_path)
    async with client(dsn) as app:
        running = await app.tasks["named"].start("kept")
        await worker.line("kept begins")
        wait_until_replicated(primary, standby)
        waiting = await app.tasks["named"].start("later", at=timedelta(hours=1))
    primary.stop("fast")  # it waits until the standby has all
    promote(standby)
    await worker.line("kept: stopped", within_seconds=60)
    await worker.line("kept begins", within_seconds=60)
    async with client(standby.dsn(database)) as app:
        job = await app.job(running.id)
        assert (job.state, job.attempt, (await app.job(waiting.id)).state) == (JobState.RUNNING, 2, JobState.PENDING)
        (tmp_path / "kept").touch()
        await worker.line("kept: transaction refused", within_seconds=60)
        await worker.line("kept: persist refused")
        assert await job.result(timeout=60) == "kept"
        # A connection from before the switchover may have made an attempt raise.
        assert (await job.refresh()).attempt >= 2
    with psycopg.connect(standby.dsn(database), autocommit=True) as connection:
        assert connection.execute("select job, whose from effects").fetchall() == [(job.id, "kept")]
    assert (worker.output.count("kept: transaction refused"), worker.output.count("kept: persist refused")) == (1, 1)
    worker.terminate()
    assert await worker.end(within_seconds=60) == 0


def primary_and_standby(new_cluster: Callable[..., Cluster], *, first_id: int = 1) -> tuple[Cluster, Cluster, str]:
    """Begin two servers with a database in which jobs of `named` can be run; return its name, too."""
    primary = new_cluster()
    database = primary.create_database()
    migrate_database(primary.dsn(database))
    with psycopg.connect(primary.dsn(database), autocommit=True) as connection:
        connection.execute("create table effects (job bigint, whose text)")
        connection.execute(f"alter sequence background_tasks.job_ids restart {first_id}".encode())
    return primary, new_cluster(standby_of=primary), database


def start_worker(processes: Processes, dsn: str, folder: Path) -> Process:
    environment = {
        "TEST_DSN": dsn,
        "TEST_GATES": str(folder),
        "TEST_EXECUTION": json.dumps({"lease_duration": 30, "shutdown_grace": 5, "cancel_grace": 600}),
    }
    worker = processes.python(SCRIPT, env=environment)
    worker.wait_for_line("^worker ready", within_seconds=60)
    return worker


def client(dsn: str) -> App:
    app = App(dsn)

    @app.task("named")
    async def named(ctx: Context[str, dict[str, Any]]) -> str: ...

    return app
