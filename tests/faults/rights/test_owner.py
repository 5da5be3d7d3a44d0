"""`perdure migrate --roles` by somebody else takes the schema from the user that owns it: what its workers do then.

And by a user whose schema somebody else has made for it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from perdure import App
from perdure.errors import MissingRight
from tests.support.jobs import until
from tests.support.payloads import Meta

if TYPE_CHECKING:
    from tests.faults.rights.conftest import Users

_REFUSED = "the database refuses to work: InsufficientPrivilege"


@pytest_asyncio.fixture
async def owning(bare_users: Users) -> Users:
    """A user without roles that has made the schema, so that it is its own."""
    bare_users.make()
    _execute(
        bare_users, "alter database {} owner to {}", str(conninfo_to_dict(bare_users.dsn)["dbname"]), bare_users.name()
    )
    async with bare_users.app() as app:
        await app.migrate()
    return bare_users


def _execute(users: Users, statement: str, *names: str) -> None:
    with users.connect() as superuser:
        superuser.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


async def _make_roles(users: Users) -> None:
    async with App(users.dsn, persistence={"schema_name": users.schema}) as app:
        await app.migrate(roles=True)


async def test_its_workers_wait_and_its_calls_are_refused_until_it_has_a_role(
    owning: Users, caplog: pytest.LogCaptureFixture
) -> None:
    async with owning.app() as app, app.worker():
        await _make_roles(owning)
        await until(lambda: _REFUSED in caplog.text, "a line that says what is wrong")
        with psycopg.connect(owning.dsn_of()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL("select from {}.jobs").format(sql.Identifier(owning.schema)))
        with pytest.raises(MissingRight):
            await app.tasks["busy"].start(Meta("riga"))
        _execute(owning, "grant {} to {}", owning.roles.worker, owning.name())
        assert await (await app.tasks["busy"].start(Meta("riga"))).result(timeout=30) == "riga"
    async with owning.app() as app:
        with pytest.raises(MissingRight):
            await app.migrate(roles=True)  # it isn't the owner any more


async def test_with_its_role_given_before_its_workers_notice_nothing(
    owning: Users, caplog: pytest.LogCaptureFixture
) -> None:
    _execute(owning, "create role {} nologin", owning.roles.worker)
    _execute(owning, "grant {} to {}", owning.roles.worker, owning.name())
    async with owning.app() as app, app.worker():
        start = functools.partial(app.tasks["busy"].start, Meta("riga"))
        before = await start()
        await _make_roles(owning)
        assert [await job.result(timeout=30) for job in (before, await start())] == ["riga", "riga"]
    assert "InsufficientPrivilege" not in caplog.text


async def _of_a_made_schema(users: Users) -> App:
    """An app whose user may create roles, and owns its schema, which an administrator has made for it."""
    users.make(options="login createrole")
    _execute(users, "create schema {} authorization {}", users.schema, users.name())
    return users.app()


async def test_the_owner_of_a_schema_that_somebody_made_makes_its_roles(bare_users: Users) -> None:
    async with await _of_a_made_schema(bare_users) as app:
        database = str(conninfo_to_dict(bare_users.dsn)["dbname"])
        with pytest.raises(MissingRight) as caught:
            await app.migrate(roles=True)
        user, schema = bare_users.name(), bare_users.schema
        assert str(caught.value) == (
            f"migration of the roles: the user {user!r} may not do that (permission denied for database {database}), "
            "and nothing of it was kept; the tables are up to date; it takes one who may create roles, may create in "
            f"the database {database!r}, and may act as {user!r}, who owns the tables of the schema {schema!r}; or "
            "give the SQL (perdure migrate --roles --sql prints it at its end) to who may"
        )
        assert await app.migrate() == []
        _execute(bare_users, "grant create on database {} to {}", database, bare_users.name())
        assert await app.migrate(roles=True) == []
    bare_users.make("worker")
    async with bare_users.app("worker") as working, working.worker():
        assert await (await working.tasks["busy"].start(Meta("riga"))).result(timeout=30) == "riga"


async def test_a_role_of_the_owners_name_makes_no_others(bare_users: Users) -> None:
    _execute(bare_users, "create role {} nologin", bare_users.roles.owner)
    bare_users.make("owner")
    _execute(bare_users, "create schema {} authorization {}", bare_users.schema, bare_users.roles.owner)
    async with bare_users.app("owner") as app:
        assert [migration.number for migration in await app.migrate()] == [1]
