"""The demo's app and its task, written as any application would write them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

import psycopg

from perdure.app import App
from perdure.blocking import Context  # noqa: TC001 - perdure reads it off the handler
from perdure.demo import tables
from perdure.demo.index import index_modules, module_paths
from perdure.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.demo.index import Index
    from perdure.task import Task

__all__ = ["BEGAN", "REFUSED", "Indexed", "Library", "Position", "make_app"]

BEGAN: Final = "goes on after %r"
REFUSED: Final = "may not write any more: %s"


@dataclass
class Library:
    """What to index (metadata).

    Attributes:
        folder: Where the modules are.
        page_size: How many of them are indexed in one transaction.
    """

    folder: str
    page_size: int


@dataclass
class Position:
    """How far the job is (execution metadata).

    Attributes:
        after: The last module that is indexed.
        rows: How many rows of each table have been written.
    """

    after: str = ""
    rows: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, path: str, index: Index) -> None:
        """Take note of a module's rows."""
        self.after = path
        for table, count in index.counts().items():
            self.rows[table] = self.rows.get(table, 0) + count


@dataclass
class Indexed:
    """What the job has written, by its own count (result)."""

    rows: dict[str, int]


def index_library(ctx: Context[Library, Position]) -> Indexed:
    """Index a library page by page: the rows of a page and the position after it commit together, or not at all."""
    folder, position = Path(ctx.metadata.folder), ctx.execution_metadata
    ctx.logger.info(BEGAN, position.after)
    paths = module_paths(folder)
    try:
        while page := _page(paths, position.after, ctx.metadata.page_size):
            with ctx.transaction() as connection:
                for path in page:
                    index = index_modules(folder, [path])
                    tables.write(connection, index)
                    position.add(path, index)
            ctx.progress(position.rows["modules"], len(paths), position.after)
    except (LeaseLost, psycopg.Error):
        _say_if_refused(ctx)
        raise
    return Indexed(position.rows)


def _say_if_refused(ctx: Context[Library, Position]) -> None:
    """Say that the attempt has lost its lease, if it has.

    A worker that was frozen inside of the block gets an error of its connection there, whose session PostgreSQL has
    ended; whose job it is now, the context knows.
    """
    try:
        ctx.persist()
    except LeaseLost as error:
        ctx.logger.warning(REFUSED, error)


def _page(paths: Sequence[str], after: str, size: int) -> Sequence[str]:
    first = bisect_right(paths, after)
    return paths[first : first + size]


def make_app(dsn: str | None = None) -> tuple[App, Task[Library, Position, Indexed, Never]]:
    """Make the app and its task, with settings that let the demo be short.

    Args:
        dsn: The database; otherwise as configured.
    """
    app = App(
        dsn,
        persistence={"schema_name": tables.JOBS_SCHEMA},
        scheduling={"polling_delay": 0.2, "scheduler_retry_count": 5, "scheduler_retry_delays": [0.5]},
        execution={
            "lease_duration": 2,  # the shortest there is
            "shutdown_grace": 0.2,
            "max_lapses": 1000,  # no worker here is to blame for its end
            "concurrency": 1,
        },
    )
    return app, app.task("library.index")(index_library)
