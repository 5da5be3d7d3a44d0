"""Races and settings that look harmless: those of docs/design/traps.md that no other file of tests provokes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, JobState, Raised, StopReason
from perdure.errors import DatabaseUnavailable
from tests.support.jobs import job_until, until
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.processes import Processes


@dataclass
class Progress:
    rows: int = 0


async def test_a_worker_that_cant_renew_stops_its_handlers_before_the_lease_ends_and_registers_anew(
    private_cluster: Cluster,
) -> None:
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    app = App(dsn, execution={"lease_duration": 2, "shutdown_grace": 0}, scheduling={"polling_delay": 0.1})
    running, stopped = asyncio.Event(), asyncio.Event()
    seen: dict[str, Any] = {}

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        if ctx.attempt > 1:
            return ctx.attempt
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen["reason"] = ctx.stop_reason
            seen["held"] = worker._heartbeat._valid_until_seconds - time.monotonic()
            stopped.set()
        return 0

    async with app, app.worker() as worker:
        job = await task.start()
        await running.wait()
        first = worker.worker_id
        private_cluster.freeze()
        try:
            await stopped.wait()
            assert seen["reason"] is StopReason.LEASE_LOST
            assert seen["held"] > 0  # the lease, by the worker's own clock
        finally:
            private_cluster.thaw()
        assert await job.result(timeout=15) == 2
        assert worker.worker_id not in {None, first}


STALLS = """
import asyncio, sys, time
from datetime import timedelta
from perdure import App, Context
app = App(sys.argv[1], execution={"lease_duration": 2})
object.__setattr__(app.config.execution, "max_stall", timedelta(seconds=0.5))  # less than a setting may be

@app.task("t")
async def task(ctx: Context[None, None]) -> str:
    if ctx.attempt == 1:
        time.sleep(600)
    return "elsewhere"

async def main():
    async with app, app.worker():
        await task.start()
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_loop_that_is_blocked_for_good_ends_its_process_and_the_job_goes_on_elsewhere(
    migrated_database: str, processes: Processes
) -> None:
    process = processes.python("-c", STALLS, migrated_database)
    await process.line("the event loop hasn't turned for .*: a handler blocks it.*its jobs go on elsewhere")
    assert await process.end() == 1
    app = App(migrated_database)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> str:
        return "elsewhere"

    async with app, app.worker():
        (job,) = [job async for job in app.jobs()]
        assert await job.result(timeout=15) == "elsewhere"
        assert (await job.refresh()).attempt == 2


@pytest.mark.parametrize(
    ("setting", "waits", "said"),
    [
        ("statement_timeout", "select pg_sleep(60)", "statement timeout"),
        ("transaction_timeout", "select pg_sleep(60)", "transaction timeout"),
        ("transaction_timeout", None, "transaction timeout"),
        ("idle_in_transaction_session_timeout", None, None),
    ],
)
async def test_a_time_out_of_the_administrators_in_a_transaction_is_a_raise_and_nothing_is_half_written(
    migrated_database: str, setting: str, waits: str | None, said: str | None
) -> None:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("create table effects (n int)")
        name = connection.info.dbname
        connection.execute(f'alter database "{name}" set {setting} = 300'.encode())
    app = App(migrated_database, scheduling={"scheduler_retry_count": 0, "polling_delay": 0.1})

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows = 1
            if waits is not None:
                await connection.execute(waits.encode())
            else:
                await asyncio.sleep(0.4)  # the server's clock has to pass 0.3 s
        return ctx.execution_metadata.rows

    async with app, app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    with psycopg.connect(migrated_database) as connection:
        rows = connection.execute("select count(*) from effects").fetchone()
    if said is None:  # of ours: a block may last for a lease
        assert (job.state, job.execution_metadata, rows) == (JobState.COMPLETED, Progress(1), (1,))
        return
    assert isinstance(job.error, Raised)
    assert said in job.error.message
    assert (job.state, job.execution_metadata, rows) == (JobState.FAILED, Progress(0), (0,))


async def test_handlers_that_call_start_in_their_transactions_at_full_concurrency_are_told_what_to_do(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 0.3)
    app = App(migrated_database, execution={"max_connections": 2}, scheduling={"scheduler_retry_count": 0})
    inside = asyncio.Barrier(2)
    told = list[str]()

    @app.task("follower")
    async def follower(ctx: Context[None, None]) -> None: ...

    @app.task("t")
    async def task(ctx: Context[bool, None]) -> None:
        async with ctx.transaction() as connection:
            await inside.wait()
            try:
                await follower.start(connection=connection if ctx.metadata else None)
            except DatabaseUnavailable as error:
                told.append(str(error))

    async with app, app.worker():
        await task.start_many([False, False])
        await until(lambda: len(told) == 2, "both are told")
        assert all("inside ctx.transaction(), pass its own: connection=" in line for line in told)
        for job in await task.start_many([True, True]):
            await job.result(timeout=10)
    assert len(told) == 2
