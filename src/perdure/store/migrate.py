"""Brings the schema up to date, and tells whether it is.

The numbered files in `migrations/` are the sole truth of the schema. Each is applied in one transaction with its
line in the ledger, under a transaction-level advisory lock, so ten processes may start at once and a pooler may be
in between; the first one's makes the schema and the ledger, too. Migrations within one major version only add, so that
a worker of the previous version keeps working.

Who migrates acts as the owner of what is there, as far as it may (`migrations/acting.sql`). What failed for want of a
right says who has it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from psycopg import errors as database_errors
from psycopg.rows import tuple_row

from perdure.errors import MigrationFailed, MissingRight, SchemaOutdated, SchemaTooNew, ServerTooOld
from perdure.failpoints import reach
from perdure.store import roles
from perdure.store.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg import AsyncConnection

    from perdure.store.sql import Names

__all__ = [
    "MAJOR",
    "Migration",
    "SchemaState",
    "check_schema",
    "check_worker",
    "migrate",
    "migrations",
    "schema_state",
    "script",
]

MAJOR = 1
"""The major version of the schema that this code understands."""

_OLDEST_SERVER = 140000
_LOCK_TIMEOUT = "5s"
_ATTEMPTS = 24  # of taking locks within the time-out: two minutes beside a busy table
_FILE = re.compile(r"(\d{3})_(\w+)\.sql")
_LEDGER = "of the ledger"
_ROLES = "of the roles"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file.

    Attributes:
        number: Its place in the order, from 1.
        name: What it is about.
        major: The schema's major version from this migration on.
        text: Its SQL, with `{schema}` to be filled in.
        checksum: SHA-256 of the text.
    """

    number: int
    name: str
    major: int
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What the ledger of a schema says, against the files of this version.

    Attributes:
        exists: Whether the schema has a ledger at all.
        applied: Numbers that are applied.
        pending: Migrations of this version that aren't.
        major: The largest major version among the applied.
        changed: Numbers whose file differs from what was applied.
    """

    exists: bool
    applied: tuple[int, ...]
    pending: tuple[Migration, ...]
    major: int
    changed: tuple[int, ...]


class _Acting(NamedTuple):
    """As whom a transaction makes things.

    Attributes:
        user: That one.
        owner: Who owns what is there; another only if the connection's user may not act as that.
        has_ledger: Whether that is the ledger, not the schema alone.
    """

    user: str
    owner: str
    has_ledger: bool


def migrations() -> list[Migration]:
    """Read this version's migrations, in order."""
    found: list[Migration] = []
    for file in resources.files("perdure.store").joinpath("migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        text = file.read_text("utf-8")
        major = re.search(r"^-- major: (\d+)$", text, re.MULTILINE)
        if major is None:
            message = f"migration {file.name} doesn't say which major version it belongs to"
            raise MigrationFailed(message)
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), match[2], int(major[1]), text, checksum))
    return sorted(found, key=lambda migration: migration.number)


def script(names: Names, *, with_roles: bool = False) -> str:
    """Return the SQL of all migrations as one script, to be read or run by hand; `with_roles`, of the roles too.

    Raises:
        MigrationFailed: The schema can't have roles.
    """
    acting = _file(names, "acting")
    steps = [acting + _step(names, migration) for migration in migrations()]
    steps[0] = _file(names, "schema") + steps[0]
    if with_roles:
        roles.check_schema(names)
        steps.append(roles.script(names))
    return "\n".join(f"begin;\n{step}\ncommit;\n" for step in steps)


async def schema_state(connection: AsyncConnection[Any], names: Names) -> SchemaState:
    """Compare the schema's ledger with this version's files; changes nothing."""
    ours = migrations()
    async with connection.cursor(row_factory=tuple_row) as cursor:
        ledger = f"{quote_identifier(names.schema_name)}.migrations"
        await cursor.execute("select to_regclass(%s) is not null", [ledger])
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return SchemaState(exists=False, applied=(), pending=tuple(ours), major=0, changed=())
        await cursor.execute(names.statements["ledger"], {})
        entries: dict[int, tuple[int, str]] = {
            number: (major, checksum) for number, major, checksum in await cursor.fetchall()
        }
    return SchemaState(
        exists=True,
        applied=tuple(sorted(entries)),
        pending=tuple(migration for migration in ours if migration.number not in entries),
        major=max((major for major, _checksum in entries.values()), default=0),
        changed=tuple(m.number for m in ours if m.number in entries and entries[m.number][1] != m.checksum),
    )


async def check_schema(connection: AsyncConnection[Any], names: Names) -> None:
    """Make sure that this version can work on the schema.

    Raises:
        ServerTooOld: PostgreSQL is older than 14.
        SchemaOutdated: Migrations are missing.
        SchemaTooNew: A newer major version has migrated the schema.
    """
    check_server(connection)
    state = await schema_state(connection, names)
    _check_major(state, names)
    if not state.exists:
        message = (
            f"schema {names.schema_name!r} doesn't exist in this database yet: run `perdure migrate` (or app.migrate())"
        )
        raise SchemaOutdated(message)
    if state.pending:
        missing = ", ".join(f"{migration.number:03}_{migration.name}" for migration in state.pending)
        message = (
            f"schema {names.schema_name!r} lacks the migrations {missing}: run `perdure migrate` (or app.migrate())"
        )
        raise SchemaOutdated(message)


def _check_major(state: SchemaState, names: Names) -> None:
    if state.major > MAJOR:
        message = (
            f"schema {names.schema_name!r} is of major version {state.major}, this perdure understands {MAJOR}: "
            "upgrade perdure in this process"
        )
        raise SchemaTooNew(message)


def check_server(connection: AsyncConnection[Any]) -> None:
    """Make sure that the server is one that perdure works on.

    Raises:
        ServerTooOld: PostgreSQL is older than 14.
    """
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        message = f"the server is PostgreSQL {version // 10000}, perdure needs 14 or newer"
        raise ServerTooOld(message)


async def check_worker(connection: AsyncConnection[Any], names: Names) -> None:
    """Make sure that a worker of this version can work on the schema, as the connection's user.

    Raises:
        MissingRight: The user may not.
        StoreError: As `check_schema` says.
    """
    await roles.check_rights(connection, names)
    await check_schema(connection, names)


async def migrate(connection: AsyncConnection[Any], names: Names, *, with_roles: bool = False) -> list[Migration]:
    """Apply what is missing, each migration in a transaction of its own, and as the owner of what is there.

    Args:
        connection: In autocommit mode and not in a transaction.
        names: The schema's names.
        with_roles: Whether to make the schema's roles, too. Once it has them, each migration renews their rights.

    Returns:
        The migrations that this call applied; none when another process was first.

    Raises:
        ServerTooOld: PostgreSQL is older than 14.
        SchemaTooNew: A newer major version has migrated the schema.
        MissingRight: The connection's user may not do that.
        MigrationFailed: A migration failed, or locks couldn't be had for two minutes; nothing of it was kept. Or the
            schema can't have roles; nothing was changed.
    """
    check_server(connection)
    if with_roles:
        roles.check_schema(names)
    state = await _state(connection, names)
    _check_major(state, names)
    applied: list[Migration] = []
    by_owner_role = False
    for migration in state.pending:
        title = f"{migration.number:03}_{migration.name}"
        acting = await _retried(connection, names, title, partial(_apply, connection, names, migration))
        if acting is not None:
            applied.append(migration)
            by_owner_role = acting.user == roles.roles_of(names).owner
    if with_roles or (by_owner_role and await roles.are_there(connection, names)):
        await _retried(connection, names, _ROLES, partial(_make_roles, connection, names))
    return applied


async def _state(connection: AsyncConnection[Any], names: Names) -> SchemaState:
    """Read the schema's state as its owner: who is a member of that one needn't have its rights before."""
    try:
        async with connection.transaction():
            await _act(connection, names)
            return await schema_state(connection, names)
    except database_errors.InsufficientPrivilege as error:
        raise MissingRight(await _denied(connection, names, _LEDGER, error)) from error
    except database_errors.UndefinedColumn as error:
        message = (
            f"migration {_LEDGER}: the schema {names.schema_name!r} has a table `migrations` that isn't perdure's; set "
            "persistence.schema_name to another; nothing was changed"
        )
        raise MigrationFailed(message) from error


async def _act(connection: AsyncConnection[Any], names: Names) -> _Acting | None:
    """Act as the owner of what is there until the transaction ends; None when there is no schema."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_file(names, "acting").encode())
        row = await cursor.fetchone()
    return None if row is None else _Acting(*row)


async def _apply(connection: AsyncConnection[Any], names: Names, migration: Migration) -> _Acting | None:
    """Apply a migration, and return as whom; None when another process was first."""
    if migration.number == 1:
        await connection.execute(_file(names, "schema").encode())
    acting = await _act(connection, names)
    state = await schema_state(connection, names)
    if migration.number in state.applied:
        return None
    await connection.execute(_step(names, migration).encode())
    return acting


async def _make_roles(connection: AsyncConnection[Any], names: Names) -> bool:
    await connection.execute(roles.script(names).encode())
    return True


async def _retried(
    connection: AsyncConnection[Any], names: Names, title: str, step: Callable[[], Awaitable[T | None]]
) -> T | None:
    """Take a step in a transaction under the migrators' lock, again while locks can't be had; None: there was none."""
    for attempt in range(_ATTEMPTS):
        try:
            async with connection.transaction(), connection.cursor() as cursor:
                # Whatever the database's default is: who has waited for the lock must see what its holder has done.
                await cursor.execute("set transaction isolation level read committed")
                # A busy table must not queue its readers behind us for longer than this.
                await cursor.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'".encode())
                await cursor.execute("select pg_advisory_xact_lock(%s)", [names.advisory_key])
                done = await step()
                if done is None:
                    return None
                reach("migration.uncommitted")
        except (database_errors.LockNotAvailable, database_errors.DeadlockDetected) as error:
            if attempt == _ATTEMPTS - 1:
                message = (
                    f"migration {title}: no lock could be had in {_ATTEMPTS} attempts of {_LOCK_TIMEOUT}; "
                    "nothing was changed"
                )
                raise MigrationFailed(message) from error
        except database_errors.InsufficientPrivilege as error:
            raise MissingRight(await _denied(connection, names, title, error)) from error
        except database_errors.Error as error:
            if connection.closed:
                raise
            message = f"migration {title} failed and was rolled back: {error}"
            raise MigrationFailed(message) from error
        else:
            reach("migration.committed")
            return done
    return None  # pragma: no cover - the loop returns or raises


async def _denied(
    connection: AsyncConnection[Any], names: Names, title: str, error: database_errors.InsufficientPrivilege
) -> str:
    """Say what was refused, what is there all the same, and who may do it."""
    kept = {_LEDGER: "nothing was changed", _ROLES: "nothing of it was kept; the tables are up to date"}
    return (
        f"migration {title}: the user {connection.info.user!r} may not do that ({error.diag.message_primary}), and "
        f"{kept.get(title, 'nothing of it was kept')}; "
        f"{_what_it_takes(connection, names, title, await _act(connection, names))}"
    )


def _what_it_takes(connection: AsyncConnection[Any], names: Names, title: str, acting: _Acting | None) -> str:
    schema, user, database = names.schema_name, connection.info.user, connection.info.dbname
    by_hand = "or give the SQL (perdure migrate --sql) to who may"
    if acting is None:
        made = f"create schema {quote_identifier(schema)} authorization {quote_identifier(user)}"
        return (
            f"there is no schema {schema!r} yet: it takes one who may create it in the database {database!r}, or "
            f"somebody who makes it for this user ({made}); {by_hand}"
        )
    owner = f"{acting.owner!r}, who owns {'the tables of ' if acting.has_ledger else ''}the schema {schema!r}"
    if title == _ROLES:
        return (
            f"it takes one who may create roles, may create in the database {database!r}, and may act as {owner}; "
            "or give the SQL (perdure migrate --roles --sql prints it at its end) to who may"
        )
    if acting.user == acting.owner:
        return f"{owner}, lacks only that"
    who = f"it takes {owner}, or one who may act as that"
    return who if acting.has_ledger else f"{who}; {by_hand}"


def _file(names: Names, name: str) -> str:
    source = resources.files("perdure.store").joinpath("migrations", f"{name}.sql").read_text("utf-8")
    return names.statements.fill(source, parametrised=False) + "\n"


def _step(names: Names, migration: Migration) -> str:
    """A migration's SQL, with its line in the ledger; the first one's makes that."""
    ledger = _file(names, "ledger") if migration.number == 1 else ""
    return ledger + names.statements.fill(migration.text, parametrised=False) + _entry(names, migration)


def _entry(names: Names, migration: Migration) -> str:
    schema = quote_identifier(names.schema_name)
    values = (
        f"{migration.number}, {quote_literal(migration.name)}, {migration.major}, {quote_literal(migration.checksum)}"
    )
    return f"\ninsert into {schema}.migrations (number, name, major, checksum) values ({values});"
