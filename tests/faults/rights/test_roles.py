"""The roles of a schema: what each may do, by perdure and by hand; everything else is refused."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, JobQuery, Proceeded, Retried, Sent
from perdure.connections import connect
from perdure.errors import MigrationFailed, MissingRight
from perdure.store import migrate
from perdure.store.doctor import examine
from perdure.store.roles import roles_of
from perdure.store.sql import names_of
from tests.cli.conftest import CommandLine
from tests.support.jobs import job_until
from tests.support.payloads import Meta, Ping

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.rights.conftest import Users

_TABLES = ("jobs", "finished_jobs", "events", "steps", "attempts", "bands", "workers", "migrations", "all_jobs")
_WORKED_ON = {"jobs", "finished_jobs", "events", "steps", "attempts", "workers"}
# What nobody but the owner may.
_DDL = (
    "create table mine (x int)",
    "create function mine() returns int language sql as 'select 1'",
    "drop table jobs",
    "drop view all_jobs",
    "drop sequence job_ids",
    "drop function fence(bigint, uuid, int, int, jsonb)",
    "alter table jobs add column mine int",
    "alter domain live_state drop not null",
    "drop domain live_state cascade",
    "create temporary table mine (state live_state)",  # an open transaction on it would hold up migrations
    "alter table jobs disable trigger all",
    "create index mine on jobs (task)",
    "create trigger mine before update on jobs for each row execute function suppress_redundant_updates_trigger()",
    "truncate jobs",
    "truncate finished_jobs",
    "insert into migrations (number, name, major, checksum) values (999, 'mine', 1, '')",
    "update migrations set major = 99",
    "delete from migrations",
    "alter function send_event(bigint, text, int, jsonb, text, boolean) security invoker",
)
_JOB = "(created_at, priority, queue, task, metadata, execution_metadata{more})"
_VALUES = "(now(), 0, 'default', 'busy', '{{}}', '{{}}'{more})"
_INSERTS = tuple(
    f"insert into jobs {_JOB.format(more=', ' + column)} values {_VALUES.format(more=', ' + value)}"
    for column, value in (
        ("state", "5"), ("attempt", "7"), ("claim", "7"), ("worker_id", "null"), ("suspect", "true"),
        ("last_error", "'x'"), ("error", "'{}'"), ("cancel_requested", "true"), ("awaited", "true"), ("lapses", "0"),
    )
)  # fmt: skip
_WRITES = (
    "update jobs set state = 5",
    "update jobs set awaited = true",
    "update jobs set metadata = '{}'",
    "delete from jobs",
    "delete from finished_jobs",
    "update finished_jobs set result = '1'",
    "insert into events (job_id, version, event) values (1, 1, '{}')",
    "delete from events",
    "update steps set result = '1'",
    "insert into steps (job_id, key, result) values (1, 'x', '1')",
    "delete from attempts",
    "update attempts set error = null",
    "delete from bands",
    "update bands set priority = 5",
    "update workers set lease_until = 'infinity'",
    "delete from workers",
    """insert into workers (id, lease_until, lease_seconds, host, pid, concurrency, version)
    values (gen_random_uuid(), 'infinity', 30, 'h', 1, 1, '1')""",
    "select fence(1, gen_random_uuid(), 1, 1, '{}')",
    "select setval('job_ids', 1)",
)
_READS = (
    "select metadata from jobs",
    "select * from jobs",
    "select task, state from jobs",
    "select * from finished_jobs",
    "select * from all_jobs",
    "select * from events",
    "select * from steps",
    "select * from attempts",
    "select id, host, lease_until from workers",
    "select 1 from jobs for update",
)
_REFUSED = {
    "starter": (*_DDL, *_WRITES, *_READS, *_INSERTS),
    "viewer": (
        *_DDL,
        *_WRITES,
        *_INSERTS,
        f"insert into jobs {_JOB.format(more='')} values {_VALUES.format(more='')}",
        "insert into bands values ('x', 0)",
        "select nextval('job_ids')",
        "select send_event(1, 'busy', 1, '{}', 'x')",
        "select 1 from jobs for key share",
    ),
    "worker": (*_DDL, "delete from bands", "update bands set priority = 5", "select setval('job_ids', 1)"),
}


@pytest.mark.parametrize("kind", _REFUSED)
def test_what_a_role_is_not_for_is_refused(users: Users, kind: str) -> None:
    with users.connect() as superuser:  # there is something to be read and changed
        superuser.execute(f"insert into jobs {_JOB.format(more='')} values {_VALUES.format(more='')}".encode())
        before = _everything(superuser)
    with users.connect(kind) as connection:
        for statement in _REFUSED[kind]:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                pass
            else:
                pytest.fail(f"a {kind} may: {statement}")
    with users.connect() as superuser:
        assert _everything(superuser) == before


def test_each_role_has_its_rights_and_no_other(users: Users) -> None:
    with users.connect() as connection:
        for table in _TABLES:
            expected = {
                "worker": {"SELECT"}
                | (
                    {"INSERT", "UPDATE", "DELETE"} if table in _WORKED_ON else {"INSERT"} if table == "bands" else set()
                ),
                "viewer": {"SELECT"},
                "starter": {"SELECT", "INSERT"} if table == "bands" else {"SELECT"} if table == "migrations" else set(),
            }
            found = {kind: _privileges(connection, users, kind, table) for kind in expected}
            assert found == expected, table
        (public,) = connection.execute(
            "select count(*) from pg_class, aclexplode(relacl) where relnamespace = %s::regnamespace and grantee = 0",
            [psycopg.sql.Identifier(users.schema).as_string(connection)],
        ).fetchone() or (None,)
        assert public == 0


async def test_a_starter_starts_and_sends(users: Users) -> None:
    async with users.app("starter") as app:
        task = app.tasks["busy"]
        job = await task.start(Meta("riga"))
        jobs = await task.start_many([Meta("a"), Meta("b")])
        app.blocking.start(task, Meta("c"))
        async with await psycopg.AsyncConnection.connect(users.dsn_of("starter")) as own:
            await task.start(Meta("d"), connection=own)
            assert isinstance(await task.send(job.id, Ping(1), connection=own), Sent)
            await own.rollback()
        assert len(jobs) == 2
        with users.connect() as superuser:
            superuser.execute("update jobs set state = 4, scheduled_at = null where id = %s", [job.id])
            assert isinstance(await task.send(job.id, Ping(1)), Sent)
            found = superuser.execute("select state, woken_by from jobs where id = %s", [job.id]).fetchone()
            assert found == (5, 2)


async def test_what_a_starter_may_not_it_is_told_with_what_it_takes(users: Users) -> None:
    async with users.app("starter") as app:
        task = app.tasks["busy"]
        job = await task.start(Meta("riga"))
        with pytest.raises(
            MissingRight, match=r"read a job: .* it takes the rights of a viewer: `perdure migrate --roles`"
        ):
            await app.job(job.id)
        with pytest.raises(MissingRight, match=r"result: .* a viewer"):
            await job.result(timeout=10)
        with pytest.raises(MissingRight, match=r"proceed: .* a worker"):
            await app.proceed(job.id)
        with pytest.raises(MissingRight, match=r"cancel: .* a worker"):
            await app.cancel(job.id)
        with pytest.raises(MissingRight, match=r"send: .* a viewer"):
            await task.send(4711, Ping(1))  # whether it has ended, or has never been: that is to be read
        with pytest.raises(MissingRight, match=r"worker: the user .* may not use .*attempts, events"):
            async with app.worker():
                pass
        with pytest.raises(MissingRight, match="migration of the roles: the user"):
            await app.migrate(roles=True)


async def test_a_viewer_reads(users: Users, tmp_path: Path) -> None:
    async with users.app("worker") as app, app.worker():
        job = await app.tasks["busy"].start(Meta("riga"))
        await job.result(timeout=30)
    async with users.app("viewer") as app:
        assert [found.id async for found in app.jobs(JobQuery(metadata={"shop": "riga"}))] == [job.id]
        assert (await app.job(job.id)).stored_result == "riga"
        assert len(await app.history(job.id)) >= 1
        assert await app.unread_events(job.id) == 0
        assert [problem async for problem in app.check_resume()] == []
        with pytest.raises(MissingRight, match=r"start: .* it takes the rights of a starter"):
            await app.tasks["busy"].start(Meta("riga"))
        with pytest.raises(MissingRight, match=r"retry: .* a worker"):
            await app.retry(job.id)
    environment = {"PERDURE_DSN": users.dsn_of("viewer"), "PERDURE_PERSISTENCE_SCHEMA_NAME": users.schema}
    perdure = CommandLine(tmp_path, environment)
    for command in (["jobs", "list"], ["jobs", "show", str(job.id)], ["jobs", "watch", str(job.id)]):
        ended = await asyncio.to_thread(perdure.inside, *command)
        assert (ended.code, ended.err) == (0, "")
    refused = await asyncio.to_thread(perdure.inside, "jobs", "cancel", str(job.id))
    assert refused.code == 1
    assert "it takes the rights of a worker" in refused.err


async def test_who_starts_and_looks_waits_for_results_by_polling(users: Users) -> None:
    async with users.app("worker") as working, users.app("starter", "viewer") as app:
        job = await app.tasks["busy"].start(Meta("riga"))
        waiting = asyncio.create_task(job.result(timeout=60))
        await asyncio.sleep(0)
        async with working.worker():
            assert await waiting == "riga"


async def test_a_worker_does_all_but_migrate(users: Users) -> None:
    async with users.app("worker") as app:
        task = app.tasks["busy"]
        async with app.worker():
            job = await task.start(Meta("riga"))
            assert await job.result(timeout=30) == "riga"
            assert isinstance(await app.retry(job.id, afresh=True), Retried)
            await job_until(job, lambda job: job.state.is_final)
        other = await task.start(Meta("riga"))
        with users.connect() as superuser:
            superuser.execute("update jobs set state = 4, scheduled_at = null where id = %s", [other.id])
        assert isinstance(await app.proceed(other.id, lambda progress: progress), Proceeded)
        await app.cancel(other.id)
        with pytest.raises(MissingRight):
            await app.migrate(roles=True)


def _later() -> migrate.Migration:
    text = (
        "-- later\n-- major: 1\ncreate table {schema}.later (x int);\ncreate sequence {schema}.later_ids;\n"
        "create function {schema}.later() returns int language sql as 'select 1';\n"
    )
    return migrate.Migration(900, "later", 1, text, hashlib.sha256(text.encode()).hexdigest())


async def test_what_a_later_migration_makes_is_the_owners_whoever_runs_it(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*migrate.migrations(), _later()]
    monkeypatch.setattr(migrate, "migrations", lambda: steps)
    async with users.app("worker") as app:
        with pytest.raises((MissingRight, MigrationFailed), match="migration 900_later"):
            await app.migrate()
    async with users.app("owner") as app:
        assert [step.number for step in await app.migrate()] == [900]
    with users.connect() as connection:
        owners = connection.execute(
            "select pg_get_userbyid(relowner) from pg_class where relname in ('later', 'later_ids', 'jobs')"
        ).fetchall()
        assert {owner for (owner,) in owners} == {users.roles.owner}
        assert _privileges(connection, users, "worker", "later") == {"SELECT"}  # until its migration says otherwise
        assert _privileges(connection, users, "viewer", "later") == {"SELECT"}
        assert _privileges(connection, users, "starter", "later") == set()
    with users.connect("worker") as connection:
        connection.execute("select later()")


def test_what_an_owner_makes_by_hand_has_the_rights_of_its_kind(users: Users) -> None:
    with users.connect() as connection:
        connection.execute(psycopg.sql.SQL("set role {}").format(psycopg.sql.Identifier(users.roles.owner)))
        connection.execute("create table by_hand (x int)")
        connection.execute("reset role")
        found = {kind: _privileges(connection, users, kind, "by_hand") for kind in ("worker", "viewer", "starter")}
    assert found == {"worker": {"SELECT", "INSERT", "UPDATE", "DELETE"}, "viewer": {"SELECT"}, "starter": set()}


async def test_it_may_be_done_again_and_by_sql_with_the_same_outcome(users: Users) -> None:
    with users.connect() as connection:
        before = _rights(connection)
        async with users.app("owner") as app:
            await app.migrate(roles=True)
        assert _rights(connection) == before
        connection.execute(migrate.roles.script(names_of(users.schema)).encode())
        assert _rights(connection) == before


async def test_sql_makes_them_from_nothing(bare_users: Users) -> None:
    script = migrate.script(names_of(bare_users.schema), with_roles=True)
    with bare_users.connect() as connection:
        connection.execute(script.encode())
    for kind in ("worker", "starter"):
        bare_users.make(kind)
    async with bare_users.app("worker") as app, app.worker(), bare_users.app("starter") as starter:
        job = await starter.tasks["busy"].start(Meta("riga"))
        assert await (await app.job(job.id)).result(timeout=30) == "riga"


async def test_who_may_not_create_roles_is_told(bare_users: Users) -> None:
    bare_users.make()
    with bare_users.connect() as connection:
        connection.execute("alter database {} owner to {}".format(*_quoted(connection, bare_users)).encode())
    async with App(bare_users.dsn_of(), persistence={"schema_name": bare_users.schema}) as app:
        await app.migrate()
        with pytest.raises(MissingRight, match=r"may not do that \(permission denied to create role\).*--sql"):
            await app.migrate(roles=True)


async def test_who_has_no_rights_at_all_is_told_when_migrating(users: Users) -> None:
    users.make()
    async with users.app() as app:
        with pytest.raises(MissingRight, match=r"migration of the ledger: the user .* \(permission denied for schema"):
            await app.migrate()


async def test_who_may_create_roles_need_not_be_a_superuser(bare_users: Users) -> None:
    bare_users.make(options="login createrole")
    with bare_users.connect() as connection:
        connection.execute("alter database {} owner to {}".format(*_quoted(connection, bare_users)).encode())
    async with App(bare_users.dsn_of(), persistence={"schema_name": bare_users.schema}) as app:
        await app.migrate(roles=True)
        await app.migrate(roles=True)
    bare_users.make("worker")
    async with bare_users.app("worker") as app, app.worker():
        assert await (await app.tasks["busy"].start(Meta("riga"))).result(timeout=30) == "riga"


async def test_doctor_says_what_a_user_may_do(users: Users) -> None:
    told = {}
    for kinds in (("worker",), ("starter",), ("viewer",), ("starter", "viewer")):
        findings = [f async for f in examine(functools.partial(connect, users.dsn_of(*kinds)), names_of(users.schema))]
        (told[kinds],) = [finding for finding in findings if finding.check == "rights"]
    assert {kinds: finding.level for kinds, finding in told.items()} == {
        ("worker",): "ok",
        ("starter",): "note",
        ("viewer",): "note",
        ("starter", "viewer"): "note",
    }
    assert told["starter",].text.endswith("may start jobs and send events; it may not read, nor work")
    assert told["viewer",].text.endswith("may only read")
    advice = told["viewer",].advice
    assert f"makes the role {users.roles.worker}, then: grant " in advice
    with users.connect() as connection:  # what it advises is SQL
        connection.execute(advice.partition("then: ")[2].encode())
    findings = [f async for f in examine(functools.partial(connect, users.dsn_of("viewer")), names_of(users.schema))]
    assert {finding.level for finding in findings if finding.check == "rights"} == {"ok"}


@pytest.mark.parametrize("schema", ["a", "x" * 63, "é" * 31, "{owner}", "MiXed 'n\" $$"])
def test_roles_have_names_that_postgresql_keeps_whole(schema: str) -> None:
    names = roles_of(names_of(schema))
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 63 for name in names)
    if len(schema.encode()) < 50:
        assert names.worker == f"{schema}_worker"


def test_long_names_that_begin_alike_have_roles_of_their_own() -> None:
    assert roles_of(names_of("x" * 62 + "1")) != roles_of(names_of("x" * 62 + "2"))


def _privileges(connection: psycopg.Connection[Any], users: Users, kind: str, table: str) -> set[str]:
    rows = connection.execute(
        "select privilege from "
        "unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) as privilege "
        "where has_table_privilege(%s, %s::regclass, privilege)",
        [getattr(users.roles, kind), table],
    )
    return {row[0] for row in rows.fetchall()}


def _rights(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute(
        "select relname, relowner, array(select a::text from unnest(relacl) a order by 1) from pg_class "
        "where relnamespace = quote_ident(current_schema())::regnamespace::oid or relname = 'jobs' "
        "union all select attname, attrelid, array(select a::text from unnest(attacl) a order by 1) from pg_attribute "
        "where attacl is not null and attrelid in (select oid from pg_class where relname in ('jobs', 'workers')) "
        "union all select proname, proowner, array(select a::text from unnest(proacl) a order by 1) from pg_proc "
        "where proname in ('send_event', 'fence', 'timeline') "
        "union all select defaclobjtype::text, defaclrole, array(select a::text from unnest(defaclacl) a order by 1) "
        "from pg_default_acl order by 1, 2"
    ).fetchall()


def _everything(connection: psycopg.Connection[Any]) -> list[Any]:
    found = [
        connection.execute(f"select to_jsonb(t)::text from {table} t order by 1".encode()).fetchall()
        for table in _TABLES
    ]
    return [*found, _rights(connection)]


def _quoted(connection: psycopg.Connection[Any], users: Users) -> tuple[str, str]:
    names = (connection.info.dbname, users.name())
    return tuple(psycopg.sql.Identifier(name).as_string(connection) for name in names)  # type: ignore[return-value]
