"""A schema with roles, of an odd name of its own, for roles are the whole server's; and users that have them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from perdure import App
from perdure.store.roles import Roles, roles_of
from perdure.store.sql import names_of
from tests.support.payloads import define

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass(frozen=True)
class Users:
    """The schema, and a user that may log in for each of its roles.

    Attributes:
        dsn: The database, as its superuser.
        schema: The schema's name.
        roles: Its roles.
    """

    dsn: str
    schema: str
    roles: Roles

    def name(self, *kinds: str) -> str:
        """Name the user that has these roles."""
        return " ".join((*kinds, self.schema))

    def dsn_of(self, *kinds: str) -> str:
        """Return what connects as the user with these roles."""
        return make_conninfo(self.dsn, user=self.name(*kinds))

    def app(self, *kinds: str) -> App:
        """Make an app that connects as the user with these roles."""
        app = App(self.dsn_of(*kinds), persistence={"schema_name": self.schema}, scheduling={"polling_delay": 0.1})
        define(app)
        return app

    def connect(self, *kinds: str) -> psycopg.Connection[Any]:
        """Connect as the user with these roles, or as the superuser, with the schema in the search path."""
        connection = psycopg.connect(self.dsn_of(*kinds) if kinds else self.dsn, autocommit=True)
        connection.execute("select set_config('search_path', quote_ident(%s), false)", [self.schema])
        return connection

    def make(self, *kinds: str, options: str = "login") -> None:
        """Make a user with these roles."""
        names = [sql.Identifier(getattr(self.roles, kind)) for kind in kinds]
        granted = sql.SQL(" in role {}").format(sql.SQL(", ").join(names)) if names else sql.SQL("")
        statement = sql.SQL("create role {} {}").format(sql.Identifier(self.name(*kinds)), sql.SQL(options))  # type: ignore[arg-type]
        with self.connect() as connection:
            connection.execute(statement + granted)

    def clear(self) -> None:
        """Drop the schema, the users and the roles."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            database = sql.Identifier(connection.info.dbname)
            connection.execute(sql.SQL("alter database {} owner to current_user").format(database))
            found = connection.execute("select rolname from pg_roles where strpos(rolname, %s) > 0", [self.schema])
            for (name,) in found.fetchall():
                connection.execute(sql.SQL("drop owned by {} cascade").format(sql.Identifier(name)))
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def bare_users(every_database: str) -> Iterator[Users]:
    """No schema yet, and no roles."""
    schema = f'it\'s "$$" {{owner}} %s {uuid.uuid4().hex[:8]}'
    users = Users(every_database, schema, roles_of(names_of(schema)))
    yield users
    users.clear()


@pytest_asyncio.fixture
async def users(bare_users: Users) -> AsyncIterator[Users]:
    """The schema with its roles, and users: one for each role, and one who starts and looks."""
    app = App(bare_users.dsn, persistence={"schema_name": bare_users.schema})
    async with app:
        await app.migrate(roles=True)
    for kinds in (("owner",), ("worker",), ("starter",), ("viewer",), ("starter", "viewer")):
        bare_users.make(*kinds)
    yield bare_users
