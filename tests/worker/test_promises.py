"""Sentences of the specification that are about a worker and its handlers and have no better place."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Cancelled, Context, Failed, JobState, LeaseLost, Proceeded, Raised, Suspended
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.store import jobs
from perdure.store.settles import ProgressReport
from perdure.worker.claimer import Claimer
from perdure.worker.desk import Desk
from tests.support.jobs import job_until, until
from tests.support.migrated import migrate_database
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.processes import Processes

SCRIPT = str(Path(__file__).with_name("process_app.py"))


@dataclass
class Progress:
    rows: int = 0
    text: str = ""


@dataclass
class Tags:
    names: list[str] = field(default_factory=list)


@pytest.fixture
def database(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        connection.execute("create table effects (n int)")
        yield connection


def effects(database: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in database.execute("select n from effects order by n")]


# --- transactions and checkpoints ---


async def test_a_cancellation_while_the_commit_is_on_its_way_is_held_until_the_answer_is_known(
    app: App, database: psycopg.Connection[Any]
) -> None:
    database.execute("""
        create function slow() returns trigger language plpgsql
            as $$ begin perform pg_advisory_xact_lock(1); return null; end $$;
        create constraint trigger slow after insert on effects deferrable initially deferred
            for each row execute function slow()
    """)
    inside = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows = 1
            inside.set()
        await asyncio.Event().wait()

    def at_the_gate() -> bool:
        row = database.execute("select count(*) from pg_locks where locktype = 'advisory' and not granted").fetchone()
        return row == (1,)

    async with app.worker() as worker:
        database.execute("select pg_advisory_lock(1)")
        job = await task.start()
        await inside.wait()
        await until(at_the_gate, "the COMMIT is on its way")
        worker.cancel_grace_seconds = 15
        worker.executor.cancel(job.id, 1)  # the request itself waits for the row, which the COMMIT has
        await asyncio.sleep(0.3)  # in which the server would hear that the COMMIT is cut off
        assert (at_the_gate(), effects(database)) == (True, [])
        database.execute("select pg_advisory_unlock(1)")
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
    assert (job.execution_metadata, effects(database)) == (Progress(1), [1])


async def test_a_cancel_undoes_the_event_and_what_was_changed_after_it(app: App) -> None:
    given = asyncio.Event()

    @app.task("t", events=int)
    async def task(ctx: Context[None, Progress]) -> None:
        ctx.execution_metadata.rows = 100
        event = await ctx.next_event()
        assert isinstance(event, int)
        ctx.execution_metadata.rows += event
        given.set()
        await asyncio.Event().wait()

    job = await task.start()
    await task.send(job.id, 7)
    async with app.worker():
        await given.wait()
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
        assert job.execution_metadata == Progress(100)
    async with app.pool.connection() as connection:
        cursor = await connection.execute(jobs.unread_events(app.names, job.id).statement, {"id": job.id})
        assert await cursor.fetchone() == (1,)


async def test_what_a_handler_changes_in_its_metadata_is_not_stored(app: App) -> None:
    @app.task("t", max_retry_count=1)
    async def task(ctx: Context[Tags, None]) -> list[str] | Failed[str]:
        if ctx.attempt == 1:
            ctx.metadata.names.append("changed")
            return Failed("once more")
        return ctx.metadata.names

    async with app.worker():
        job = await task.start(Tags(["as started"]))
        assert await job.result(timeout=10) == ["as started"]
        assert (await job.refresh()).metadata == Tags(["as started"])


# --- cancels and proceeds that are remembered ---


@pytest.mark.parametrize("end", [Failed, Suspended, ValueError])
async def test_after_a_cancel_request_every_end_but_a_value_cancels_the_job(app: App, end: Callable[..., Any]) -> None:
    running = asyncio.Event()

    @app.task("t", max_retry_count=5, scheduler_retry_count=5)
    async def task(ctx: Context[None, Progress]) -> Failed[str] | Suspended:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ending = end() if end is Suspended else end("error")
            if isinstance(ending, Exception):
                raise ending from None
            return ending  # type: ignore[no-any-return]
        return Suspended()

    async with app.worker():
        job = await task.start()
        await running.wait()
        await app.cancel(job.id)
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
    assert (job.attempt, job.retry_number) == (1, 0)


async def test_a_remembered_proceed_survives_retries_and_is_used_up_by_the_next_suspension(app: App) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @app.task("t", max_retry_count=1)
    async def task(ctx: Context[None, None]) -> Failed[str] | Suspended:
        if ctx.attempt == 1:
            running.set()
            await go_on.wait()
            return Failed("once more")
        return Suspended()

    async with app.worker():
        job = await task.start()
        await running.wait()
        for _ in range(2):  # several count as one
            assert isinstance(await app.proceed(job.id), Proceeded)
        go_on.set()
        await job_until(job, lambda job: job.state is JobState.SUSPENDED and job.attempt == 3)
    assert job.scheduled_at is None


async def test_a_final_state_drops_a_remembered_proceed(app: App) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> Cancelled[str] | Suspended:
        if ctx.attempt == 1:
            running.set()
            await go_on.wait()
            return Cancelled("this time")
        return Suspended()

    async with app.worker():
        job = await task.start()
        await running.wait()
        assert isinstance(await app.proceed(job.id), Proceeded)
        go_on.set()
        await job_until(job, lambda job: job.state is JobState.CANCELLED)
        await app.retry(job.id)
        await job_until(job, lambda job: job.state is JobState.SUSPENDED and job.attempt == 2)


# --- what a context offers ---


async def test_the_logger_names_the_job_its_task_and_the_attempt(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        ctx.logger.warning("look here")

    async with app.worker():
        job = await task.start()
        await job.result(timeout=10)
    (record,) = [record for record in caplog.records if record.message == "look here"]
    told = (record.__dict__["job_id"], record.__dict__["task"], record.__dict__["attempt"])
    assert (record.name, record.levelno, told) == ("perdure.job", logging.WARNING, (job.id, "t", 1))


async def test_progress_is_written_at_most_once_a_second_and_the_last_is_kept(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[ProgressReport]()
    report = Desk.report_progress
    monkeypatch.setattr(Desk, "report_progress", lambda desk, entry: (written.append(entry), report(desk, entry)))

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        for row in range(1000):
            ctx.execution_metadata.rows = row
            await ctx.progress(row, 1000, "rows")
        assert len(written) == 1
        message = "nothing else is persisted by it"
        raise ValueError(message)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED and job.progress is not None)
    assert job.progress is not None
    assert (job.progress.done, job.progress.total, job.progress.note) == (999, 1000, "rows")
    assert (len(written), job.execution_metadata) == (2, Progress(0))


async def test_a_handler_sees_that_its_worker_stops_and_may_end_within_the_grace(app: App) -> None:
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> tuple[bool, None]:
        running.set()
        before = ctx.stopping
        while not ctx.stopping:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)  # it has something to finish
        assert ctx.stop_reason is None  # the handler itself isn't stopped yet
        return before, None

    async with app.worker(shutdown_grace=10):
        job = await task.start()
        await running.wait()
    assert await job.result(timeout=0) == (False, None)


async def test_a_thread_that_was_left_behind_keeps_what_it_persisted_and_its_later_writes_are_refused(
    app: App, database: psycopg.Connection[Any]
) -> None:
    running, go_on = threading.Event(), threading.Event()
    refused = list[BaseException]()

    @app.task("t")
    def task(ctx: BlockingContext[None, Progress]) -> int:
        if ctx.attempt > 1:
            return ctx.execution_metadata.rows
        ctx.execution_metadata.rows = 1
        ctx.persist()
        running.set()
        go_on.wait(timeout=20)
        ctx.execution_metadata.rows = 2
        for write in (ctx.persist, ctx.transaction):
            try:
                write()
            except BaseException as error:  # noqa: BLE001 - the test looks at which
                refused.append(error)
        return 0

    async with app.worker(shutdown_grace=0):
        job = await task.start()
        await until(running.is_set, "it runs")
    async with app.worker():
        assert await job.result(timeout=10) == 1  # beside the first body
        go_on.set()
        await until(lambda: len(refused) == 2, "both writes are refused")
    assert [type(error) for error in refused] == [LeaseLost, LeaseLost]
    assert (await job.refresh()).execution_metadata == Progress(1)


# --- limits ---


@pytest.mark.parametrize("which", ["result", "error", "execution metadata"])
async def test_a_payload_over_the_limit_is_a_failed_attempt_that_says_so(migrated_database: str, which: str) -> None:
    app = App(migrated_database, scheduling={"scheduler_retry_count": 0}, execution={"max_payload_bytes": 100})

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str | Failed[str]:
        long = "x" * 200
        if which == "execution metadata":
            ctx.execution_metadata.text = long
        return {"result": long, "error": Failed(long)}.get(which, "short")

    async with app, app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.PayloadTooLarge"
    assert which in job.error.message
    assert "allowed are 100 (execution.max_payload_bytes)" in job.error.message


async def test_handlers_that_hold_all_connections_starve_neither_checkpoints_nor_outcomes(
    migrated_database: str, database: psycopg.Connection[Any]
) -> None:
    app = App(migrated_database, execution={"max_connections": 1}, scheduling={"polling_delay": 0.1})
    holding, go_on = asyncio.Event(), asyncio.Event()

    @app.task("holds")
    async def holds(ctx: Context[None, None]) -> None:
        async with ctx.transaction():
            holding.set()
            await go_on.wait()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        await holding.wait()
        ctx.execution_metadata.rows = 1
        await ctx.persist()

    def ended() -> bool:
        return database.execute("select state from background_tasks.finished_jobs").fetchall() == [(6,)]

    async with app, app.worker():
        await task.start()
        await holds.start()
        await until(ended, "the other has written its checkpoint and its result")
        go_on.set()


def test_a_claim_takes_no_more_than_a_batch_and_never_more_than_there_is_room_for() -> None:
    claimer = Claimer(concurrency=100, batch_size=7)
    claimer.open = True
    assert claimer.want(0) == 7
    claimer.claimed(7, 7, pokes=claimer.pokes)
    assert claimer.want(97) == 3
    assert claimer.want(97) == 0  # the room is spoken for


async def test_what_was_claimed_ahead_goes_back_untouched_when_the_worker_stops(app: App) -> None:
    running = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        running.set()
        await asyncio.Event().wait()

    worker = app.worker(concurrency=1, shutdown_grace=0)
    worker.claimer.measure(0.0001)  # as if jobs were short: then some are claimed ahead
    started = await task.start_many([None] * 5)
    async with worker:
        await running.wait()
        await until(lambda: worker.in_hand > 1, "some are claimed ahead")
    for job in started:
        await job.refresh()
        assert (job.state, job.retry_number) == (JobState.PENDING, 0)
    assert sorted(job.attempt for job in started) == [0, 0, 0, 0, 1]


# --- the end without a database ---


async def test_a_stop_while_the_database_is_away_ends_with_0_and_says_what_could_not_be_written(
    private_cluster: Cluster, processes: Processes
) -> None:
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    settings = json.dumps({"lease_duration": 2, "shutdown_grace": 0})
    worker = processes.python(SCRIPT, env={"TEST_DSN": dsn, "TEST_EXECUTION": settings, "TEST_GATE": ""})
    await worker.line("worker ready")
    async with process_definitions.make(dsn) as client:
        job = await client.tasks["sleepy"].start()
        await worker.line("sleepy")
        private_cluster.stop("immediate")
        worker.terminate()
        await worker.line("the outcomes of 1 jobs could not be written; their lease lapses")
        assert await worker.end() == 0
        private_cluster.start()
        processes.python(SCRIPT, env={"TEST_DSN": dsn, "TEST_EXECUTION": settings, "TEST_GATE": ""})
        async with App(dsn) as later:
            (again,) = [found async for found in later.jobs()]
            await job_until(again, lambda again: again.attempt == 2)
            assert again.id == job.id
