"""Brings a test's database up to date by perdure's own migrations."""

from __future__ import annotations

import asyncio
import threading

import psycopg

__all__ = ["migrate_database"]


def migrate_database(dsn: str, schema_name: str = "background_tasks") -> None:
    """Migrate a schema of a database; callable from anywhere, also beside a running event loop."""
    # Not at the top while the store is being built: a slip there must not stop the tests that don't need it.
    from perdure.store import migrate  # noqa: PLC0415
    from perdure.store.sql import names_of  # noqa: PLC0415

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await migrate.migrate(connection, names_of(schema_name))

    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that asked
            failures.append(error)

    thread = threading.Thread(target=in_thread, name="migrate")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
