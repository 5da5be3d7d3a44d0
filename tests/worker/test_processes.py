"""Workers as processes: stopped, killed, frozen, blocked, poisoned. Nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
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
WORKERS = {"perdure worker", "perdure heartbeat", "perdure listener"}


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
    await first.line("^LeaseLost in the transaction$")
    await first.line("^LeaseLost in persist$")
    assert await effects(table) == [2]
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.COMPLETED, {})
    # The zombie lives on: under a new lease it works again.
    second.terminate()
    assert await second.end() == 0
    again = await start(client, "nothing", 5)
    assert await again.result(timeout=15) == 5


@pytest.mark.parametrize(
    ("task", "outlives", "error"),
    [
        # What it asks for is awaited, so that the stop of whoever has lost its lease may come first.
        ("asking zombie", False, "(the driver's error|CancelledError)"),
        ("asking zombie in a thread", False, "the driver's error"),
        ("asking zombie in a thread", True, "LeaseLost"),
    ],
)
async def test_a_zombie_that_asks_in_its_transaction_gets_an_error_at_the_latest_at_its_end_and_nothing_lands(
    client: App,
    table: psycopg.AsyncConnection[Any],
    start_worker: Callable[..., Process],
    tmp_path: Path,
    task: str,
    outlives: bool,  # noqa: FBT001 - a case
    error: str,
) -> None:
    job = await start(client, task, outlives)
    first = start_worker(cancel_grace=15)
    await first.line("^inside$")
    first.freeze()
    start_worker()
    assert await job.result(timeout=15) == 2
    if not outlives:
        # The server has ended the session of the handler that is frozen in its transaction.
        await until_sessions(table, lambda found: "idle in transaction" not in {state for _name, state in found})
    (tmp_path / "gate").touch()
    first.thaw()
    await first.line(f"^{error} in the transaction$")
    await first.line("^LeaseLost in persist$")
    assert ("answered" in first.output.splitlines()) is outlives
    assert await effects(table) == []
    assert ((await job.refresh()).state, job.attempt) == (JobState.COMPLETED, 2)


async def until_sessions(
    table: psycopg.AsyncConnection[Any], are_as_wanted: Callable[[list[tuple[str, str]]], bool]
) -> None:
    """Wait until the database's sessions, told by name and state, are as wanted."""
    query = "select application_name, state from pg_stat_activity where datname = current_database()"
    async with asyncio.timeout(20):
        while not are_as_wanted(await (await table.execute(query)).fetchall()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


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
    gate = tmp_path / "gate"
    environment = {"TEST_DSN": dsn, "TEST_EXECUTION": json.dumps({"lease_duration": 5}), "TEST_GATE": str(gate)}
    worker = processes.python(SCRIPT, env=environment)
    worker.wait_for_line("worker ready")
    async with process_definitions.make(dsn) as client:
        held = await start(client, "pages", {"total": 40, "stop_at": 20})
        await worker.line("stopped at 20")
        await held.refresh()
        assert (held.state, held.execution_metadata) == (JobState.RUNNING, {"done": 20})
    private_cluster.stop("immediate")
    gate.touch()  # it goes on without a database
    private_cluster.start()
    async with process_definitions.make(dsn) as client:
        jobs = [await start(client, "pages", {"total": 5, "stop_at": -1}) for _ in range(3)]
        for job in jobs:
            assert await job.result(timeout=20) == 5
        held = await client.job(held.id)
        assert await held.result(timeout=20) == 40
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        rows = await (await connection.execute("select job, n from effects order by job, n")).fetchall()
    assert [n for job, n in rows if job == held.id] == list(range(40))
    assert [n for job, n in rows if job != held.id] == [*range(5)] * 3
    worker.terminate()
    assert await worker.end() == 0


async def test_terminated_backends_cost_nothing(
    client: App, table: psycopg.AsyncConnection[Any], start_worker: Callable[..., Process], tmp_path: Path
) -> None:
    worker = start_worker(lease_duration=60)
    # All are in hand for as long as connections break: none passes its last page before the gate is there.
    jobs = [await start(client, "pages", {"total": 60, "stop_at": 59}) for _ in range(5)]
    # Of the listeners there is the worker's alone, before the client waits for results.
    await until_sessions(table, lambda found: {name for name, _state in found} >= WORKERS)
    terminated = set[str]()
    for _ in range(5):
        terminated |= await terminate(table, WORKERS)
        extra = await start(client, "nothing", 1)
        assert await extra.result(timeout=15) == 1
        assert (extra.attempt, extra.retry_number) == (1, 0)
    assert terminated == WORKERS
    await terminate(table, WORKERS)
    (tmp_path / "gate").touch()  # so that outcomes go out over connections that are gone
    for job in jobs:
        assert await job.result(timeout=20) == 60
        assert (job.attempt, job.retry_number) == (1, 0)
    row = await (await table.execute("select count(*), count(distinct (job, n)) from effects")).fetchone()
    assert row == (300, 300)
    worker.terminate()
    assert await worker.end() == 0


async def terminate(table: psycopg.AsyncConnection[Any], names: set[str]) -> set[str]:
    """Terminate the database's sessions of these names, and return which there were."""
    query = (
        "select application_name, pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and application_name = any(%s)"
    )
    rows = await (await table.execute(query, [list(names)])).fetchall()
    return {name for name, is_terminated in rows if is_terminated}


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
