"""A job that stands still while an old write of its own arrives: what it does before, and looks at its rows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg

from perdure import App, Context, Job, JobState, Suspended
from tests.support.clients import Hands
from tests.support.jobs import is_in, until

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

__all__ = ["Late", "make_app"]

_GATE_SECONDS: Final = 60.0
_LONG: Final = timedelta(milliseconds=50)
# With the version of each row, so that one that is written as it was is noticed, too.
_LOOK: Final = """
    select 'job', to_jsonb(jobs)::text, jobs.xmin::text from background_tasks.jobs where id = %(id)s
    union all
    select 'finished job', to_jsonb(ended)::text, ended.xmin::text
    from background_tasks.finished_jobs as ended where id = %(id)s
    union all
    select 'step', to_jsonb(steps)::text, steps.xmin::text from background_tasks.steps where job_id = %(id)s
    union all
    select 'attempt', to_jsonb(attempts)::text, attempts.xmin::text
    from background_tasks.attempts where job_id = %(id)s
    union all
    select 'effect', to_jsonb(effects)::text, effects.xmin::text from effects
    order by 1, 2
"""


@dataclass
class Act:
    """What the first attempt does."""

    what: str


@dataclass
class Place:
    """A checkpoint."""

    rows: int = 0


class Refusal(Exception):
    """What an act raises that is to raise."""


class Gate:
    """Where an attempt stands until it is let on.

    Attributes:
        began: The attempts that have begun, in their order.
    """

    def __init__(self) -> None:
        """Closed."""
        self.began: list[int] = []
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def hold(self) -> None:
        """Stand still."""
        self._reached.set()
        await self._opened.wait()

    async def reached(self) -> None:
        """Wait until an attempt stands here."""
        await asyncio.wait_for(self._reached.wait(), _GATE_SECONDS)

    def open(self) -> None:
        """Let it on."""
        self._opened.set()


def make_app(dsn: str, *, lease_seconds: float = 30) -> App:
    """Make an app whose retries come at once."""
    return App(
        dsn,
        scheduling={"polling_delay": 0.05, "scheduler_retry_count": 5, "scheduler_retry_delays": [0]},
        execution={"lease_duration": lease_seconds, "shutdown_grace": 0, "cancel_grace": 0.2, "max_lapses": 100},
    )


def _define(app: App, proxy: Proxy, gate: Gate) -> None:
    """Define the task: its first attempt acts, and ends or stands at the gate; a later one stands there at once."""

    def upgrade(_kind: str, data: Any) -> Any:
        return data

    @app.task("held", version=2, upgrades={1: upgrade})
    async def held(ctx: Context[Act, Place]) -> int | Suspended:
        gate.began.append(ctx.attempt)
        place, what = ctx.execution_metadata, ctx.metadata.what
        if what == "sleep" and ctx.attempt <= 2:  # two attempts: it is suspended meanwhile
            await ctx.sleep(_LONG, key="sleep")
            return ctx.attempt
        if ctx.attempt == 1:
            outcome = await _first(ctx, what, proxy)
            if outcome is not None:
                return outcome
        if what == "progress":
            await ctx.progress(2)
        await gate.hold()
        place.rows += 10
        await ctx.persist()
        return ctx.attempt


async def _first(ctx: Context[Act, Place], what: str, proxy: Proxy) -> int | Suspended | None:  # noqa: C901, PLR0912 - acts
    place = ctx.execution_metadata
    match what:
        case "persist twice" | "persist and raise":
            place.rows = 1
            await ctx.persist()
        case "step":
            await ctx.step("step", _call)
        case "commit twice" | "commit and raise":
            try:
                await _commit(ctx)
            except psycopg.OperationalError:
                assert place.rows == 0  # it was found not to have landed
            else:
                message = "it wasn't cut"
                raise AssertionError(message)
        case "return":
            return ctx.attempt
        case "suspend":
            return Suspended()
        case "progress":
            await ctx.progress(1)
            await until(proxy.broken.is_set, "it is cut")
        case _:
            pass
    match what:
        case "persist twice" | "step" | "upgrade":
            place.rows = 2
            await ctx.persist()
        case "commit twice":
            await _commit(ctx)
        case "persist and raise" | "commit and raise" | "progress" | "raise":
            raise Refusal
        case _:
            pass
    return None


async def _commit(ctx: Context[Act, Place]) -> None:
    async with ctx.transaction() as connection:
        await connection.execute("insert into effects values (%s)", [ctx.execution_metadata.rows])
        ctx.execution_metadata.rows += 1


async def _call() -> int:
    return 1


class Late:
    """A worker behind the proxy, one beside it, the gate that both share, and hands on the rows."""

    def __init__(self, proxy: Proxy) -> None:
        """Prepare both apps; whoever has this opens them."""
        self.proxy, self.gate, self.hands = proxy, Gate(), Hands(proxy.direct_dsn)
        self.hands.sql("create table effects (n int)")
        self.app, self.other = (make_app(dsn) for dsn in (proxy.dsn, proxy.direct_dsn))
        for app in (self.app, self.other):
            _define(app, proxy, self.gate)

    async def start(self, what: str) -> Job[Any, Any, Any, Any]:
        """Start the job; not through the proxy."""
        job = await self.other.tasks["held"].start(Act(what))
        if what == "upgrade":
            self.hands.make(job, version=1)
        return job

    async def let_on(self, job: Job[Any, Any, Any, Any], between: str) -> None:
        """Do what makes a job run again."""
        match between:
            case "retry" | "retry afresh":
                await is_in(job, JobState.COMPLETED)
                await self.other.retry(job.id, afresh=between == "retry afresh")
            case "proceed":
                await is_in(job, JobState.SUSPENDED)
                await self.other.proceed(job.id)
            case "progress":
                await until(lambda: (self.hands.column(job, "progress") or {}).get("done") == 2, "it is newer")
            case "mend":
                await until(lambda: self.hands.column(job, "unreadable") == 1, "it is deferred")
                self.hands.sql(
                    "update background_tasks.jobs set metadata = %s, scheduled_at = now(), unreadable = 0",
                    '{"what": "nothing"}',
                )
            case _:
                pass

    def rows(self, job: Job[Any, Any, Any, Any]) -> list[tuple[Any, ...]]:
        """Read all that is stored of the job."""
        return self.hands.connection.execute(_LOOK, {"id": job.id}).fetchall()
