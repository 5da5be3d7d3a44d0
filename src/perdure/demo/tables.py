"""The tables that the job fills, as any application has its own; and the demo's room in the database.

They have no keys and no constraints, on purpose: a row that was written twice is to be seen, not refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import tuple_row

from perdure.demo.index import Definition, Import, Index, Module, Name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import LiteralString

    from psycopg import AsyncConnection, Connection

__all__ = ["JOBS_SCHEMA", "ROWS_SCHEMA", "clear", "create", "read", "try_lock", "write"]

JOBS_SCHEMA: Final = "perdure_demo"
"""Where perdure has its tables, `persistence.schema_name`."""

ROWS_SCHEMA: Final = "perdure_demo_library"
"""Where the job has its own."""

_CLEAR: Final = "drop schema if exists perdure_demo, perdure_demo_library cascade"

_CREATE: Final = """
    create schema perdure_demo_library
        create table modules (path text, lines int, is_readable boolean)
        create table definitions (path text, line int, kind text, name text)
        create table imports (path text, line int, imported text)
        create table names (path text, name text, uses int)
"""

_COPY: Final[Mapping[str, LiteralString]] = {
    "modules": "copy perdure_demo_library.modules (path, lines, is_readable) from stdin",
    "definitions": "copy perdure_demo_library.definitions (path, line, kind, name) from stdin",
    "imports": "copy perdure_demo_library.imports (path, line, imported) from stdin",
    "names": "copy perdure_demo_library.names (path, name, uses) from stdin",
}

# Held by the demo's own session for as long as it runs: two demos at once would clear away each other's tables.
_LOCK: Final = "select pg_try_advisory_lock(hashtextextended('perdure demo', 0))"


async def try_lock(connection: AsyncConnection[Any]) -> bool:
    """Take the demo's room in this database, until the connection is closed; False when another demo has it."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_LOCK)
        return await cursor.fetchone() == (True,)


async def clear(connection: AsyncConnection[Any]) -> None:
    """Drop all that a demo has made."""
    await connection.execute(_CLEAR)


async def create(connection: AsyncConnection[Any]) -> None:
    """Make the job's tables."""
    await connection.execute(_CREATE)


def write(connection: Connection[Any], index: Index) -> None:
    """Add rows, in whatever transaction the connection is in."""
    with connection.cursor() as cursor:
        for table, rows in index.by_table().items():
            with cursor.copy(_COPY[table]) as copy:
                for row in rows:
                    copy.write_row(row)


async def read(connection: AsyncConnection[Any]) -> Index:
    """Read all rows."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute("select path, lines, is_readable from perdure_demo_library.modules")
        modules = [Module(*row) async for row in cursor]
        await cursor.execute("select path, line, kind, name from perdure_demo_library.definitions")
        definitions = [Definition(*row) async for row in cursor]
        await cursor.execute("select path, line, imported from perdure_demo_library.imports")
        imports = [Import(*row) async for row in cursor]
        await cursor.execute("select path, name, uses from perdure_demo_library.names")
        names = [Name(*row) async for row in cursor]
    return Index(modules, definitions, imports, names)
