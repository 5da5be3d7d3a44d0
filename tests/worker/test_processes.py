"""Workers as processes: stopped, killed, frozen, blocked, poisoned. Nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Job, JobFailed, JobState, Raised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.processes import Process, Processes

SCRIPT = str(Path(__file__).with_name("process_app.py"))
StartWorker = "Callable[..., Process]"


@pytest.fixture
def start_worker(processes: Processes, migrated_database: str, tmp_path: Path) -> Callable[..., Process]:
    def start(line: str = "worker ready", **execution: Any) -> Process:
        settings = {"lease_duration": 2, "shutdown_grace": 0, "cancel_grace": 1, **execution}
        environment = {
            "TEST_DSN": migrated_database,
            "TEST_EXECUTION": json.dumps(settings),
            "TEST_GATE": str(tmp_path / "gate"),
        }
        process = processes.python(SCRIPT, env=environment)
        process.wait_for_line(line)
        return process

    return start


@pytest_asyncio.fixture
async def client(migrated_database: str) -> AsyncIterator[App]:
    """An app without the worker's code beside it: jobs are started with the same definitions."""
    from tests.worker import process_definitions  # noqa: PLC0415

    app = process_definitions.make(migrated_database)
    async with app:
        yield app


@pytest_asyncio.fixture
async def table(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (job bigint, n int)")
        yield connection


async def effects(table: psycopg.AsyncConnection[Any]) -> list[int]:
    return [row[0] for row in await (await table.execute("select n from effects order by n")).fetchall()]


async def start(client: App, name: str, metadata: Any) -> Job[Any, Any, Any, Any]:
    return await client.tasks[name].start(metadata)


async def test_killed_it_goes_on_from_its_checkpoint_exactly_once(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    job = await start(client, "pages", {"total": 6, "stop_at": 3})
    first = start_worker()
    await first.line("stopped at 3")
    first.kill()
    second = start_worker()
    await second.line("attempt 2 of job 1 from 3")
    assert await job.result(timeout=15) == 6
    assert await effects(table) == [0, 1, 2, 3, 4, 5]
    second.terminate()
    assert await second.end() == 0


async def test_a_thread_of_a_stopped_handler_does_not_hold_up_the_exit(
    client: App, start_worker: Callable[..., Process]
) -> None:
    await start(client, "threaded", None)
    worker = start_worker()
    await worker.line("in a thread")
    worker.terminate()
    assert await worker.end() == 0


async def test_sigterm_keeps_the_checkpoint_and_exits_zero(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    job = await start(client, "pages", {"total": 6, "stop_at": 3})
    first = start_worker()
    await first.line("stopped at 3")
    first.terminate()
    assert await first.end() == 0
    await job.refresh()
    assert (job.state, job.retry_number, job.execution_metadata) == (JobState.PENDING, 0, {"done": 3})
    start_worker()
    assert await job.result(timeout=15) == 6
    assert await effects(table) == [0, 1, 2, 3, 4, 5]
    assert (await job.refresh()).attempt == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_skips_the_grace(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process], number: signal.Signals
) -> None:
    await start(client, "sleepy", None)
    worker = start_worker(shutdown_grace=3600)
    await worker.line("sleepy")
    worker.terminate()
    await worker.line("SIGTERM: stopping")
    worker.send(number)
    assert await worker.end() == 0


async def test_a_handler_that_ignores_the_stop_is_left_behind_and_the_exit_is_zero(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    job = await start(client, "pages", {"total": 6, "stop_at": 3, "ignore": True})
    worker = start_worker(cancel_grace=0.2)
    await worker.line("stopped at 3")
    worker.terminate()
    await worker.line("is left behind")
    assert await worker.end() == 0
    assert (await job.refresh()).state is JobState.PENDING


async def test_a_zombie_gets_lease_lost_and_its_writes_dont_land(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process], tmp_path: Path
) -> None:
    job = await start(client, "zombie", {"total": 0, "stop_at": 0})
    first = start_worker()
    await first.line("inside")
    first.freeze()
    second = start_worker()
    assert await job.result(timeout=15) == 2
    (tmp_path / "gate").touch()
    first.thaw()
    await first.line("in the transaction")
    await first.line("LeaseLost in persist")
    assert await effects(table) == [2]
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.COMPLETED, {})
    # The zombie lives on: under a new lease it works again.
    second.terminate()
    assert await second.end() == 0
    again = await start(client, "nothing", 5)
    assert await again.result(timeout=15) == 5


async def test_a_poison_job_cant_take_down_every_worker_in_turn(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    job = await start(client, "poison", None)
    neighbours = [await start(client, "pages", {"total": 1, "stop_at": 0}) for _ in range(3)]
    for _ in range(3):
        worker = start_worker("poison")  # it may end before it could say that it is ready
        assert await worker.end() == 66
    start_worker()
    for neighbour in neighbours:
        assert await neighbour.result(timeout=20) == 1
    with pytest.raises(JobFailed):
        await job.result(timeout=20)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.WorkerLost"
    assert job.attempt == 3


async def test_a_blocked_event_loop_keeps_its_lease(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    job = await start(client, "block", 4.0)
    worker = start_worker()
    await worker.line("blocking")
    start_worker()
    assert await job.result(timeout=15) == "done"
    assert (await job.refresh()).attempt == 1


async def test_unsettled_work_of_a_stopped_database_goes_on_after_its_restart(
    private_cluster: Any, processes: Processes, tmp_path: Path
) -> None:
    from tests.support.migrated import migrate_database  # noqa: PLC0415
    from tests.worker import process_definitions  # noqa: PLC0415

    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("create table effects (job bigint, n int)")
    environment = {"TEST_DSN": dsn, "TEST_EXECUTION": json.dumps({"lease_duration": 5}), "TEST_GATE": ""}
    worker = processes.python(SCRIPT, env=environment)
    worker.wait_for_line("worker ready")
    async with process_definitions.make(dsn) as client:
        held = await start(client, "pages", {"total": 40, "stop_at": -1})
        assert await held.result(timeout=15) == 40
    private_cluster.restart("immediate")
    async with process_definitions.make(dsn) as client:
        jobs = [await start(client, "pages", {"total": 5, "stop_at": -1}) for _ in range(3)]
        for job in jobs:
            assert await job.result(timeout=20) == 5
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (await connection.execute("select count(*), count(distinct (job, n)) from effects")).fetchone()
        assert row == (55, 55)
    worker.terminate()
    assert await worker.end() == 0


async def test_terminated_backends_cost_nothing(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(lease_duration=5)
    jobs = [await start(client, "pages", {"total": 60, "stop_at": -1}) for _ in range(5)]
    for _ in range(5):
        await table.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name in ('perdure worker', 'perdure heartbeat', 'perdure listener')"
        )
        extra = await start(client, "nothing", 1)
        assert await extra.result(timeout=15) == 1
    for job in jobs:
        assert await job.result(timeout=20) == 60
    row = await (await table.execute("select count(*), count(distinct (job, n)) from effects")).fetchone()
    assert row == (300, 300)
    worker.terminate()
    assert await worker.end() == 0


async def test_a_worker_that_starts_before_its_database_waits_and_says_so(
    private_cluster: Any, processes: Processes
) -> None:
    from tests.support.migrated import migrate_database  # noqa: PLC0415

    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    private_cluster.stop()
    environment = {"TEST_DSN": dsn, "TEST_GATE": ""}
    worker = processes.python(SCRIPT, env=environment)
    await worker.line("waiting: ")
    private_cluster.start()
    await worker.line("worker ready")
    worker.terminate()
    assert await worker.end() == 0


async def test_sigterm_while_still_waiting_for_the_database_exits_zero(
    private_cluster: Any, processes: Processes
) -> None:
    dsn = private_cluster.dsn()
    private_cluster.stop()
    worker = processes.python(SCRIPT, env={"TEST_DSN": dsn, "TEST_GATE": ""})
    await worker.line("waiting: ")
    worker.terminate()
    assert await worker.end() == 0
