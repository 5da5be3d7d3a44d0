"""Payloads and texts are the same on every connection, whatever its encoding, its time zone and its settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from perdure.store import calls, jobs, migrate, running, settles
from perdure.store.running import Sleep, Upgrade
from perdure.store.settles import Deferral, Finish, Persist
from perdure.store.sql import names_of
from tests.store.workbench import SCHEMA, Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster

PAYLOAD = '{"name": "Grüße à la carte"}'.encode()


def _many(bench: Workbench, *payloads: bytes) -> list[int]:
    call = jobs.start_many(
        bench.names,
        task="größe",
        queue="größe",
        priority=0,
        metadata=payloads,
        execution_metadata=PAYLOAD,
        at=None,
        after=None,
        notify=False,
    )
    return bench.run(call).ids


def _round_trip(bench: Workbench) -> None:
    worker = bench.register()
    one = bench.start(task="größe", queue="größe", metadata=PAYLOAD, execution_metadata=PAYLOAD)
    (two,) = _many(bench, PAYLOAD)
    claimed = {job.id: job for job in bench.claim(worker)}
    assert {(job.task, job.queue, job.metadata, job.execution_metadata) for job in claimed.values()} == {
        ("größe", "größe", PAYLOAD, PAYLOAD)
    }
    assert bench.run(settles.persist(bench.names, worker, [Persist(one, 1, 0, PAYLOAD)])) == [one]
    with bench.connection.transaction():
        bench.run(settles.fence(bench.names, worker, Persist(one, 1, 1, PAYLOAD), changed=True))
    steps = (("größe", PAYLOAD),)
    assert bench.run(settles.persist(bench.names, worker, [Persist(one, 1, 2, PAYLOAD, steps=steps)])) == [one]
    assert bench.run(running.begin_sleep(bench.names, worker, Sleep(one, 1, "schläft", 0.0))) is not None
    assert bench.run(running.steps(bench.names, one)).keys() == {"größe", "schläft"}
    assert bench.run(running.steps(bench.names, one))["größe"] == PAYLOAD
    bench.sql("insert into {s}.events (job_id, version, event) values (%s, 1, %s)", one, PAYLOAD.decode())
    event = bench.run(running.next_event(bench.names, one, []))
    assert event is not None
    assert event.data == PAYLOAD
    assert bench.run(running.upgrade(bench.names, worker, Upgrade(one, 1, 3, PAYLOAD, PAYLOAD, 2)))
    entry = Finish(one, 1, 4, 7, PAYLOAD, PAYLOAD, PAYLOAD, "böse".encode())
    assert bench.run(settles.finish(bench.names, worker, [entry])) == 1
    ended = bench.run(jobs.get(bench.names, one))
    assert ended is not None
    assert (ended.metadata, ended.execution_metadata, ended.result, ended.error) == (PAYLOAD,) * 4
    assert (ended.task, ended.last_error) == ("größe", "böse")
    (deferred,) = bench.run(settles.defer(bench.names, worker, [Deferral(two, 1, "böse".encode())]))
    assert deferred.id == two
    (live,) = bench.run(jobs.page(bench.names, after=None, limit=5, tasks=["größe"], metadata=PAYLOAD, states=[0]))
    assert (live.id, live.last_error) == (two, "böse")


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_a_connection_of_any_encoding_reads_and_writes_the_same(bench: Workbench, encoding: str) -> None:
    bench.connection.execute(f"set client_encoding = {encoding}".encode())
    _round_trip(bench)
    stored = bench.connect().execute(f"select metadata::text from {SCHEMA}.all_jobs".encode()).fetchall()
    assert stored == [(PAYLOAD.decode(),)] * 2


@pytest.fixture
def odd_database(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"odd_{request.param.lower()}"
    create = sql.SQL("create database {} encoding {} template template0")
    cluster.execute(create.format(sql.Identifier(name), sql.Literal(request.param)))
    yield cluster.dsn(name, client_encoding="UTF8")
    cluster.drop_database(name)


@pytest.mark.parametrize("odd_database", ["LATIN1", "SQL_ASCII"], indirect=True)
async def test_a_database_of_another_encoding(odd_database: str) -> None:
    names = names_of(SCHEMA)
    async with await psycopg.AsyncConnection.connect(odd_database, autocommit=True) as connection:
        await migrate.migrate(connection, names)
        await migrate.check_schema(connection, names)
    with Workbench(odd_database) as bench:
        _round_trip(bench)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("infinity", datetime(9999, 12, 30, tzinfo=UTC)),
        ("-infinity", datetime(1, 1, 2, tzinfo=UTC)),
        ("12000-01-01", datetime(9999, 12, 30, tzinfo=UTC)),
        ("2026-02-03 04:05:06.789+00", datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)),
    ],
)
def test_a_time_that_python_cannot_hold_makes_no_row_unreadable(bench: Workbench, stored: str, read: datetime) -> None:
    job_id = bench.start()
    bench.connection.execute(f"update {SCHEMA}.jobs set scheduled_at = '{stored}'".encode())
    row = bench.run(jobs.get(bench.names, job_id))
    assert row is not None
    assert row.scheduled_at == read
    assert row.scheduled_at.tzinfo is not None


def test_a_start_that_is_due_after_all_python_times_answers(bench: Workbench) -> None:
    job_id = bench.start(after=timedelta(days=365 * 9000))
    row = bench.run(jobs.get(bench.names, job_id))
    assert row is not None
    assert row.scheduled_at == datetime(9999, 12, 30, tzinfo=UTC)


def test_no_jobs_at_all_are_started_without_a_fuss(bench: Workbench) -> None:
    assert _many(bench) == []


async def test_the_users_connection_stays_as_it_is(every_migrated_database: str) -> None:
    names = names_of(SCHEMA)
    settings = "select name, setting from pg_settings where source = 'session' or name = 'search_path'"

    def rows(cursor: psycopg.AsyncCursor[Any]) -> Any:
        return lambda values: ("mine", *values)

    async with await psycopg.AsyncConnection.connect(every_migrated_database, row_factory=rows) as connection:
        before = await (await connection.execute(settings)).fetchall()
        await calls.run(
            connection,
            jobs.start(
                names,
                task="t",
                queue="q",
                priority=0,
                metadata=b"1",
                execution_metadata=b"1",
                at=None,
                after=None,
                notify=True,
            ),
        )
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
        assert await (await connection.execute("select '[1]'::jsonb")).fetchall() == [("mine", [1])]
        assert await (await connection.execute(settings)).fetchall() == before
        await connection.rollback()
        assert await calls.run(connection, jobs.page(names, after=None, limit=5)) == []
