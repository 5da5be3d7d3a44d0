"""Makes sure, before a worker begins, that it can work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from perdure.errors import DatabaseUnavailable
from perdure.store import migrate
from perdure.store.refusals import for_log

if TYPE_CHECKING:
    from perdure.app import App

__all__ = ["check"]


async def check(app: App) -> None:
    """Make sure that a worker of this version can work on the schema, as the app's user.

    Raises:
        DatabaseUnavailable: There is no database (any more).
        StoreError: It can't; the message tells what to do.
    """
    try:
        async with app.pool.connection() as connection:
            await migrate.check_worker(connection, app.names)
    except psycopg.OperationalError as error:  # the pool's, too, when it has no connection in time
        message = f"the database went away while its schema was checked: {for_log(error)}"
        raise DatabaseUnavailable(message) from error
