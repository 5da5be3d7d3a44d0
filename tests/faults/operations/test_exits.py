"""What a worker exits with, and what it says before: ended while its database is away, or by what can't heal."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from perdure import App, JobQuery, JobState
from tests.faults.operations.lines import logged
from tests.faults.operations.office_jobs import start_jobs, until_held
from tests.support.jobs import until
from tests.support.tiers import count

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Process


UPGRADE = "upgrade perdure in this process"

LEAVE = """

@app.task("leave")
async def leave(ctx: Context[str, int]) -> int:
    print("at the gate", flush=True)
    while not os.path.exists(ctx.metadata):
        await asyncio.sleep(0.02)
    print("through the gate", flush=True)
    return 7
"""


def said(process: Process) -> list[str]:
    """What it wrote beside its log."""
    return [line for line in logged(process) if not line.startswith(("INFO ", "WARNING "))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT][: count(push=1, nightly=2)])
async def test_stopped_in_an_outage_it_says_what_it_could_not_write_and_exits_with_0(
    private_cluster: Cluster,
    private_dsn: str,
    start_worker: Callable[..., Process],
    office: Path,
    number: signal.Signals,
) -> None:
    gate = office / "gate"
    await start_jobs(private_dsn, str(gate), gate=3)
    worker = start_worker(private_dsn, lease_duration=6)
    await worker.line("^ready")
    for _job in range(3):
        await worker.line("at the gate")
    private_cluster.stop("immediate")
    gate.touch()
    worker.send(number)
    assert await worker.end(within_seconds=40) == 0, worker.output
    (error,) = [line for line in logged(worker) if line.startswith("ERROR")]
    unwritten = "the outcomes of 3 jobs could not be written; their lease lapses, and they go on elsewhere from their"
    assert error == f"ERROR stopped without the database: {unwritten} last checkpoint"
    assert logged(worker)[-1] == "INFO stopped"
    private_cluster.start()
    again = start_worker(private_dsn)
    for _job in range(3):
        await again.line("at the gate", within_seconds=40)
    again.terminate()
    assert await again.end() == 0


async def test_stopped_in_an_outage_that_ends_within_the_lease_it_has_written_all_and_says_nothing_of_it(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process], office: Path
) -> None:
    with (office / "office.py").open("a", encoding="utf-8") as file:
        file.write(LEAVE)
    gate = office / "gate"
    await start_jobs(private_dsn, str(gate), leave=1)
    worker = start_worker(private_dsn, "--debug", lease_duration=120, shutdown_grace=120)
    await worker.line("^at the gate")
    private_cluster.stop("immediate")
    gate.touch()
    await worker.line("^through the gate")  # what it has returned can't be written
    worker.terminate()
    await worker.line("SIGTERM: stopping")
    for _failure in range(3):
        await worker.line(r"lane \d: .*Connection refused")
    private_cluster.start()
    assert await worker.end(within_seconds=100) == 0, worker.output
    assert [line for line in logged(worker) if line.startswith("ERROR")] == []
    assert "INFO stopped" in logged(worker)
    async with App(private_dsn) as app:
        (job,) = [job async for job in app.jobs(JobQuery(states=list(JobState)))]
    assert (job.state, job.attempt, job.stored_result) == (JobState.COMPLETED, 1, 7)


async def test_two_signals_in_an_outage_end_it_without_waiting_for_the_lease(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process], office: Path
) -> None:
    gate = office / "gate"
    await start_jobs(private_dsn, str(gate), gate=1)
    worker = start_worker(private_dsn, lease_duration=600, cancel_grace=0.5)
    await worker.line("at the gate")
    private_cluster.stop("immediate")
    gate.touch()
    worker.send(signal.SIGINT)
    await worker.line("SIGINT: stopping; running jobs may end within the grace")
    worker.send(signal.SIGINT)
    assert await worker.end(within_seconds=40) == 0, worker.output
    assert "WARNING SIGINT again: stopping without further grace" in logged(worker)
    assert logged(worker)[-2].startswith("ERROR stopped without the database: the outcomes of 1 jobs"), worker.output


async def test_a_database_that_is_not_there_yet_is_waited_for(
    private_cluster: Cluster, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(private_cluster.dsn("later"))
    await worker.line('^no connection to the database: .*database "later" does not exist; waiting for it$')
    private_cluster.create_database("later")
    # There it is; what it lacks doesn't heal by itself.
    assert await worker.end(within_seconds=40) == 1
    assert said(worker)[-1] == (
        "Error: schema 'background_tasks' doesn't exist in this database yet: run `perdure migrate` (or app.migrate())"
    )


async def test_a_database_that_goes_away_while_the_schema_is_checked_is_waited_for(
    private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    async with await psycopg.AsyncConnection.connect(private_dsn, autocommit=True) as admin:
        async with await psycopg.AsyncConnection.connect(private_dsn) as locking:
            await locking.execute("lock table background_tasks.migrations in access exclusive mode")
            worker = start_worker(private_dsn)
            await until(lambda: _terminate_waiting(private_dsn), "it waits for the lock, and its connection is ended")
            await worker.line("^the database went away while its schema was checked: .*; waiting for it$")
        await worker.line("^ready")
        assert await (await admin.execute("select count(*) from background_tasks.workers")).fetchone() == (1,)
    worker.terminate()
    assert await worker.end() == 0


def _terminate_waiting(dsn: str) -> bool:
    query = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query).fetchone() is not None


async def test_a_wrong_password_is_waited_for_and_never_written_down(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    _ask_for_passwords(private_cluster)
    async with await psycopg.AsyncConnection.connect(
        private_cluster.socket_dsn(), user="postgres", autocommit=True
    ) as admin:
        await admin.execute("create role worker superuser login password 'a-new-secret'")
        worker = start_worker(private_dsn.replace("postgres@", "worker:an-old-secret@"))
        await worker.line('^no connection to the database: .*password authentication failed for user "worker"; waiting')
        await admin.execute("alter role worker password 'an-old-secret'")
        await worker.line("^ready", within_seconds=40)
    worker.terminate()
    assert await worker.end() == 0
    assert "secret" not in worker.output


def _ask_for_passwords(cluster: Cluster) -> None:
    """Let the server ask for passwords over TCP."""
    rules = cluster.data / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all all scram-sha-256\n", encoding="utf-8")
    with psycopg.connect(cluster.socket_dsn(), user="postgres", autocommit=True) as admin:
        admin.execute("select pg_reload_conf()")


@pytest.mark.parametrize("dsn", ["postgresql://user:pass word@[::1/x", "mysql://localhost/shop", "host=a prot=1"])
async def test_a_dsn_that_cant_be_read_ends_it_with_1_and_a_line(
    start_worker: Callable[..., Process], dsn: str
) -> None:
    worker = start_worker(dsn)
    assert await worker.end() == 1
    assert len(worker.output.splitlines()) == 1, worker.output
    assert "PERDURE_DSN" in worker.output
    assert "pass word" not in worker.output


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            "drop schema background_tasks cascade",
            "schema 'background_tasks' doesn't exist in this database yet: run `perdure migrate` (or app.migrate())",
        ),
        (
            "delete from background_tasks.migrations where number = 1",
            "schema 'background_tasks' lacks the migrations 001_jobs: run `perdure migrate` (or app.migrate())",
        ),
        (
            "insert into background_tasks.migrations (number, name, major, checksum) values (999, 'next', 2, '')",
            f"schema 'background_tasks' is of major version 2, this perdure understands 1: {UPGRADE}",
        ),
    ],
)
@pytest.mark.parametrize("number", ["1", "2"][: count(push=1, nightly=2)])
async def test_a_schema_that_isnt_one_to_work_on_ends_it_with_1_and_the_command_that_mends_it(
    migrated_database: str, start_worker: Callable[..., Process], change: str, what: str, number: str
) -> None:
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as admin:
        await admin.execute(sql.SQL(change))
    worker = start_worker(migrated_database, "--processes", number)
    assert await worker.end() == 1
    assert said(worker) == [f"Error: {what}"], worker.output


async def test_a_schema_that_vanishes_under_a_worker_is_no_reason_to_end(
    migrated_database: str, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(migrated_database)
    await worker.line("^ready")
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as admin:
        await admin.execute("alter schema background_tasks rename to elsewhere")
        await worker.line(r"the database refuses to work: UndefinedTable: .*background_tasks\.\w+.* does not exist")
        await asyncio.sleep(1)
        await admin.execute("alter schema elsewhere rename to background_tasks")
    await worker.line("the database is there again", within_seconds=40)
    await start_jobs(migrated_database, nothing=1)
    await until_held(migrated_database, 0)
    worker.terminate()
    assert await worker.end() == 0
    assert len(worker.output.splitlines()) < 15, worker.output
