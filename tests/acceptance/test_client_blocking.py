"""`app.blocking`: the verbs for code that doesn't await, on connections of its own or of the caller's."""
# ruff: noqa: ARG002 - a handler has its context, whether it needs it or not

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, BackgroundTask, CancelRequested, Context, JobCancelled, JobNotFound, JobQuery, JobState
from perdure.errors import DatabaseUnavailable, JobNotFoundError, MisuseError, PayloadRefused, SchemaOutdated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Meta:
    shop: str


@dataclass
class Progress:
    rows: int = 0


@pytest.fixture
def app(migrated_database: str) -> Iterator[App]:
    app = App(migrated_database)

    @app.task("orders.import", queue="imports", priority=7)
    async def import_orders(ctx: Context[Meta, Progress]) -> int:
        return 1

    yield app
    app.blocking.close()


@pytest.fixture
def task(app: App) -> Any:
    return app.tasks["orders.import"]


@pytest.fixture
def own(migrated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_database) as connection:
        yield connection


def test_a_job_without_metadata_is_started_without_saying_so(app: App) -> None:
    @app.task("nothing")
    async def nothing(ctx: Context[None, None]) -> None: ...

    assert app.blocking.job(app.blocking.start(nothing).id).metadata is None
    assert app.blocking.start(nothing, queue="slow").queue == "slow"


def test_a_job_is_started_without_opening_the_app(app: App, task: Any) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    job = app.blocking.start(task, Meta("riga"), Progress(3), at=at, queue="slow", priority=-5)
    job = app.blocking.job(job.id)
    assert (job.metadata, job.execution_metadata, job.queue) == (Meta("riga"), Progress(3), "slow")
    assert (job.priority, job.scheduled_at, job.state) == (-5, at, JobState.PENDING)
    jobs = app.blocking.start_many(task, (Meta(str(number)) for number in range(1500)))
    assert [job.metadata.shop for job in jobs] == [str(number) for number in range(1500)]
    assert [job.id for job in app.blocking.jobs(JobQuery(queues=["imports"]))] == [job.id for job in jobs]
    assert len(list(app.blocking.jobs())) == 1501


def test_batches_are_read_stored_and_told_one_after_another(app: App, task: Any) -> None:
    source = (Meta(str(number)) for number in range(2500))
    batches = app.blocking.start_batches(task, source, Progress(3), queue="slow")
    first = next(batches)
    assert [job.id for job in app.blocking.jobs()] == [job.id for job in first]
    assert next(source) == Meta("1000")
    jobs = [*first, *(job for jobs in batches for job in jobs)]
    assert [int(job.metadata.shop) for job in jobs] == [*range(1000), *range(1001, 2500)]
    stored = [(job.id, job.metadata, job.queue, job.execution_metadata) for job in app.blocking.jobs()]
    assert stored == [(job.id, job.metadata, "slow", Progress(3)) for job in jobs]


def test_batches_that_are_broken_off_hold_no_connection(migrated_database: str, own: Any) -> None:
    alone = App(migrated_database, execution={"max_connections": 1})

    @alone.task("echo")
    async def echo(ctx: Context[str, None]) -> str:
        return ctx.metadata

    with contextlib.closing(alone.blocking.start_batches(echo, map(str, range(5000)))) as batches:
        for jobs in batches:
            alone.blocking.refresh(jobs[-1])  # on the only connection
            break
    assert len(list(alone.blocking.jobs())) == 1000
    own.execute("lock table background_tasks.jobs in access exclusive mode nowait")  # nobody has a transaction open
    own.rollback()
    alone.blocking.close()


def test_a_batch_that_is_refused_is_noted_unless_it_is_in_the_callers_transaction(
    app: App, task: Any, own: Any
) -> None:
    metadata: list[Any] = [*(Meta(str(number)) for number in range(1500)), Progress(1)]
    with pytest.raises(PayloadRefused) as refusal:
        collections.deque(app.blocking.start_batches(task, metadata), maxlen=0)
    stored = list(app.blocking.jobs())
    assert len(stored) == 1000
    noted = f"start_batches: 1000 jobs, the ids {stored[0].id} to {stored[-1].id}, are stored already"
    assert refusal.value.__notes__ == [noted]
    with pytest.raises(PayloadRefused) as refusal, own.transaction():
        collections.deque(app.blocking.start_batches(task, metadata, connection=own), maxlen=0)
    assert not hasattr(refusal.value, "__notes__")
    assert len(list(app.blocking.jobs())) == 1000


def test_a_class_is_started_as_well(app: App) -> None:
    @app.task("class")
    class Import(BackgroundTask[Meta, Progress, int, str]):
        async def execute(self, ctx: Context[Meta, Progress]) -> int:
            return 1

    assert app.blocking.start(Import, Meta("riga")).name == "class"
    assert [job.name for job in app.blocking.start_many(Import, [Meta("riga")])] == ["class"]
    assert [len(jobs) for jobs in app.blocking.start_batches(Import, [Meta("riga")])] == [1]
    no_task: Any = Meta
    with pytest.raises(MisuseError, match=r"Meta is no task: decorate it with @app\.task"):
        app.blocking.start(no_task, Meta("riga"))


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_job_started_in_the_callers_transaction_shares_its_fate(app: App, task: Any, own: Any, ending: str) -> None:
    own.execute("create table orders (id int)")
    app.blocking.start(task, Meta("riga"), connection=own)
    app.blocking.start_many(task, [Meta("a"), Meta("b")], connection=own)
    sizes = [len(jobs) for jobs in app.blocking.start_batches(task, [Meta("c")] * 1001, connection=own)]
    assert sizes == [1000, 1]
    assert list(app.blocking.jobs()) == []
    getattr(own, ending)()
    assert len(list(app.blocking.jobs())) == (1004 if ending == "commit" else 0)


async def test_other_connections_are_refused(app: App, task: Any, migrated_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(migrated_database) as own:
        with pytest.raises(MisuseError, match=r"is an async connection; await the task's own start\(…, connection=…\)"):
            app.blocking.start(task, Meta("riga"), connection=own)
    with pytest.raises(MisuseError, match=r"connection= is builtins\.str; app\.blocking takes a psycopg\.Connection"):
        app.blocking.start(task, Meta("riga"), connection="postgresql:///")


def test_payloads_and_options_are_checked_as_anywhere(app: App, task: Any) -> None:
    with pytest.raises(PayloadRefused, match=r"metadata of orders\.import"):
        app.blocking.start(task, Progress(1))
    with pytest.raises(MisuseError, match="has no time zone"):
        app.blocking.start(task, Meta("riga"), at=datetime(2030, 1, 1))  # noqa: DTZ001
    assert list(app.blocking.jobs()) == []


def test_cancel_proceed_refresh_and_result(app: App, task: Any, own: Any) -> None:
    job = app.blocking.start(task, Meta("riga"))
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.01 s; it is pending"):
        app.blocking.result(job, timeout=0.01)
    assert app.blocking.proceed(10**15) == JobNotFound()
    assert app.blocking.cancel(10**15) == JobNotFound()
    with pytest.raises(JobNotFoundError, match="there is no job"):
        app.blocking.job(10**15)
    own.execute("update background_tasks.jobs set state = 4, scheduled_at = null")
    own.commit()
    app.blocking.proceed(job.id, at=timedelta(hours=1))
    assert app.blocking.refresh(job) is job
    assert job.state is JobState.PROCEEDED
    assert isinstance(app.blocking.cancel(job.id), CancelRequested)
    with pytest.raises(JobCancelled, match="was cancelled"):
        app.blocking.result(job, timeout=timedelta(seconds=30))


def test_threads_share_the_pool(app: App, task: Any) -> None:
    def start() -> None:
        for _ in range(20):
            app.blocking.start(task, Meta("riga"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(app.blocking.jobs())) == 160


FORKING = """
import os, sys
from perdure import App, Context

app = App(sys.argv[1])

@app.task("forked")
async def forked(ctx: Context[None, None]) -> None: ...

def server_process() -> int:
    app.blocking.start(forked, None)
    with app.blocking_pool().connection() as connection:
        return connection.info.backend_pid

mine = server_process()
child = os.fork()
if child == 0:
    os._exit(0 if server_process() != mine else 1)
assert os.waitpid(child, 0)[1] == 0
assert server_process() == mine
"""


def test_a_forked_process_has_connections_of_its_own(app: App, migrated_database: str) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKING, migrated_database]
    said = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert len(list(app.blocking.jobs(JobQuery(names=["forked"])))) == 3


def test_a_broken_connection_costs_a_call_or_none(
    app: App, task: Any, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.autocommit = True  # each look at pg_stat_activity is a new one
    break_all = (
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    with ThreadPoolExecutor(8) as threads:

        def start(number: int) -> None:
            for _ in threads.map(lambda _: app.blocking.start(task, Meta("riga")), range(number)):
                pass

        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 3600.0)
        app.blocking.start(task, Meta("riga"))
        own.execute(break_all)
        with pytest.raises(DatabaseUnavailable, match="start: the connection to the database broke"):
            app.blocking.start(task, Meta("riga"))
        start(20)
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
        own.execute(break_all)
        start(20)


def test_without_its_tables_a_verb_says_to_migrate(database: str) -> None:
    app = App(database)
    with pytest.raises(SchemaOutdated, match="perdure migrate"):
        list(app.blocking.jobs())
    app.blocking.close()


def test_an_app_that_is_dropped_unclosed_leaves_no_pool(migrated_database: str) -> None:
    app = App(migrated_database)
    list(app.blocking.jobs())
    pool = app.blocking_pool()
    del app
    gc.collect()
    assert pool.closed


async def test_closing_the_app_closes_the_sync_pool(migrated_database: str) -> None:
    async with App(migrated_database) as app:
        await asyncio.to_thread(lambda: list(app.blocking.jobs()))
        pool = app.blocking_pool()
    assert pool.closed


async def test_who_waits_for_a_connection_while_they_are_closed_gets_one_of_the_next(
    migrated_database: str, own: Any
) -> None:
    async with App(migrated_database, execution={"max_connections": 1}) as app:

        @app.task("echo")
        async def echo(ctx: Context[str, None]) -> str:
            return ctx.metadata

        pool = await asyncio.to_thread(app.blocking_pool)

        async def until(is_so: Callable[[], bool]) -> None:
            async with asyncio.timeout(20):
                while not is_so():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)

        def counts(what: str, number: int) -> Callable[[], bool]:
            return lambda: pool.get_stats().get(what, 0) == number

        own.execute("lock table background_tasks.jobs in access exclusive mode")
        calls = [asyncio.create_task(asyncio.to_thread(app.blocking.start, echo, "first"))]
        await until(lambda: counts("pool_size", 1)() and counts("pool_available", 0)())
        calls.append(asyncio.create_task(asyncio.to_thread(app.blocking.start, echo, "second")))
        await until(counts("requests_waiting", 1))
        closing = asyncio.create_task(asyncio.to_thread(app.blocking.close))
        await until(lambda: pool.closed)
        own.rollback()
        jobs = await asyncio.gather(*calls)
        await closing
        assert [job.metadata for job in jobs] == ["first", "second"]
        assert app.blocking_pool() is not pool


def test_without_a_dsn_the_app_has_to_be_open(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_DSN", raising=False)
    with pytest.raises(MisuseError, match="jobs: without a dsn, the embedded database runs while the app is open"):
        list(App().blocking.jobs())
