"""What a worker writes when its database fails it: a line for each change, however many jobs it has in hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.faults.operations.lines import (
    AGAIN,
    AWAY,
    LEFT_BEHIND,
    LOST,
    NEW_LEASE,
    RAISED,
    READY,
    RESCUED,
    STARTING,
    STOPPED,
    STOPPING,
    assert_lines,
    logged,
)
from tests.faults.operations.nights import AT_NIGHT
from tests.faults.operations.office_jobs import start_jobs, until_held
from tests.support.tiers import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process

OUTAGE_SECONDS = count(push=4, nightly=60)
JOBS = count(push=300, nightly=2_000)
REFUSES = r"WARNING the database refuses to work: {} \([\w' ]+\); trying again until it works"


@pytest.mark.timeout(300)
async def test_an_outage_with_many_jobs_in_hand_is_a_handful_of_lines(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    await start_jobs(private_dsn, hold=JOBS, write=JOBS, persist=JOBS)
    worker = start_worker(private_dsn, "--concurrency", str(3 * JOBS))
    await worker.line("^ready")
    await until_held(private_dsn, 3 * JOBS)
    private_cluster.stop("immediate")
    await asyncio.sleep(OUTAGE_SECONDS)  # nothing is waited for: it is about what is said again and again meanwhile
    private_cluster.start()
    await worker.line("the database is there again", within_seconds=60)
    worker.terminate()
    assert await worker.end(within_seconds=60) == 0
    once = [STARTING, READY, AWAY, LOST, NEW_LEASE, AGAIN, STOPPING, STOPPED]
    assert_lines(worker, once, perhaps=[RAISED, LEFT_BEHIND, RESCUED])


@AT_NIGHT
@pytest.mark.timeout(300)
async def test_several_processes_write_as_many_lines_each(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    await start_jobs(private_dsn, hold=2 * JOBS)
    worker = start_worker(private_dsn, "--concurrency", str(JOBS), "--processes", "2")
    await worker.line("^ready", within_seconds=60)
    await until_held(private_dsn, 2 * JOBS)
    private_cluster.stop("immediate")
    await asyncio.sleep(OUTAGE_SECONDS)
    private_cluster.start()
    for _process in range(2):
        await worker.line("the database is there again", within_seconds=60)
    worker.terminate()
    assert await worker.end(within_seconds=60) == 0
    once = [STARTING, AWAY, LOST, NEW_LEASE, AGAIN, STOPPING, STOPPED]
    assert_lines(worker, once, perhaps=[RESCUED, "ready: 2 processes, .+"], times=2)


@pytest.mark.timeout(300)
async def test_a_frozen_server_is_found_out_and_said_and_nobody_waits_for_its_answers(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    await start_jobs(private_dsn, persist=JOBS)
    worker = start_worker(
        private_dsn, "--concurrency", str(JOBS), lease_duration=count(push=3, nightly=12), cancel_grace=1.2
    )
    await worker.line("^ready")
    await until_held(private_dsn, JOBS)
    private_cluster.freeze()
    try:
        await worker.line("has lost its lease", within_seconds=60)
        await worker.line("the database is away: ", within_seconds=60)
        await asyncio.sleep(3)  # longer than handlers have to end
    finally:
        private_cluster.thaw()
    await worker.line("the database is there again", within_seconds=60)
    worker.terminate()
    assert await worker.end(within_seconds=60) == 0
    # No handler is left behind: each `persist()` under way was told that the lease is lost.
    assert_lines(worker, [STARTING, READY, AWAY, LOST, NEW_LEASE, AGAIN, STOPPING, STOPPED], perhaps=[RESCUED])


@AT_NIGHT
@pytest.mark.timeout(120)
async def test_a_server_that_has_become_read_only_is_named_so_and_not_hammered(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    await start_jobs(private_dsn, hold=1)
    worker = start_worker(private_dsn)
    await worker.line("^ready")
    await until_held(private_dsn, 1)
    async with await psycopg.AsyncConnection.connect(private_dsn, autocommit=True) as admin:
        name = admin.info.dbname
        await admin.execute(f"alter database {name} set default_transaction_read_only = on")
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
        await worker.line("has lost its lease", within_seconds=30)
        before = await _sessions(admin)
        await asyncio.sleep(3)
        assert await _sessions(admin) - before < 20  # a heartbeat that came back at its shortest delay made sixty
        await admin.execute("set default_transaction_read_only = off")
        await admin.execute(f"alter database {name} reset default_transaction_read_only")
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    await worker.line("the database is there again", within_seconds=30)
    worker.terminate()
    assert await worker.end() == 0
    refuses = REFUSES.format("ReadOnlySqlTransaction: cannot execute .+ in a read-only transaction")
    assert_lines(worker, [STARTING, READY, refuses, LOST, NEW_LEASE, AGAIN, STOPPING, STOPPED], perhaps=[RESCUED])


async def _sessions(admin: psycopg.AsyncConnection[tuple[int]]) -> int:
    await admin.execute("select pg_stat_clear_snapshot()")
    row = await (await admin.execute("select sum(sessions)::int from pg_stat_database")).fetchone()
    assert row is not None
    return row[0]


@AT_NIGHT
@pytest.mark.timeout(120)
async def test_a_worker_that_starts_on_a_read_only_server_says_why_it_isnt_ready(
    private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    async with await psycopg.AsyncConnection.connect(private_dsn, autocommit=True) as admin:
        await admin.execute(f"alter database {admin.info.dbname} set default_transaction_read_only = on")
        worker = start_worker(private_dsn)
        await worker.line("the database refuses to work: ReadOnlySqlTransaction")
        await admin.execute("set default_transaction_read_only = off")
        await admin.execute(f"alter database {admin.info.dbname} reset default_transaction_read_only")
        await worker.line("^ready", within_seconds=40)
    worker.terminate()
    assert await worker.end() == 0


@pytest.mark.timeout(120)
async def test_writes_that_are_refused_while_reads_work_are_said_once(
    migrated_database: str, start_worker: Callable[..., Process]
) -> None:
    # As when the disk of one table is full: claims go on, outcomes don't.
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as admin:
        await admin.execute(
            "create function full_disk() returns trigger language plpgsql as "
            "$$begin raise exception 'could not extend file' using errcode = '53100'; end$$"
        )
        await admin.execute(
            "create trigger full_disk before insert on background_tasks.finished_jobs execute function full_disk()"
        )
        await start_jobs(migrated_database, nothing=20)
        worker = start_worker(migrated_database, lease_duration=30)
        await worker.line("the database refuses to work: DiskFull: could not extend file")
        await asyncio.sleep(OUTAGE_SECONDS)
        await admin.execute("drop trigger full_disk on background_tasks.finished_jobs")
        await worker.line("the database is there again", within_seconds=30)
        row = await (await admin.execute("select count(*) from background_tasks.finished_jobs")).fetchone()
        assert row == (20,)
    worker.terminate()
    assert await worker.end() == 0
    refuses = REFUSES.format("DiskFull: could not extend file.*")
    assert_lines(worker, [STARTING, READY, refuses, AGAIN, STOPPING, STOPPED])


async def test_a_connection_that_ends_is_no_outage(
    migrated_database: str, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(migrated_database, lease_duration=10)
    await worker.line("^ready")
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as admin:
        for _again in range(3):
            await _until_connected(admin)
            await admin.execute(f"select pg_terminate_backend(pid) {_THAT_HAVE_WORKED}")
            await start_jobs(migrated_database, nothing=1)
            await until_held(migrated_database, 0)
    worker.terminate()
    assert await worker.end() == 0
    assert_lines(worker, [STARTING, READY, STOPPING, STOPPED])
    assert not [line for line in logged(worker) if "WARNING" in line]


_THAT_HAVE_WORKED = (
    "from pg_stat_activity where application_name like 'perdure%' and datname = current_database() "
    "and backend_start < clock_timestamp() - interval '1 s'"
)


async def _until_connected(admin: psycopg.AsyncConnection[Any]) -> None:
    """Wait for two lanes, the heartbeat and the listener."""
    for _look in range(1_000):
        row = await (await admin.execute(f"select count(*) >= 4 {_THAT_HAVE_WORKED}")).fetchone()
        if row == (True,):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the worker hasn't four connections")
