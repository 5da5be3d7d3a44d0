"""pgbouncer in transaction mode, or no notifications: everything goes on by polling, and sessions are left clean.

Debian's pgbouncer 1.18 knows no prepared statements: whoever prepared one would fail at the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, JobCancelled
from perdure.store.notify import Listener
from perdure.store.sessions import ISOLATION, PLANNER, WorkerConnection
from perdure.store.sql import names_of
from tests.faults.life import EFFECTS, Life
from tests.support.jobs import until
from tests.support.migrated import migrate_database
from tests.support.pooler import Pooler, start_pooler
from tests.support.scenario import faults
from tests.support.tiers import count, seeds
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes
    from tests.support.scenario import Scenario

WORKER = Path(process_definitions.__file__).with_name("process_app.py")
SESSIONS = 4
NAMES = names_of("background_tasks")
DEAF = "notifications don't arrive"


BOTH = pytest.mark.parametrize("database", ["cluster", "debian_cluster"], indirect=True, ids=["18", "15"])


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    cluster: Cluster = request.getfixturevalue(getattr(request, "param", "cluster"))
    name = cluster.create_database(template=cluster.template("migrated", migrate_database))
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:
        connection.execute(EFFECTS)
    yield cluster.dsn(name)
    cluster.drop_database(name)


@pytest.fixture
def pooler(database: str, processes: Processes, tmp_path: Path) -> Pooler:
    return start_pooler(processes, database, tmp_path, size=SESSIONS)


@BOTH
async def test_a_jobs_whole_life_goes_through_it(
    database: str, pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(pooler.dsn)
    async with life.app, life.app.worker():
        for _ in range(count(push=1, nightly=20)):
            await life.live(database)
            with psycopg.connect(database) as connection:
                connection.execute("truncate effects")
        await until(lambda: DEAF in caplog.text, "the worker finds out that it isn't notified")
        await until(lambda: not _is_a_worker_asleep(database), "starters needn't notify it")
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in said if DEAF in line and "due jobs" in line]) == 1
    assert [line for line in said if DEAF not in line] == []
    await _assert_clean(pooler)


async def _assert_clean(pooler: Pooler) -> None:
    """Look at every session that the pooler has, each held by a transaction of its own."""
    connections = [await psycopg.AsyncConnection.connect(pooler.dsn, prepare_threshold=None) for _ in range(SESSIONS)]
    settings = [*ISOLATION, *PLANNER, "idle_in_transaction_session_timeout"]
    for connection in connections:
        cursor = await connection.execute(
            "select name from pg_settings where name = any(%s) and source = 'session' and setting <> reset_val "
            "union all select name from pg_prepared_statements "
            "union all select * from pg_listening_channels() where pg_listening_channels <> 'perdure_own'",
            [settings],
        )
        assert await cursor.fetchall() == []
    for connection in connections:
        await connection.close()


async def test_a_worker_that_is_killed_leaves_its_jobs_to_another_behind_it(
    database: str, pooler: Pooler, processes: Processes
) -> None:
    client = process_definitions.make(pooler.dsn)
    async with client:
        first = await _worker(pooler, processes)
        job = await client.tasks["pages"].start({"total": 5, "stop_at": 3})
        await first.line("stopped at 3")
        first.kill()
        second = await _worker(pooler, processes)
        assert await job.result(timeout=40) == 5
        await second.line(rf"attempt 2 of job {job.id} from 3")
        second.terminate()
        assert await second.end() == 0
    assert _effects(database) == {job.id: list(range(5))}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", seeds("behind a pooler", push=1, nightly=25))
async def test_anything_behind_it_breaks_nothing(
    migrated_database: str, processes: Processes, tmp_path: Path, new_scenario: Callable[..., Scenario], seed: int
) -> None:
    """Workers killed, frozen and stopped, backends terminated, the pooler killed: with clients behind it, too."""
    (folder := tmp_path / "pooler").mkdir(mode=0o755)
    pooler = start_pooler(processes, migrated_database, folder, size=20, idle_seconds=1)
    named = [name for name in faults.WORKERS if name != "perdure listener"]  # there is none where nothing can be heard

    async def restart_the_pooler(struck: Any) -> None:
        pooler.kill()
        await struck.until_unanswered(1)  # clients have noticed
        await asyncio.to_thread(pooler.start)

    async def each(struck: Any) -> None:
        await restart_the_pooler(struck)
        await faults.do_each(struck, named)

    async def kill_the_pooler(over: asyncio.Event) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 1.5)
            pooler.kill()
            await asyncio.to_thread(pooler.start)

    async def fault(struck: Any) -> None:
        killing = asyncio.create_task(kill_the_pooler(over := asyncio.Event()))
        try:
            await faults.do_anything(struck)
        finally:
            over.set()  # a cancellation would leave it starting in its thread
            await killing

    scenario = new_scenario(seed, worker_dsn=pooler.dsn, client_dsn=pooler.dsn)
    history = await scenario.must_hold(fault, first=each)
    assert faults.terminated(history.faults) >= len(named)


async def test_in_session_mode_notifications_arrive(
    database: str, processes: Processes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pooler = start_pooler(processes, database, tmp_path, mode="session", size=20)
    life = Life(pooler.dsn, scheduling={"polling_delay": 3600})
    async with life.app, life.app.worker() as worker:
        await until(lambda: worker._listener.is_listening, "it listens")
        await life.live(database)
    assert caplog.text == ""


async def test_notifications_that_arrive_again_are_heard(
    database: str,
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("perdure.store.notify._HEARING_SECONDS", 0.2)
    monkeypatch.setattr("perdure.store.notify._HEARS_AGAIN_SECONDS", 0.2)
    pooler = start_pooler(processes, database, tmp_path)
    told: list[bool] = []
    listener = Listener(pooler.dsn, on_deaf=told.append, purpose="all")
    listener.add("some", lambda _payload: None)
    listener.start()
    try:
        await until(lambda: listener.is_deaf, "it finds out that it is deaf")
        pooler.kill()
        pooler.configure(mode="session")
        await asyncio.to_thread(pooler.start)
        await until(lambda: listener.is_listening, "it listens again")
    finally:
        await listener.stop()
    assert told == [True, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"{DEAF}, as behind a pooler in transaction mode: polling for all",
        "notifications arrive again: no more polling alone for all",
    ]


async def test_without_notifications_everything_is_found_by_polling(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(database, scheduling={"notifications": False})
    async with life.app, life.app.worker():
        await life.live(database)
        with psycopg.connect(database) as connection:
            listening = connection.execute(
                "select count(*) from pg_stat_activity where application_name = 'perdure listener' "
                "and datname = current_database()"
            ).fetchone()
        assert not _is_a_worker_asleep(database)
    assert listening == (0,)
    assert caplog.text == ""


async def test_a_switch_keeps_the_session_clean_where_no_pooler_is_noticed(database: str) -> None:
    """As a direct connection looks: the pooler passes the server's own process ids on."""
    life = Life(database, persistence={"prepared_statements": False})
    async with life.app, life.app.worker():
        await life.live(database)
        async with life.app.pool.connection() as connection:
            for _ in range(10):
                await connection.execute("select 1")
            assert await (await connection.execute("select name from pg_prepared_statements")).fetchall() == []
    lane = await WorkerConnection.open(database, NAMES, lease_seconds=30, may_keep=False)
    async with lane:
        assert not lane.session_is_ours
        before = [await _shown(lane, setting) for setting in PLANNER]
        async with lane.transaction_of_its_own():
            assert [await _shown(lane, setting) for setting in PLANNER] == list(PLANNER.values())
        assert [await _shown(lane, setting) for setting in PLANNER] == before
        assert "off" not in before


async def test_a_direct_session_is_the_workers_own(database: str) -> None:
    async with await WorkerConnection.open(database, NAMES, lease_seconds=30, may_keep=True) as lane:
        assert lane.session_is_ours
        assert lane.prepare_threshold == 0
        assert [await _shown(lane, setting) for setting in PLANNER] == list(PLANNER.values())


async def test_a_frozen_pooler_delays_and_loses_nothing(database: str, pooler: Pooler) -> None:
    """For longer than the lease, with every connection alive for the kernel: the worker gives up and comes back."""
    app = App(pooler.dsn, scheduling={"polling_delay": 0.1}, execution={"lease_duration": 2, "shutdown_grace": 0})
    attempts: list[int] = []
    begun = asyncio.Event()

    @app.task("lasts")
    async def lasts(ctx: Context[None, None]) -> int:
        attempts.append(ctx.attempt)
        begun.set()
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    async with app, app.worker() as worker:
        job = await lasts.start()
        await asyncio.wait_for(begun.wait(), 30)
        lease = worker.worker_id
        pooler.freeze()
        try:
            await until(lambda: worker.worker_id is None, "the worker has given its lease up")
        finally:
            pooler.thaw()
        assert await job.result(timeout=40) == 2
        assert worker.worker_id not in {None, lease}
    assert attempts == [1, 2]


async def test_a_cancel_comes_through_it(database: str, pooler: Pooler) -> None:
    life = Life(pooler.dsn, scheduling={"polling_delay": 3600, "notifications": False})
    async with life.app, life.app.worker():
        job = await life.app.tasks["lasts"].start()
        await asyncio.wait_for(life.begun.wait(), 30)
        await life.app.cancel(job.id)
        await until_cancelled(job)


async def until_cancelled(job: Any) -> None:
    async with asyncio.timeout(30):
        while not (await job.refresh()).state.is_final:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
    with pytest.raises(JobCancelled):
        await job.result()


async def _shown(connection: psycopg.AsyncConnection[Any], setting: str) -> str:
    row = await (await connection.execute(f"show {setting}".encode())).fetchone()
    assert row is not None
    return str(row[0])


async def _worker(pooler: Pooler, processes: Processes) -> Process:
    worker = processes.python(
        str(WORKER),
        env={"TEST_DSN": pooler.dsn, "TEST_EXECUTION": json.dumps({"lease_duration": 2, "concurrency": 20})},
    )
    await worker.line("worker ready")
    return worker


def _is_a_worker_asleep(database: str) -> bool:
    with psycopg.connect(database) as connection:
        return connection.execute("select from background_tasks.workers where sleeping").fetchone() is not None


def _effects(database: str) -> dict[int, list[int]]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("select job, array_agg(what::int order by what::int) from effects group by job")
        return dict(rows.fetchall())
