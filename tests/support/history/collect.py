"""Puts a history together: what processes have written down, and what the database says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.support.history import journal
from tests.support.history.lines import read_lines
from tests.support.history.values import History

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.history.lines import Line
    from tests.support.history.values import Rules, Session

__all__ = ["collect", "read_folder"]


def read_folder(folder: Path) -> dict[str, list[Line]]:
    """Read all lines that were written into a folder, by file."""
    return {path.name: list(read_lines(path)) for path in sorted(folder.glob("*.jsonl"))}


def collect(
    dsn: str,
    folder: Path,
    rules: Rules,
    *,
    schema_name: str = "background_tasks",
    sessions: list[Session] | None = None,
    after: int = 0,
) -> History:
    """Collect the history of a run that is at rest.

    Args:
        dsn: Its database, in which the log was installed.
        folder: Where its processes have written their lines.
        rules: Its settings.
        schema_name: perdure's schema.
        sessions: What was left of the workers after their end, if all have ended.
        after: Jobs of this id, and of smaller ones, were another run's.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        return History(
            lines=read_folder(folder),
            images=journal.read_images(connection),
            effects=journal.read_effects(connection),
            workers=journal.read_workers(connection),
            rows=journal.read_rows(connection, schema_name, after=after),
            unread=journal.read_unread(connection, schema_name, after=after),
            orders=journal.read_orders(connection),
            leases=journal.read_leases(connection),
            sessions=sessions or [],
            ended_at=journal.database_seconds(connection),
            rules=rules,
        )
