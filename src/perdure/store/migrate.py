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

from perdure.errors import MigrationFailed, SchemaOutdated, SchemaTooNew, ServerTooOld
from perdure.failpoints import reach
from perdure.store.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from perdure.store.sql import Names

__all__ = ["MAJOR", "Migration", "SchemaState", "check_schema", "migrate", "migrations", "schema_state", "script"]

MAJOR = 1
"""The major version of the schema that this code understands."""

_OLDEST_SERVER = 140000
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


def script(names: Names) -> str:
    """Return the SQL of all migrations as one script, to be read or run by hand."""
    steps = [f"begin;\n{_filled(names, step)}{_entry(names, step)}\ncommit;\n" for step in migrations()]
    return "\n".join([_ledger(names), *steps])


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


async def migrate(connection: AsyncConnection[Any], names: Names) -> list[Migration]:
    """Apply what is missing, each migration in a transaction of its own.

    Args:
        connection: In autocommit mode and not in a transaction.
        names: The schema's names.

    Returns:
        The migrations that this call applied; none when another process was first.

    Raises:
        ServerTooOld: PostgreSQL is older than 14.
        SchemaTooNew: A newer major version has migrated the schema.
        MigrationFailed: A migration failed, or locks couldn't be had for two minutes; nothing of it was kept.
    """
    check_server(connection)
    state = await schema_state(connection, names)
    if state.major > MAJOR:
        await check_schema(connection, names)
    if not state.exists:
        await _retried(connection, names, "the ledger", _ledger(names))
    return [migration for migration in state.pending if await _apply(connection, names, migration)]


async def _apply(connection: AsyncConnection[Any], names: Names, migration: Migration) -> bool:
    title = f"{migration.number:03}_{migration.name}"
    exists = f"select from {quote_identifier(names.schema_name)}.migrations where number = {migration.number}"
    statement = _filled(names, migration) + _entry(names, migration)
    return await _retried(connection, names, title, statement, unless=exists)


async def _retried(
    connection: AsyncConnection[Any], names: Names, title: str, statement: str, unless: str | None = None
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
        except database_errors.Error as error:
            if connection.closed:
                raise
            message = f"migration {title} failed and was rolled back: {error}"
            raise MigrationFailed(message) from error
        else:
            reach("migration.committed")
            return True
    return False  # pragma: no cover - the loop returns or raises


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
