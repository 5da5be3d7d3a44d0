"""Brings the schema up to date, and tells whether it is.

The numbered files in `migrations/` are the sole truth of the schema. Each is applied in one transaction with its
line in the ledger, under a transaction-level advisory lock, so ten processes may start at once and a pooler may be
in between. Migrations within one major version only add, so that a worker of the previous version keeps working.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from psycopg import errors as database_errors
from psycopg.rows import tuple_row

from perdure.errors import MigrationFailed, MissingRight, SchemaOutdated, SchemaTooNew, ServerTooOld
from perdure.failpoints import reach
from perdure.store import calls, roles
from perdure.store.calls import Call
from perdure.store.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
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
_SET_OPTION_SERVER = 160000
_LOCK_TIMEOUT = "5s"
_ATTEMPTS = 24  # of taking locks within the time-out: two minutes beside a busy table
_FILE = re.compile(r"(\d{3})_(\w+)\.sql")


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
    """Return the SQL of all migrations as one script, to be read or run by hand; `with_roles`, of the roles too."""
    steps = [_filled(names, step) + _entry(names, step) for step in migrations()]
    if with_roles:
        steps.append(roles.script(names))
    return "\n".join([_ledger(names), *(f"begin;\n{step}\ncommit;\n" for step in steps)])


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
    if state.major > MAJOR:
        message = (
            f"schema {names.schema_name!r} is of major version {state.major}, this perdure understands {MAJOR}: "
            "upgrade perdure in this process"
        )
        raise SchemaTooNew(message)
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
    """Apply what is missing, each migration in a transaction of its own, and as the owner of the schema.

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
        MigrationFailed: A migration failed, or locks couldn't be had for two minutes; nothing of it was kept.
    """
    check_server(connection)
    try:
        state = await schema_state(connection, names)
    except database_errors.InsufficientPrivilege as error:
        raise _refused(connection, names, "of the ledger", error) from error
    if state.major > MAJOR:
        await check_schema(connection, names)
    if not state.exists:
        await _retried(connection, names, "of the ledger", _ledger(names))
    owner = await _owner(connection, names)
    applied = [migration for migration in state.pending if await _apply(connection, names, migration, owner)]
    if with_roles or (applied and owner == roles.roles_of(names).owner):
        await _retried(connection, names, "of the roles", roles.script(names))
    return applied


async def _owner(connection: AsyncConnection[Any], names: Names) -> str:
    """Return the schema's owner; this user itself, when it may not act as that."""
    # Before 16 whoever is a member may.
    acting = "set" if connection.info.server_version >= _SET_OPTION_SERVER else "member"
    parameters = {"schema": names.schema_name, "acting": acting}
    return await calls.run(connection, Call(names.statements["owner"], parameters, lambda rows: str(rows[0][0])))


async def _apply(connection: AsyncConnection[Any], names: Names, migration: Migration, owner: str) -> bool:
    title = f"{migration.number:03}_{migration.name}"
    exists = f"select from {quote_identifier(names.schema_name)}.migrations where number = {migration.number}"
    acting = f"select set_config('role', {quote_literal(owner)}, true);\n"
    statement = acting + _filled(names, migration) + _entry(names, migration)
    return await _retried(connection, names, title, statement, unless=exists)


async def _retried(
    connection: AsyncConnection[Any],
    names: Names,
    title: str,
    statement: str,
    *,
    unless: str | None = None,
) -> bool:
    """Run the statement in a transaction under the migrators' lock, again while locks can't be had."""
    for attempt in range(_ATTEMPTS):
        try:
            async with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                # A busy table must not queue its readers behind us for longer than this.
                await cursor.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'".encode())
                await cursor.execute("select pg_advisory_xact_lock(%s)", [names.advisory_key])
                if unless is not None:
                    await cursor.execute(unless.encode())
                    if await cursor.fetchone() is not None:
                        return False
                await cursor.execute(statement.encode())
                reach("migration.uncommitted")
        except (database_errors.LockNotAvailable, database_errors.DeadlockDetected) as error:
            if attempt == _ATTEMPTS - 1:
                message = (
                    f"migration {title}: no lock could be had in {_ATTEMPTS} attempts of {_LOCK_TIMEOUT}; "
                    "nothing was changed"
                )
                raise MigrationFailed(message) from error
        except database_errors.InsufficientPrivilege as error:
            raise _refused(connection, names, title, error) from error
        except database_errors.Error as error:
            if connection.closed:
                raise
            message = f"migration {title} failed and was rolled back: {error}"
            raise MigrationFailed(message) from error
        else:
            reach("migration.committed")
            return True
    return False  # pragma: no cover - the loop returns or raises


def _refused(
    connection: AsyncConnection[Any], names: Names, title: str, error: database_errors.InsufficientPrivilege
) -> MissingRight:
    user, said = connection.info.user, error.diag.message_primary
    return MissingRight(
        f"migration {title}: the user {user!r} may not do that ({said}), and nothing of it was kept; it takes the "
        f"owner of the schema {names.schema_name!r}, and to make roles (--roles) one who may create them: be that, or "
        "give the SQL (perdure migrate --sql) to who is"
    )


def _filled(names: Names, migration: Migration) -> str:
    return names.statements.fill(migration.text, parametrised=False)


def _entry(names: Names, migration: Migration) -> str:
    schema = quote_identifier(names.schema_name)
    values = (
        f"{migration.number}, {quote_literal(migration.name)}, {migration.major}, {quote_literal(migration.checksum)}"
    )
    return f"\ninsert into {schema}.migrations (number, name, major, checksum) values ({values});"


def _ledger(names: Names) -> str:
    source = resources.files("perdure.store").joinpath("migrations", "ledger.sql").read_text("utf-8")
    return names.statements.fill(source, parametrised=False)
