"""Who owns what migrations make, in a schema that somebody else has made too; and what is said to who may not."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure.errors import MigrationFailed, MissingRight
from perdure.store import migrate
from perdure.store.migrate import Migration
from perdure.store.sql import names_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure.store.sql import Names

_NAMES = names_of('it\'s "$$" jobs')
_PUBLIC = names_of("public")
_OWNERS = """
    select pg_get_userbyid(relowner) from pg_class where relnamespace = %(schema)s::regnamespace
    union select pg_get_userbyid(proowner) from pg_proc where pronamespace = %(schema)s::regnamespace
    union select pg_get_userbyid(typowner) from pg_type where typnamespace = %(schema)s::regnamespace
"""


@dataclass(frozen=True)
class Server:
    """An empty database, and users of it. Roles are the whole server's, so their names hold a mark that is the test's.

    Attributes:
        dsn: The database, as its superuser.
        mark: That.
    """

    dsn: str
    mark: str

    def name(self, kind: str) -> str:
        return f"{kind} {self.mark}"

    def user(self, kind: str, options: str = "login") -> str:
        """Make a user, and return its name."""
        self.sql(f"create role {{}} {options}", self.name(kind))
        return self.name(kind)

    def sql(self, statement: str, *names: str, user: str | None = None) -> list[Any]:
        """Run a statement with these names in it, as the superuser unless another is named."""
        dsn = self.dsn if user is None else make_conninfo(self.dsn, user=user)
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def run_script(self, names: Names, user: str | None = None) -> None:
        with psycopg.connect(self.dsn if user is None else make_conninfo(self.dsn, user=user)) as connection:
            connection.autocommit = True
            connection.execute(migrate.script(names).encode())

    async def migrate(self, names: Names, user: str | None = None, *, with_roles: bool = False) -> list[int]:
        dsn = self.dsn if user is None else make_conninfo(self.dsn, user=user)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            return [each.number for each in await migrate.migrate(connection, names, with_roles=with_roles)]

    def owners(self, names: Names) -> set[str]:
        """Who owns what is in the schema; nobody, if there is nothing."""
        with psycopg.connect(self.dsn) as connection:
            schema = sql.Identifier(names.schema_name).as_string(connection)
            return {row[0] for row in connection.execute(_OWNERS, {"schema": schema}).fetchall()}

    def has_schema(self, names: Names) -> bool:
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute("select from pg_namespace where nspname = %s", [names.schema_name])
            return found.fetchone() is not None

    @property
    def database(self) -> str:
        return str(conninfo_to_dict(self.dsn)["dbname"])


@pytest.fixture
def server(every_database: str) -> Iterator[Server]:
    made = Server(every_database, uuid.uuid4().hex[:12])
    yield made
    made.sql("alter database {} owner to current_user", made.database)
    for (name,) in made.sql(f"select rolname from pg_roles where strpos(rolname, '{made.mark}') > 0"):
        made.sql("drop owned by {} cascade", name)
        made.sql("drop role {}", name)


@pytest.fixture
def owner(server: Server) -> str:
    """A user that may not create in the database, and whose schema an administrator has made."""
    made = server.user("owner")
    server.sql("create schema {} authorization {}", _NAMES.schema_name, made)
    return made


def _later(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    real = migrate.migrations()
    later = [Migration(len(real) + n, f"later_{n}", 1, text, f"sum {n}") for n, text in enumerate(texts, start=1)]
    monkeypatch.setattr(migrate, "migrations", lambda: [*real, *later])


# --- in a schema that is there ---


async def test_its_owner_needs_no_right_to_the_database(server: Server, owner: str) -> None:
    assert await server.migrate(_NAMES, owner) == [1]
    assert server.owners(_NAMES) == {owner}
    assert await server.migrate(_NAMES, owner) == []


async def test_its_owner_runs_the_script(server: Server, owner: str) -> None:
    server.run_script(_NAMES, owner)
    assert server.owners(_NAMES) == {owner}
    assert await server.migrate(_NAMES, owner) == []


@pytest.mark.parametrize("by_script", [False, True])
async def test_what_a_superuser_makes_is_its_owners(
    server: Server, owner: str, monkeypatch: pytest.MonkeyPatch, *, by_script: bool
) -> None:
    if by_script:
        server.run_script(_NAMES)
    else:
        assert await server.migrate(_NAMES) == [1]
    assert server.owners(_NAMES) == {owner}
    _later(monkeypatch, "create table {schema}.second (n int);")
    assert await server.migrate(_NAMES, owner) == [2]
    assert await server.migrate(_NAMES) == []
    assert server.owners(_NAMES) == {owner}


@pytest.mark.parametrize("options", ["login", "login noinherit"])
async def test_what_a_member_makes_is_its_owners(
    server: Server, owner: str, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    member = server.user("member", options)
    server.sql("grant {} to {}", owner, member)
    server.sql("grant create on database {} to {}", server.database, member)
    assert await server.migrate(_NAMES, member) == [1]
    assert await server.migrate(_NAMES, owner) == []
    _later(monkeypatch, "create table {schema}.second (n int);")
    assert await server.migrate(_NAMES, member) == [2]
    assert server.owners(_NAMES) == {owner}


async def test_a_member_that_may_not_act_as_the_owner_makes_things_as_itself(server: Server, owner: str) -> None:
    member = server.user("member")
    with psycopg.connect(server.dsn) as connection:
        if connection.info.server_version < 160000:
            pytest.skip("before PostgreSQL 16 whoever is a member may act as it")
    server.sql("grant {} to {} with inherit true, set false", owner, member)
    assert await server.migrate(_NAMES, member) == [1]
    assert server.owners(_NAMES) == {member}


async def test_who_has_made_the_tables_is_whom_later_migrations_run_as(
    server: Server, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = server.user("guest")
    server.sql("grant usage, create on schema {} to {}", _NAMES.schema_name, guest)
    assert await server.migrate(_NAMES, guest) == [1]
    _later(monkeypatch, "alter table {schema}.jobs add column second int; create table {schema}.second (n int);")
    assert await server.migrate(_NAMES) == [2]
    assert server.owners(_NAMES) == {guest}
    with pytest.raises(MissingRight) as caught:
        await server.migrate(_NAMES, owner)
    assert str(caught.value) == (
        f"migration of the ledger: the user '{owner}' may not do that (permission denied for table migrations), and "
        f"nothing was changed; it takes '{guest}', who owns the tables of the schema {_NAMES.schema_name!r}, or one "
        "who may act as that"
    )


@pytest.mark.parametrize("by_owner", [False, True])
@pytest.mark.parametrize("by_script", [False, True])
async def test_in_public_all_is_the_databases_owners(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, by_owner: bool, by_script: bool
) -> None:
    owner = server.user("owner")
    server.sql("alter database {} owner to {}", server.database, owner)
    first, second = (owner, None) if by_owner else (None, owner)
    if by_script:
        server.run_script(_PUBLIC, first)
    else:
        assert await server.migrate(_PUBLIC, first) == [1]
    assert server.owners(_PUBLIC) == {owner}
    _later(monkeypatch, "alter table {schema}.jobs add column second int; create table {schema}.second (n int);")
    assert await server.migrate(_PUBLIC, second) == [2]
    assert await server.migrate(_PUBLIC, first) == []
    assert server.owners(_PUBLIC) == {owner}


async def test_who_may_only_read_the_ledger_is_told_that_all_is_well(server: Server, owner: str) -> None:
    await server.migrate(_NAMES, owner)
    reader = server.user("reader")
    server.sql("grant usage on schema {} to {}", _NAMES.schema_name, reader)
    server.sql("grant select on {}.migrations to {}", _NAMES.schema_name, reader)
    assert await server.migrate(_NAMES, reader) == []


@pytest.mark.parametrize("there", [False, True])
async def test_migrators_of_several_users_at_once_apply_each_migration_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    owner = server.user("owner")
    server.sql("alter database {} set default_transaction_isolation to serializable", server.database)
    server.sql("grant create on database {} to {}", server.database, owner)
    if there:
        server.sql("create schema {} authorization {}", _NAMES.schema_name, owner)
    _later(monkeypatch, "create table {schema}.second (n int);", "create table {schema}.third (n int);")
    users = [owner] * 5 + ([None] * 5 if there else [])
    done = await asyncio.gather(*(server.migrate(_NAMES, user) for user in users))
    assert sorted(number for numbers in done for number in numbers) == [1, 2, 3]
    assert server.owners(_NAMES) == {owner}


# --- what can't be done leaves nothing, and says what it takes ---


@pytest.mark.parametrize("there", [False, True])
async def test_a_first_migration_that_fails_leaves_neither_schema_nor_ledger(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    if there:
        server.sql("create schema {}", _NAMES.schema_name)
    first = Migration(1, "bad", 1, "create table {schema}.half (n int); select 1 / 0;", "sum")
    monkeypatch.setattr(migrate, "migrations", lambda: [first])
    with pytest.raises(MigrationFailed, match="migration 001_bad failed and was rolled back: division by zero"):
        await server.migrate(_NAMES)
    assert server.has_schema(_NAMES) is there
    with pytest.raises(psycopg.errors.DivisionByZero):
        server.run_script(_NAMES)
    assert server.has_schema(_NAMES) is there
    assert not there or server.owners(_NAMES) == set()


async def test_who_may_not_make_a_schema_is_told_who_may(server: Server) -> None:
    user = server.user("user")
    with pytest.raises(MissingRight) as caught:
        await server.migrate(_NAMES, user)
    schema, database = _NAMES.schema_name, server.database
    advice = 'create schema "it\'s ""$$"" jobs" authorization ' + f'"{user}"'
    assert str(caught.value) == (
        f"migration 001_jobs: the user '{user}' may not do that (permission denied for database {database}), and "
        f"nothing of it was kept; there is no schema {schema!r} yet: it takes one who may create it in the database "
        f"'{database}', or somebody who makes it for this user ({advice}); or give the SQL (perdure migrate --sql) to "
        "who may"
    )
    assert not server.has_schema(_NAMES)
    with psycopg.connect(server.dsn, autocommit=True) as connection:  # what it advises is SQL, and helps
        connection.execute(advice.encode())
    assert await server.migrate(_NAMES, user) == [1]


async def test_who_may_not_create_in_the_schema_is_told_whose_it_is(server: Server, owner: str) -> None:
    user = server.user("user")
    server.sql("grant usage on schema {} to {}", _NAMES.schema_name, user)
    server.sql("grant create on database {} to {}", server.database, user)
    with pytest.raises(MissingRight) as caught:
        await server.migrate(_NAMES, user)
    assert str(caught.value) == (
        f"migration 001_jobs: the user '{user}' may not do that (permission denied for schema {_NAMES.schema_name}), "
        f"and nothing of it was kept; it takes '{owner}', who owns the schema {_NAMES.schema_name!r}, or one who may "
        "act as that; or give the SQL (perdure migrate --sql) to who may"
    )
    assert server.owners(_NAMES) == set()


async def test_who_has_made_the_tables_and_may_not_create_any_more_is_told_just_that(
    server: Server, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = server.user("guest")
    server.sql("grant usage, create on schema {} to {}", _NAMES.schema_name, guest)
    await server.migrate(_NAMES, guest)
    server.sql("revoke create on schema {} from {}", _NAMES.schema_name, guest)
    _later(monkeypatch, "alter table {schema}.jobs add column second int;", "create table {schema}.third (n int);")
    with pytest.raises(MissingRight) as caught:
        await server.migrate(_NAMES, guest)
    assert str(caught.value) == (
        f"migration 003_later_2: the user '{guest}' may not do that (permission denied for schema "
        f"{_NAMES.schema_name}), and nothing of it was kept; '{guest}', who owns the tables of the schema "
        f"{_NAMES.schema_name!r}, lacks only that"
    )
    assert server.sql("select max(number) from {}.migrations", _NAMES.schema_name) == [(2,)]


async def test_a_ledger_of_somebody_else_is_left_alone_and_named(server: Server) -> None:
    server.sql("create table public.migrations (id int, migration text)")
    with pytest.raises(
        MigrationFailed, match=r"the schema 'public' has a table `migrations` that isn't perdure's; set "
    ):
        await server.migrate(_PUBLIC)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        server.run_script(_PUBLIC)
    assert server.sql("select relname::text from pg_class where relnamespace = 'public'::regnamespace") == [
        ("migrations",)
    ]


async def test_public_gets_no_roles(server: Server) -> None:
    """Their owner would get the application's tables, too."""
    with pytest.raises(MigrationFailed, match=r"^roles: the schema 'public' isn't perdure's alone, .*schema_name"):
        await server.migrate(_PUBLIC, with_roles=True)
    with pytest.raises(MigrationFailed, match=r"^roles: the schema 'public' isn't perdure's alone, .*schema_name"):
        migrate.script(_PUBLIC, with_roles=True)
    assert server.owners(_PUBLIC) == set()
