"""Eight worker processes on two queues: what they share, how often they claim, how many connections they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context
from perdure.store.sql import names_of
from perdure.worker.claimer import Claimer
from tests.support.jobs import until
from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

PROCESSES, CONCURRENCY = 8, 5
SLOTS = PROCESSES * CONCURRENCY
QUEUES = ("left", "right")
BATCHES, BATCH = 30, 10
CLAIMS = "select coalesce(sum(calls), 0)::int from pg_stat_statements where query like '%with floor as%update%'"


@pytest.fixture
def counted_database(new_cluster: Callable[..., Cluster]) -> str:
    """A database on a server that counts statements."""
    cluster = new_cluster(settings={"shared_preload_libraries": "pg_stat_statements"})
    dsn = cluster.dsn(cluster.create_database())
    migrate_database(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create extension pg_stat_statements")
        connection.execute("create table runs (job bigint, pid int)")
    return dsn


class Observer:
    """Asks the database how the workers are doing."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, application_name="observer")
        self._connection.execute(f'listen "{names_of("background_tasks").work_channel}"'.encode())

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement.encode()).fetchall()

    def count(self, statement: str) -> int:
        return int(self.rows(statement)[0][0])

    def notified(self) -> int:
        """Count the notifications since the last call."""
        self._connection.execute("")
        return len(list(self._connection.notifies(timeout=0)))

    def connections(self) -> dict[str, int]:
        """Count the workers' connections by their names."""
        return dict(
            self.rows(
                "select application_name, count(*) from pg_stat_activity where datname = current_database() "
                "and application_name not in ('observer', 'starter') group by 1"
            )
        )

    def close(self) -> None:
        self._connection.close()


def _start_workers(processes: Processes, dsn: str, gate: Path) -> Process:
    arguments = ["--processes", str(PROCESSES), "--concurrency", str(CONCURRENCY), "--queues", ",".join(QUEUES)]
    environment = {"TEST_DSN": dsn, "TEST_GATE": str(gate)}
    return processes.perdure("worker", "many_app:app", *arguments, env=environment, cwd=Path(__file__).parent)


async def test_eight_processes_share_two_queues(counted_database: str, processes: Processes, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    supervisor = _start_workers(processes, counted_database, gate)
    app = App(f"{counted_database}?application_name=starter")

    @app.task("held")
    async def held(ctx: Context[int, None]) -> None: ...

    async with app:
        await supervisor.line(f"ready: {PROCESSES} processes", within_seconds=40)
        observer = Observer(counted_database)
        try:
            own = {"perdure worker": 2 * PROCESSES, "perdure heartbeat": PROCESSES, "perdure listener": PROCESSES}
            await until(lambda: observer.count(_SLEEPERS) == PROCESSES, "all sleep")
            # Four of its own, and one that waits in the pool for whoever asks.
            await until(lambda: observer.connections() == {**own, "perdure": PROCESSES}, "all are connected")
            observer.notified()
            observer.rows("select pg_stat_statements_reset()")

            # A backlog in both queues fills every slot of every process, in the line's order.
            for number in range(BATCHES):
                await held.start_many(range(BATCH), queue=QUEUES[number % 2])
            await until(lambda: observer.count(_RUNNING) == SLOTS, "every slot is taken")
            assert (
                observer.rows("select count(*) from background_tasks.jobs where state = 2 group by worker_id")
                == [(CONCURRENCY,)] * PROCESSES
            )
            shares = dict(observer.rows("select queue, count(*) from background_tasks.jobs where state = 2 group by 1"))
            assert min(shares[queue] for queue in QUEUES) >= SLOTS / 4
            assert observer.notified() <= BATCHES
            # Who has no room doesn't claim: not one for each batch.
            assert observer.count(CLAIMS) <= 2 * SLOTS

            # Whoever has no room says so, and is then left alone.
            for _ in range(10):
                await held.start(0, queue="left")
            await until(lambda: observer.count(_SLEEPERS) == 0, "none asks to be woken")
            observer.notified()
            claims = observer.count(CLAIMS)
            for _ in range(20):
                await held.start(0, queue="right")
            assert observer.notified() == 0
            assert observer.count(CLAIMS) == claims

            # All is found when there is room again, though nobody polls.
            gate.touch()
            await until(lambda: observer.count("select count(*) from background_tasks.jobs") == 0, "all have ended")
            total = observer.count("select count(*) from background_tasks.finished_jobs where state = 6")
            assert total == BATCHES * BATCH + 30
            assert observer.rows("select count(*), count(distinct job) from runs") == [(total, total)]
            assert observer.count("select count(distinct pid) from runs") == PROCESSES
            held_now = observer.connections()
            assert {name: held_now[name] for name in own} == own
            assert held_now.keys() - own.keys() == {"perdure"}
            assert held_now["perdure"] <= PROCESSES * app.config.execution.max_connections

            # Once it is quiet, a start has each process claim once; now and then once more, behind its floors, or where
            # another's claim had the row.
            await until(lambda: observer.count(_SLEEPERS) == PROCESSES, "all sleep again")
            claims = observer.count(CLAIMS)
            for number in range(10):
                job = await held.start(number, queue=QUEUES[number % 2])
                await job.result(timeout=15)
            assert observer.count(CLAIMS) - claims <= 10 * 3 * PROCESSES
            assert observer.notified() >= 10
            assert observer.count(_DEADLOCKS) == 0
        finally:
            observer.close()
    supervisor.terminate()
    assert await supervisor.end() == 0


_SLEEPERS = "select count(*) from background_tasks.workers where sleeping and lapsed_at is null"
_RUNNING = "select count(*) from background_tasks.jobs where state = 2"
_DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"


def _sleeping_claimer() -> Claimer:
    claimer = Claimer(concurrency=2, batch_size=10)
    claimer.open = claimer.sleeping = True
    return claimer


def test_a_worker_without_room_that_is_woken_over_and_over_says_that_it_need_not_be() -> None:
    claimer = _sleeping_claimer()
    claimer.claimed(claimer.want(0), 2, pokes=claimer.pokes)
    for _ in range(3):
        assert claimer.next_sleeping(in_hand=2) is None
        claimer.poke()
    assert claimer.next_sleeping(in_hand=2) is False
    claimer.says(sleeping=False)
    assert claimer.want(1) == 1  # it looks by itself when it has room again
    claimer.claimed(1, 0, pokes=claimer.pokes)
    assert claimer.next_sleeping(in_hand=1) is True


@pytest.mark.parametrize("in_hand", [0, 1])
def test_a_worker_with_room_goes_on_being_woken(in_hand: int) -> None:
    claimer = _sleeping_claimer()
    for _ in range(10):
        claimer.poke()
    assert claimer.next_sleeping(in_hand) is None
    assert claimer.want(in_hand) == 2 - in_hand
    assert claimer.next_sleeping(in_hand) is None  # the room is spoken for, by a claim that may bring nothing
