"""The database refuses what is in a batch: its entry fails, its neighbours don't wait for it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, JobState, Raised, Suspended
from perdure.errors import PayloadRefused
from perdure.store import calls, claims, leases
from tests.support.jobs import job_until, until
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster


@dataclass
class Progress:
    done: int = 0


REFUSE = """
    create function refuse() returns trigger language plpgsql as $$
    begin
        raise exception 'thirteen is refused' using errcode = '{sqlstate}';
    end
    $$;
    create trigger refuse before {event} on background_tasks.{table} for each row when ({condition})
        execute function refuse();
"""


@pytest.fixture
def refuse(migrated_database: str) -> Callable[..., None]:
    def make(event: str, table: str, condition: str, sqlstate: str = "P0001") -> None:
        with psycopg.connect(migrated_database, autocommit=True) as connection:
            statement = REFUSE.format(event=event, table=table, condition=condition, sqlstate=sqlstate)
            connection.execute(statement.encode())

    return make


@pytest.mark.parametrize("sqlstate", ["P0001", "22023", "23514", "54000", "XX000"])
async def test_a_refused_result_fails_its_job_alone(app: App, refuse: Callable[..., None], sqlstate: str) -> None:
    refuse("insert", "finished_jobs", "new.result::text = '13'", sqlstate)
    together = asyncio.Barrier(20)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        await together.wait()  # so that they end in one batch
        return ctx.metadata

    async with app.worker():
        jobs = await task.start_many(range(20))
        for number, job in enumerate(jobs):
            if number != 13:
                assert await job.result(timeout=10) == number
        await job_until(jobs[13], lambda job: job.state is JobState.FAILED)
    error = jobs[13].error
    assert isinstance(error, Raised)
    assert "the outcome can't be stored: the database refuses it: thirteen is refused" in error.message


async def fill_notifications(connection: psycopg.AsyncConnection[Any]) -> None:
    while True:
        await connection.execute("select pg_notify('something', repeat('x', 7000) || clock_timestamp())")


async def test_a_full_queue_of_notifications_fails_no_job(
    new_cluster: Callable[..., Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    cluster = new_cluster(settings={"max_notify_queue_pages": "64"})
    dsn = cluster.dsn(cluster.create_database())
    migrate_database(dsn)
    app = App(dsn)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return ctx.attempt

    async with app, await psycopg.AsyncConnection.connect(dsn) as listener:
        job = await task.start()
        await listener.execute("update background_tasks.jobs set awaited = true")  # so its end is notified
        await listener.execute("listen something")
        await listener.commit()
        await listener.execute("select")  # it reads no notification before it ends its transaction
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                await fill_notifications(other)
        async with app.worker():
            await until(lambda: "the database refuses to work: ProgramLimitExceeded" in caplog.text, "it is noticed")
            await listener.close()
            assert await job.result(timeout=30) == 1
    assert "can't be stored" not in caplog.text


async def test_a_refused_checkpoint_raises_in_its_handler_alone(app: App, refuse: Callable[..., None]) -> None:
    refuse("update", "jobs", "new.execution_metadata->>'done' = '13'")
    together = asyncio.Barrier(20)

    @app.task("t")
    async def task(ctx: Context[int, Progress]) -> str:
        ctx.execution_metadata.done = ctx.metadata
        await together.wait()
        try:
            await ctx.persist()
        except PayloadRefused as error:
            ctx.execution_metadata.done = 0
            return str(error)
        return "persisted"

    async with app.worker():
        jobs = await task.start_many(range(20))
        results = [await job.result(timeout=10) for job in jobs]
    assert [number for number, result in enumerate(results) if result != "persisted"] == [13]
    assert "execution metadata: the database refuses it: thirteen is refused" in results[13]


async def test_a_job_whose_failure_cant_be_stored_either_holds_up_nobody(
    app: App, refuse: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    refuse("insert", "finished_jobs", "new.metadata::text = '13'")
    together = asyncio.Barrier(20)

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        if ctx.attempt == 1:
            await together.wait()
        return ctx.metadata

    async with app.worker():
        jobs = await task.start_many(range(20))
        for number, job in enumerate(jobs):
            if number != 13:
                assert await job.result(timeout=10) == number
        await job_until(jobs[13], lambda _job: "not even its failure can be stored" in caplog.text)


async def test_a_suspension_that_is_refused_fails_and_a_cancel_of_it_wins(
    app: App, refuse: Callable[..., None]
) -> None:
    refuse("update", "jobs", "new.state = 4")
    ready, go = asyncio.Event(), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> Suspended:
        ready.set()
        await go.wait()
        return Suspended()

    async with app.worker():
        job = await task.start()
        await ready.wait()
        go.set()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert job.last_error is not None
    assert "thirteen is refused" in job.last_error


async def test_a_refusal_beside_a_claim_that_looks_everywhere_holds_up_no_other_look(
    app: App, refuse: Callable[..., None]
) -> None:
    refuse("insert", "finished_jobs", "new.result::text = '13'")

    @app.task("t")
    async def task(ctx: Context[int, None]) -> int:
        worker.claimer.look_everywhere()  # in one exchange with the outcome
        return ctx.metadata

    worker = app.worker()
    async with worker:
        job = await task.start(13)
        await job_until(job, lambda job: job.state is JobState.FAILED)
        await until(lambda: not worker.desk.is_looking, "the look has ended")


async def test_a_job_that_cant_be_rescued_is_told_of_once_though_each_sweep_finds_it(
    app: App, refuse: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    refuse("update", "jobs", "old.worker_id is not null and new.worker_id is null")
    forever = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await forever.wait()

    names, lost = app.names, uuid.uuid4()
    who = {"host": "here", "pid": 1, "concurrency": 1, "queues": None, "version": "1"}
    job = await task.start()
    async with app.pool.connection() as table:
        await calls.run(table, leases.register(names, lost, lease_seconds=60, **who))
        await calls.run(table, claims.claim(names, lost, want=1, queues=None))
        await table.execute("update background_tasks.workers set lapsed_at = clock_timestamp()")
    async with app.worker() as worker:
        for _ in range(5):
            worker._rescuer._scan_at_seconds = 0.0  # only a scan finds it
            await worker._rescuer.run_once()
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [line.partition(":")[0] for line in told] == [f"job {job.id} can't be rescued"]
