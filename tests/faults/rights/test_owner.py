"""`perdure migrate --roles` by somebody else takes the schema from the user that owns it: what its workers do then."""

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
