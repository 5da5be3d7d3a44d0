"""A server that has no connection left, and one whose horizon is pinned by somebody's old snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context
from perdure.errors import DatabaseUnavailable
from tests.support.jobs import until
from tests.support.migrated import migrate_database
from tests.support.tiers import count
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.processes import Processes

WORKER = str(Path(process_definitions.__file__).with_name("process_app.py"))
MOST = 12
FULL = "too many clients already"


class Crowd:
    """Takes every connection that there is."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._held: list[psycopg.Connection[Any]] = []

    def come(self) -> None:
        """Take what is free."""
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                self._held.append(psycopg.connect(self._dsn, autocommit=True, application_name="crowd"))

    def push_out(self) -> None:
        """Break all others' connections."""
        self._held[0].execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'perdure%'"
        )

    def leave(self) -> None:
        """Give all back."""
        for connection in self._held:
            connection.close()
        self._held.clear()


@pytest.fixture
def small_database(new_cluster: Callable[..., Cluster]) -> str:
    cluster = new_cluster(settings={"max_connections": str(MOST), "superuser_reserved_connections": "1"})
    dsn = cluster.dsn(cluster.create_database())
    migrate_database(dsn)
    return dsn


@pytest.fixture
def crowd(small_database: str) -> Iterator[Crowd]:
    crowd = Crowd(small_database)
    yield crowd
    crowd.leave()


async def test_a_worker_that_is_crowded_out_waits_and_comes_back(
    small_database: str, crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(small_database, scheduling={"polling_delay": 0.1}, execution={"lease_duration": 2, "cancel_grace": 0.2})
    begun = asyncio.Event()

    @app.task("lasts")
    async def lasts(ctx: Context[None, None]) -> int:
        begun.set()
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    async with app, app.worker() as worker:
        job = await lasts.start()
        await asyncio.wait_for(begun.wait(), 30)
        crowd.come()
        async with asyncio.timeout(60):
            while worker.worker_id is not None:  # it may be quicker than the crowd at first
                crowd.push_out()
                crowd.come()
                await asyncio.sleep(0.05)
        with pytest.raises(DatabaseUnavailable, match=r"no connection|can't be known"):
            await lasts.start()
        with pytest.raises(DatabaseUnavailable, match=FULL):
            await App(small_database).open()
        crowd.leave()
        assert await job.result(timeout=60) == 2
    said = [record.getMessage() for record in caplog.records if record.name == "perdure.worker"]
    assert len([line for line in said if "trying again until it works" in line]) == 1  # once, not each time


async def test_a_worker_that_finds_no_connection_waits_for_one_and_says_so(
    small_database: str, crowd: Crowd, processes: Processes
) -> None:
    crowd.come()
    worker = processes.python(WORKER, env={"TEST_DSN": small_database})
    await worker.line(f"waiting: .*{FULL}", within_seconds=40)
    crowd.leave()
    await worker.line("worker ready", within_seconds=40)
    client = process_definitions.make(small_database)
    async with client:
        assert await (await client.tasks["nothing"].start(7)).result(timeout=40) == 7
    worker.terminate()
    assert await worker.end() == 0


async def test_handlers_that_find_no_connection_are_told_and_their_worker_isnt_harmed(
    small_database: str, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's own connections are apart: its lease and its settles go on."""
    app = App(
        small_database,
        scheduling={"polling_delay": 0.1, "scheduler_retry_count": 100, "scheduler_retry_delays": [0.1]},
        execution={"lease_duration": 2},
    )
    raised: list[BaseException] = []

    @app.task("writes")
    async def writes(ctx: Context[None, None]) -> int:
        try:
            async with ctx.transaction() as connection:
                await connection.execute("select 1")
        except BaseException as error:
            raised.append(error)
            raise
        return ctx.attempt

    async with app, app.worker() as worker:
        lease = worker.worker_id
        monkeypatch.setattr(app.pool, "timeout", 0.5)
        async with app.pool.connection():  # the one that the pool has
            crowd.come()
            job = await _start_directly(app, crowd)
            await until(lambda: len(raised) > 1, "a handler is told")
            crowd.leave()
        assert await job.result(timeout=60) > 1
        assert worker.worker_id == lease
    assert {type(error) for error in raised} == {DatabaseUnavailable}


async def _start_directly(app: App, crowd: Crowd) -> Any:
    """On one of the crowd's connections, since the app has none for it."""
    return await asyncio.to_thread(app.blocking.start, app.tasks["writes"], None, connection=crowd._held[0])


async def test_a_pinned_horizon_holds_up_nobody(migrated_database: str) -> None:
    """No dead row can be removed meanwhile: each claim has to step over all that were."""
    app = App(migrated_database)

    @app.task("quick")
    async def quick(ctx: Context[int, None]) -> int:
        return ctx.metadata

    with psycopg.connect(migrated_database) as pinning:
        pinning.execute("set transaction isolation level repeatable read")
        pinning.execute("select pg_current_xact_id()")
        async with app, app.worker():
            for _ in range(count(push=5, nightly=50)):
                jobs = await quick.start_many(range(400))
                assert await asyncio.gather(*(job.result(timeout=50) for job in jobs)) == list(range(400))
        with psycopg.connect(migrated_database, autocommit=True) as connection:
            connection.execute("vacuum background_tasks.jobs")
            [(left,)] = connection.execute("select pg_relation_size('background_tasks.jobs') / 8192 > 10").fetchall()
            assert left, "the horizon wasn't pinned"
