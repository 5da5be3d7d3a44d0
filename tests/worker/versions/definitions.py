"""Version 3 of a task's payloads, how older ones are brought up to it, and looks at jobs' rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg

from perdure import App, Context, Job  # noqa: TC001 - a task's annotation is evaluated
from tests.support.jobs import until

SCHEDULING = {"polling_delay": 0.05, "scheduler_retry_count": 5, "scheduler_retry_delays": [0]}
EXECUTION = {"shutdown_grace": 0.2, "cancel_grace": 0.2}


@dataclass
class Meta:
    """Version 3 of the metadata."""

    shop: str
    country: str


@dataclass
class Progress:
    """Version 3 of the execution metadata."""

    pages: list[int] = field(default_factory=list)


@dataclass
class Approved:
    """Version 3 of the events."""

    by: str
    why: str


def first(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {"shop": data}
        case "execution_metadata":
            return {"page": data}
        case _:
            return {"by": data}


def second(kind: str, data: Any) -> Any:
    match kind:
        case "metadata":
            return {**data, "country": "lv"}
        case "execution_metadata":
            return {"pages": [data["page"]]}
        case _:
            return {**data, "why": "?"}


UPGRADES = {1: first, 2: second}


class Rows:
    """Looks at jobs' rows."""

    def __init__(self, dsn: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)

    def columns(self, job: Job[Any, Any, Any, Any], names: str) -> tuple[Any, ...]:
        """Read columns of a live job."""
        row: Any = self.connection.execute(
            f"select {names} from background_tasks.jobs where id = %s".encode(), [job.id]
        ).fetchone()
        found: tuple[Any, ...] = row
        return found

    def set(self, job: Job[Any, Any, Any, Any], settings: str) -> None:
        """Change columns of a live job."""
        self.connection.execute(f"update background_tasks.jobs set {settings} where id = %s".encode(), [job.id])

    async def until_deferred(self, job: Job[Any, Any, Any, Any], times: int) -> None:
        """Wait until a job was found unreadable so often."""
        await until(lambda: self.columns(job, "unreadable, state") == (times, 0), f"deferred {times} times")


def task_of_version_1(app: App) -> Any:
    @app.task("t", events=str)
    async def task(ctx: Context[str, int]) -> str:
        return f"version 1 has done {ctx.metadata} from {ctx.execution_metadata}"

    return task
