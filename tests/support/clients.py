"""What the tests of the clients' verbs work with: an app's tasks, and hands on its rows, in place of a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg

from perdure import App, Context, Failed, Suspended  # noqa: TC001 - handlers' annotations are read

if TYPE_CHECKING:
    from perdure import Job, JobState

__all__ = [
    "SESSIONS",
    "WORKER",
    "Approved",
    "Hands",
    "Imported",
    "Meta",
    "Needs",
    "Progress",
    "Rejected",
    "ShopClosed",
    "define",
    "fail_to_grow",
    "grown",
    "stored",
    "suspended",
    "until_found",
    "until_waiting",
]

_KEPT = (
    "id, scheduled_at, created_at, started_at, worker_id, claim, attempt, retry_number, checkpoint, priority, queue, "
    "task, metadata, execution_metadata, last_error, progress, woken_by, deadline_at, version"
)
SESSIONS = "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
"""Who else is connected."""
WORKER = "00000000-0000-0000-0000-000000000001"


@dataclass
class Meta:
    """A job's input."""

    shop: str


@dataclass
class Progress:
    """A checkpoint."""

    rows: int = 0
    seen: list[str] = field(default_factory=list)


@dataclass
class Needs:
    """A checkpoint without a default."""

    token: str


@dataclass
class Imported:
    """A result."""

    rows: int


@dataclass
class ShopClosed:
    """A declared error."""

    since: str


@dataclass
class Approved:
    """An event."""

    by: str


@dataclass
class Rejected:
    """Another event."""

    by: str
    why: str = ""


def define(app: App) -> Any:
    """Define the tasks, and return the first."""

    @app.task("orders.import", queue="imports", priority=7, events=Approved | Rejected)
    async def import_orders(ctx: Context[Meta, Progress]) -> Imported | Failed[ShopClosed] | Suspended:
        return Imported(ctx.execution_metadata.rows)

    @app.task("needs.checkpoint")
    async def needs_checkpoint(_: Context[None, Needs]) -> None: ...

    @app.task("nothing")
    async def nothing(_: Context[None, None]) -> None: ...

    return import_orders


class Hands:
    """Brings jobs into states that only a worker brings about, and looks at rows; in autocommit mode."""

    def __init__(self, dsn: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement."""
        cursor = self.connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def make(self, job: Job[Any, Any, Any, Any], **columns: object) -> None:
        """Set columns of a live job."""
        settings = ", ".join(f"{name} = %s" for name in columns)
        self.sql(f"update background_tasks.jobs set {settings} where id = %s", *columns.values(), job.id)

    def suspend(self, *jobs: Job[Any, Any, Any, Any]) -> None:
        """Suspend jobs for ever."""
        for job in jobs:
            self.make(job, state=4, worker_id=None, scheduled_at=None)

    def run(self, job: Job[Any, Any, Any, Any]) -> None:
        """Let a job run."""
        self.make(job, state=2, worker_id=WORKER, attempt=1, claim=1)

    def end(self, job: Job[Any, Any, Any, Any], state: int, **columns: object) -> None:
        """End a job: 6 completed, 7 failed, 8 cancelled."""
        self.sql(
            "with ended as (delete from background_tasks.jobs where id = %s returning *) "
            f"insert into background_tasks.finished_jobs ({_KEPT}, finished_at, state) "
            f"select {_KEPT}, clock_timestamp(), %s from ended",
            job.id,
            state,
        )
        for name, value in columns.items():
            self.sql(f"update background_tasks.finished_jobs set {name} = %s where id = %s", value, job.id)

    def column(self, job: Job[Any, Any, Any, Any], name: str) -> Any:
        """Read a column of a live job."""
        return self.sql(f"select {name} from background_tasks.jobs where id = %s", job.id)[0][0]

    def count(self) -> int:
        """Count the jobs, ended ones too."""
        return int(self.sql("select count(*) from background_tasks.all_jobs")[0][0])

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


async def until_found(hands: Hands, statement: str, *, finds: bool) -> None:
    """Wait until a statement finds something, or nothing."""
    async with asyncio.timeout(20):
        while bool(hands.sql(statement)) is not finds:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def until_waiting(hands: Hands) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(20):
        while not hands.sql(  # noqa: ASYNC110 - nothing tells
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        ):
            await asyncio.sleep(0.01)


async def suspended(task: Any, hands: Hands, shop: str = "riga") -> Any:
    """Start a job, and suspend it for ever."""
    job = await task.start(Meta(shop))
    hands.suspend(job)
    return job


async def stored(job: Job[Any, Any, Any, Any]) -> tuple[JobState, Any]:
    """Read the state and the checkpoint that are stored."""
    await job.refresh()
    return job.state, job.execution_metadata


def grown(progress: Progress) -> Progress:
    """Count a row more: a modification."""
    return replace(progress, rows=progress.rows + 1)


def fail_to_grow(_: Progress) -> Progress:
    """Raise, as a modification may."""
    raise ValueError("no such page")  # noqa: EM101, TRY003 - what the caller's function raises
