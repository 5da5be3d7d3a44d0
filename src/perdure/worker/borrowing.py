"""What a worker does on the application's connections: before it has any of its own, and when it has none any more.

The pool limits how long one waits for a connection. How long for an answer, is limited here: a connection may be silent
for ever, and one that was used just now is lent untried.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import psycopg

from perdure.errors import DatabaseUnavailable, PerdureError
from perdure.store import calls, leases, migrate
from perdure.store.links import cut_after
from perdure.store.refusals import for_log

if TYPE_CHECKING:
    from perdure.app import App

__all__ = ["check", "wake_others"]

_CHECK_SECONDS: Final = 10.0
_WAKE_SECONDS: Final = 1.0


async def check(app: App) -> None:
    """Make sure that a worker of this version can work on the schema, as the app's user.

    Raises:
        DatabaseUnavailable: There is no database (any more), or it doesn't answer within 10 seconds.
        StoreError: It can't; the message tells what to do.
    """
    try:
        async with app.pool.connection() as connection:
            with cut_after(connection, _CHECK_SECONDS):
                await migrate.check_worker(connection, app.names)
    except psycopg.OperationalError as error:  # the pool's, too, when it has no connection in time
        message = f"the database went away while its schema was checked: {for_log(error)}"
        raise DatabaseUnavailable(message) from error


async def wake_others(app: App) -> None:
    """Tell other workers of the jobs that this one has given back; without it they find them by polling."""
    with contextlib.suppress(psycopg.Error, PerdureError):
        async with app.pool.connection(timeout=_WAKE_SECONDS) as connection:
            with cut_after(connection, _WAKE_SECONDS):
                await calls.run(connection, leases.wake(app.names))
