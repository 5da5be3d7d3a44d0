"""The schema may be called whatever PostgreSQL allows, in every statement; and schemas don't touch each other."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.errors import ConfigError
from perdure.store import claims, jobs, leases, migrate, running, settles
from perdure.store.sql import names_of
from tests.store.workbench import SCHEMA, Workbench
from tests.support.cluster import DEBIAN_BINARIES

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.sql import Names

PSQL = DEBIAN_BINARIES / "psql"
HOSTILE = [
    'do"uble',
    "sin'gle",
    "back\\slash",
    'all\\"of\\\'them"',
    "per%cent %s %(x)s %%",
    "semi; drop schema public; --",
    "--",
    "/*",
    "$$",
    "new\nline\t and tab",
    " leading and trailing ",
    "MiXed Case",
    "select",
    "ünïcödé 数据库 🐘",
    "{schema}",
    "{job_ids}",
    "{job_columns} {claim_columns}",
    ":psql :'variables'",
    "x" * 63,
    "é" * 31 + "x",
]


@pytest.mark.parametrize("schema", HOSTILE)
def test_a_schema_may_be_called_anything(every_bench: Workbench, schema: str) -> None:
    names = names_of(schema)
    asyncio.run(_migrated(every_bench.dsn, names))
    with Workbench(every_bench.dsn, names) as bench:
        _every_statement(bench)
        schemas = bench.sql("select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|public)'")
        assert {row["nspname"] for row in schemas} == {schema, SCHEMA}
        bench.sql("drop schema {s} cascade")


@pytest.mark.parametrize("schema", HOSTILE)
def test_psql_runs_the_script_of_any_schema(bench: Workbench, schema: str) -> None:
    if not PSQL.exists():
        pytest.skip("psql isn't installed (Debian: apt-get install postgresql-client)")
    names = names_of(schema)
    command = [PSQL, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--quiet", bench.dsn]
    done = subprocess.run(command, input=migrate.script(names), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    asyncio.run(_check(bench.dsn, names))
    with Workbench(bench.dsn, names) as made:
        made.sql("drop schema {s} cascade")


async def _check(dsn: str, names: Names) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await migrate.check_schema(connection, names)


async def _migrated(dsn: str, names: Names) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await migrate.migrate(connection, names)
        await migrate.check_schema(connection, names)
        assert await migrate.migrate(connection, names) == []


def _every_statement(bench: Workbench) -> None:
    """Run each statement of the store once."""
    names, worker, other = bench.names, bench.register(), bench.register()
    place: dict[str, Any] = {"task": "task", "queue": "default", "priority": 0, "at": None, "after": None}
    many = jobs.start_many(names, **place, metadata=[b"1"] * 5, execution_metadata=b"{}", notify=True)
    first, second, third, fourth, fifth = bench.run(many).ids
    claimed = {job.id: job for job in bench.claim(worker)}
    bench.run(settles.persist(names, worker, [settles.Persist(first, 1, 0, b"1")]))
    with bench.connection.transaction():
        bench.run(settles.fence(names, worker, settles.Persist(first, 1, 1, b"1"), changed=True))
    bench.run(running.take_checkpoint_number(names, worker, settles.Persist(first, 1, 2, b"1")))
    _what_an_attempt_does(bench, worker, first, checkpoint=4)
    bench.run(settles.report_progress(names, worker, [settles.ProgressReport(second, 1, b"1")]))
    bench.run(settles.finish(names, worker, [settles.Finish(second, 1, 0, 6, None, b"1", None, None)]))
    later = settles.Release(third, 1, 0, 4, None, False, None, None, 0, 0, 0, False, False, None, None, 4)
    bench.run(settles.release(names, worker, [later]))
    bench.run(settles.wake_unread(names, [later]))
    bench.run(settles.put_back(names, worker, [settles.PutBack(fourth, 1)]))
    bench.run(settles.defer(names, worker, [settles.Deferral(fifth, 1, b"why")]))
    assert set(claimed) == {first, second, third, fourth, fifth}
    assert set(bench.run(settles.settlement(names, [first, second]))) == {first, second}
    assert [job.id for job in bench.run(leases.strays(names, worker, []))] == [first]
    assert bench.run(claims.claim_suspect(names, worker, queues=None)) == []
    assert bench.run(jobs.proceed(names, third, at=None, after=None))
    _what_clients_ask(bench, third)
    assert bench.run(jobs.request_cancel(names, first))
    bench.run(jobs.await_end(names, [first]))
    assert bench.run(jobs.finished(names, [first, second])) == [second]
    job = bench.run(jobs.get(names, second))
    assert job is not None
    assert job.state == 6
    for descending in (False, True):
        page = bench.run(jobs.page(names, after=None, limit=9, descending=descending, queues=["default"]))
        assert len(page) == 5
    assert bench.run(leases.renew(names, worker))
    bench.run(leases.set_sleeping(names, worker, sleeping=True))
    assert bench.run(leases.revive(names, ["task"], limit=10)).revived == 1
    bench.run(leases.remove(names, worker))
    assert bench.run(leases.sweep(names, other)).lost == [worker]
    assert [job.id for job in bench.run(leases.lapsed_jobs(names, worker, limit=9))] == [first]
    bench.run(leases.forgive(names, worker, [first]))
    bench.run(leases.forget_workers(names))
    assert bench.run(leases.heal_bands(names)) == []
    assert [row.id for row in bench.run(leases.workers(names))] == [other]
    bench.run(leases.wake(names))
    assert bench.run(leases.expire(names, error=b"1", last_error=b"late", limit=9)) == 0


def _what_an_attempt_does(bench: Workbench, worker: UUID, job_id: int, *, checkpoint: int) -> None:
    names = bench.names
    bench.send(job_id)
    (event,) = bench.events(job_id)
    assert bench.run(running.next_event(names, job_id, [])) == (event, 1, b"1")
    bench.run(running.consume(names, job_id, [event]))
    entry = settles.Persist(job_id, 1, checkpoint, b"1", (event,), (("step", b"1"),))
    assert bench.run(settles.persist(names, worker, [entry])) == [job_id]
    assert bench.run(running.begin_sleep(names, worker, running.Sleep(job_id, 1, "nap", 1.0)))
    assert bench.run(running.steps(names, job_id)).keys() == {"step", "nap"}
    assert bench.run(running.upgrade(names, worker, running.Upgrade(job_id, 1, checkpoint + 1, b"1", b"1", 2)))


@pytest.mark.parametrize("schema", ["", "x" * 64, "é" * 32, "nul\0", "lone surrogate \ud800"])
def test_what_cannot_name_a_schema_is_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match=r"persistence\.schema_name: .* can't name a schema"):
        _ = names_of(schema).statements["get"]


def test_two_schemas_in_one_database_do_not_touch_each_other(every_database: str) -> None:
    long = "x" * 62
    pairs = [names_of("one"), names_of("ONE"), names_of(long + "1"), names_of(long + "2")]
    assert len({names.advisory_key for names in pairs}) == 4
    assert (
        len({channel for names in pairs for channel in (names.work_channel, names.done_channel, names.cancel_channel)})
        == 12
    )
    for names in pairs:
        asyncio.run(_migrated(every_database, names))
    benches = [Workbench(every_database, names) for names in pairs]
    try:
        ids = [bench.start(task=str(place)) for place, bench in enumerate(benches)]
        assert ids == [1, 1, 1, 1]  # each has its own sequence
        benches[0].clear()
        benches[0].sql("drop schema {s} cascade")
        for place, bench in enumerate(benches[1:], start=1):
            (job,) = bench.claim(bench.register())
            assert job.task == str(place)
    finally:
        for bench in benches:
            bench.__exit__(None, None, None)


def _what_clients_ask(bench: Workbench, job_id: int) -> None:
    names = bench.names
    assert bench.run(jobs.find(names, limit=1, states=[5]))[0].id == job_id
    assert bench.run(jobs.lock(names, job_id)) is not None
    assert bench.run(jobs.hold(names, job_id))
    assert bench.run(jobs.send(names, job_id, task="task", version=1, event=b"1", notify=True)) == 5
    assert bench.run(jobs.unread_events(names, job_id)) == 1
    assert bench.run(jobs.cancel(names, job_id))
    again = jobs.NewPayloads(b"1", None, 2)
    assert bench.run(jobs.retry(names, job_id, payloads=again)) is not None
    assert len(bench.run(jobs.history(names, job_id))) == 1
    assert bench.run(jobs.cancel(names, job_id))
