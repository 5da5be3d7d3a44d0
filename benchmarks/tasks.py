"""The jobs of perdure that are measured, as an application would write them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.payloads import Done, Order
from perdure import App, Context, Suspended
from perdure.retry import FixedDelays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.probe import Probe
    from perdure import Task

Hit: TypeAlias = Callable[..., None]
Defined: TypeAlias = "dict[str, Task[Any, Any, Any, Any]]"

__all__ = ["ROWS", "Position", "Steps", "Tasks", "Tick"]

ROWS = "create table perdure_row (job_id bigint, n int, primary key (job_id, n))"
_ROW = "insert into perdure_row values (%s, %s)"
_SLEEP_SECONDS = (0.010, 0.030)
_LOOK_SECONDS = 0.02
_MANY = 100


@dataclass
class Steps:
    """How often a job is to do what it does."""

    times: int


@dataclass
class Position:
    """A checkpoint: how often it was done; and when somebody let the job go on."""

    number: int = 0
    sent_at_seconds: float = 0.0


@dataclass
class Tick:
    """An event."""

    sent_at_seconds: float


class Tasks:
    """An app, and its tasks by the names of their handlers.

    Attributes:
        app: Not open yet.
    """

    def __init__(self, dsn: str, probe: Probe | None = None, execution: Mapping[str, Any] | None = None) -> None:
        """Define them.

        Args:
            dsn: The database.
            probe: Is told when handlers begin; only where they run.
            execution: Settings of that section; all others are the defaults.
        """
        self.app = App(dsn, execution=dict(execution or {}))
        hit = probe.hit if probe else _nothing
        self._tasks = {
            name: task
            for define in (_define_plain, _define_checkpoints, _define_waiting, _define_held)
            for name, task in define(self.app, hit).items()
        }

    def __getitem__(self, name: str) -> Task[Any, Any, Any, Any]:
        """Return a task."""
        return self._tasks[name]


def _define_plain(app: App, hit: Hit) -> Defined:
    @app.task("bench.noop")
    async def noop(ctx: Context[Order, None]) -> Done:
        hit(ctx.metadata.sent_at_seconds)
        return Done(ctx.metadata.number)

    @app.task("bench.sleepy")
    async def sleepy(ctx: Context[Order, None]) -> Done:
        hit(ctx.metadata.sent_at_seconds)
        await asyncio.sleep(random.uniform(*_SLEEP_SECONDS))
        return Done(ctx.metadata.number)

    return {"noop": noop, "sleepy": sleepy}


def _define_checkpoints(app: App, hit: Hit) -> Defined:
    @app.task("bench.persist")
    async def persist(ctx: Context[Steps, Position]) -> None:
        hit()
        for number in range(ctx.metadata.times):
            ctx.execution_metadata.number = number
            await ctx.persist()

    @app.task("bench.step")
    async def step(ctx: Context[Steps, Position]) -> None:
        hit()
        for number in range(ctx.metadata.times):
            await ctx.step(f"step {number}", _same, number)

    @app.task("bench.transact")
    async def transact(ctx: Context[Steps, Position]) -> None:
        hit()
        for number in range(ctx.metadata.times):
            async with ctx.transaction() as connection:
                await connection.execute(_ROW, [ctx.id, number])
                ctx.execution_metadata.number = number

    return {"persist": persist, "step": step, "transact": transact}


def _define_waiting(app: App, hit: Hit) -> Defined:
    @app.task("bench.listen", events=Tick)
    async def listen(ctx: Context[Steps, None]) -> Suspended | None:
        event = await ctx.next_event()
        if event is None:
            return Suspended()
        hit(event.sent_at_seconds)
        return None

    @app.task("bench.pause")
    async def pause(ctx: Context[Steps, Position]) -> Suspended | None:
        if not ctx.execution_metadata.sent_at_seconds:
            return Suspended()
        hit(ctx.execution_metadata.sent_at_seconds)
        return None

    @app.task("bench.resume")
    async def resume(ctx: Context[Steps, Position]) -> Suspended | None:
        hit()
        if ctx.execution_metadata.number == ctx.metadata.times:
            return None
        ctx.execution_metadata.number += 1
        return Suspended(until=timedelta(0))

    @app.task("bench.flaky", retry=FixedDelays([0], count=_MANY))
    async def flaky(ctx: Context[Steps, None]) -> None:
        hit()
        if ctx.attempt <= ctx.metadata.times:
            message = "not yet"
            raise ConnectionError(message)

    return {"listen": listen, "pause": pause, "resume": resume, "flaky": flaky}


def _define_held(app: App, hit: Hit) -> Defined:
    @app.task("bench.hold")
    async def hold(ctx: Context[Order, Position]) -> None:
        await ctx.persist()
        hit()
        await asyncio.Event().wait()

    @app.task("bench.heed")
    async def heed(ctx: Context[Order, Position]) -> Suspended | None:
        await ctx.persist()
        hit()
        while not ctx.stopping:  # noqa: ASYNC110 - the flag is all there is
            await asyncio.sleep(_LOOK_SECONDS)
        return Suspended(until=timedelta(0))

    return {"hold": hold, "heed": heed}


async def _same(number: int) -> int:
    return number


def _nothing(sent_at_seconds: float = 0.0) -> None:
    """Where no handlers run, nothing is told."""
