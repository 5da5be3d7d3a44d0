"""Jobs of every kind, for workers that die: each leaves traces by which one can tell what was done, and how often.

A row of `effects` is one piece of work: of which kind, job and attempt, and its number within the job. The checkpoint
says which attempt has written it, the result which one has ended the job: that is what the checkers of histories ask.
The same code defines the tasks in the workers and in the test that starts them.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from perdure import App, Context, Failed, Suspended, blocking
from perdure.failpoints import Failpoints

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EFFECTS", "KINDS", "TOLD", "TOTAL", "Number", "Progress", "make"]

EFFECTS = "create table effects (kind text, job bigint, attempt int, n int, at timestamptz default clock_timestamp())"
TOTAL = 4
"""How many pieces of work a job has."""

KINDS = (
    *("persist", "transaction", "thread", "steps", "events", "suspend", "retries", "fails", "cancels"),
    *("plain", "newcomer"),
)
TOLD = "cancels, told"
"""Where a handler has been told of its cancel, and hasn't ended."""

_GATE_LOOK_SECONDS = 0.02
_PIECE_SECONDS = 0.1
_gate = Path(os.environ.get("TEST_GATE", "/"))
_body = Failpoints(os.environ.get("TEST_BODY", ""), variable="TEST_BODY", points=(*KINDS, TOLD))


@dataclass
class Progress:
    """How far a job is: how much it has done, what it has seen; and the attempt that says so."""

    writer: int = 0
    done: int = 0
    seen: list[int] = field(default_factory=list[int])


@dataclass
class Number:
    """An event."""

    n: int


@dataclass
class Refused:
    """An error."""

    why: str


async def _begin() -> None:
    """Wait for the gate, where there is one: a file that the test makes."""
    while not _gate.exists():  # noqa: ASYNC110, ASYNC240 - it comes from another process; the look is short
        await asyncio.sleep(_GATE_LOOK_SECONDS)


class Outside:
    """Effects outside of perdure's transactions: on a connection of their own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._opening = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def add(self, kind: str, ctx: Context[Any, Any], n: int) -> None:
        async with self._opening:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        await self._connection.execute(_INSERT, [kind, ctx.id, ctx.attempt, n])


_INSERT = "insert into effects (kind, job, attempt, n) values (%s, %s, %s, %s)"


def make(dsn: str, *, execution: Mapping[str, Any] | None = None, knows_newcomer: bool = True) -> App:
    """Make the app; without the newcomer it stands for code that is older than a task's."""
    app = App(
        dsn,
        scheduling={"polling_delay": 0.1, "scheduler_retry_count": 1, "scheduler_retry_delays": [0]},
        execution={"lease_duration": 2, "max_lapses": 100, "max_retry_count": 100, **(execution or {})},
    )
    outside = Outside(dsn)
    _add_checkpointed(app, outside)
    _add_waiting(app)
    _add_ending(app)
    _add_cancelled(app, outside)
    if knows_newcomer:

        @app.task("newcomer")
        async def newcomer(ctx: Context[None, None]) -> int:
            await _begin()
            _body.reach("newcomer")
            return ctx.attempt

    return app


def _add_checkpointed(app: App, outside: Outside) -> None:
    @app.task("persist")
    async def persist(ctx: Context[None, Progress]) -> int:
        await _begin()
        progress = ctx.execution_metadata
        while progress.done < TOTAL:
            await outside.add("persist", ctx, progress.done)
            _body.reach("persist")
            progress.done, progress.writer = progress.done + 1, ctx.attempt
            await ctx.progress(progress.done, TOTAL)
            await ctx.persist()
        return ctx.attempt

    @app.task("transaction")
    async def transaction(ctx: Context[None, Progress]) -> int:
        await _begin()
        progress = ctx.execution_metadata
        while progress.done < TOTAL:
            async with ctx.transaction() as connection:
                await connection.execute(_INSERT, ["transaction", ctx.id, ctx.attempt, progress.done])
                _body.reach("transaction")
                progress.done, progress.writer = progress.done + 1, ctx.attempt
        return ctx.attempt

    @app.task("thread")
    def thread(ctx: blocking.Context[None, Progress]) -> int:
        while not _gate.exists():
            time.sleep(_GATE_LOOK_SECONDS)
        progress = ctx.execution_metadata
        while progress.done < TOTAL:
            with ctx.transaction() as connection:
                connection.execute(_INSERT, ["thread", ctx.id, ctx.attempt, progress.done])
                _body.reach("thread")
                progress.done, progress.writer = progress.done + 1, ctx.attempt
        return ctx.attempt

    @app.task("steps")
    async def steps(ctx: Context[None, Progress]) -> int:
        async def work(n: int) -> int:
            await outside.add("steps", ctx, n)
            _body.reach("steps")
            return ctx.attempt

        await _begin()
        by = [await ctx.step(f"step {n}", work, n) for n in range(TOTAL)]
        ctx.execution_metadata.seen, ctx.execution_metadata.writer = by, ctx.attempt
        return ctx.attempt


def _add_waiting(app: App) -> None:
    @app.task("events", events=Number)
    async def events(ctx: Context[None, Progress]) -> int | Suspended:
        await _begin()
        progress = ctx.execution_metadata
        while len(progress.seen) < TOTAL:
            event = await ctx.next_event()
            _body.reach("events")
            if event is None:
                return Suspended()
            progress.seen.append(event.n)
            progress.writer = ctx.attempt
            if event.n % 2:
                await ctx.persist()
        return ctx.attempt

    @app.task("suspend")
    async def suspend(ctx: Context[None, Progress]) -> int | Suspended:
        await _begin()
        progress = ctx.execution_metadata
        if progress.done == TOTAL:
            return ctx.attempt
        progress.writer = ctx.attempt
        async with ctx.transaction() as connection:
            await connection.execute(_INSERT, ["suspend", ctx.id, ctx.attempt, progress.done])
            progress.done += 1
        _body.reach("suspend")
        progress.seen.append(progress.done)  # stored with the suspension, or not at all
        return Suspended(until=timedelta(seconds=0.05)) if progress.done % 2 else Suspended()


def _add_ending(app: App) -> None:
    @app.task("retries")
    async def retries(ctx: Context[None, Progress]) -> int:
        await _begin()
        progress = ctx.execution_metadata
        if progress.done == TOTAL:
            return ctx.attempt
        progress.done, progress.writer = progress.done + 1, ctx.attempt
        await ctx.persist()
        _body.reach("retries")
        await ctx.progress(
            progress.done, TOTAL
        )  # a write that goes alone is prepared first, and sent once that is done
        message = f"for the {progress.done}th time"
        raise RuntimeError(message)

    @app.task("fails", max_retry_count=2)
    async def fails(ctx: Context[None, Progress]) -> Failed[Refused]:
        await _begin()
        ctx.execution_metadata.done += 1
        ctx.execution_metadata.writer = ctx.attempt
        _body.reach("fails")
        return Failed(Refused(f"{ctx.execution_metadata.done} times"))

    @app.task("plain")
    async def plain(ctx: Context[float, None]) -> int:
        await _begin()
        _body.reach("plain")
        await asyncio.sleep(ctx.metadata)
        return ctx.attempt


def _add_cancelled(app: App, outside: Outside) -> None:
    @app.task("cancels")
    async def cancels(ctx: Context[bool, Progress]) -> int:
        """Work until it is cancelled; with `True` it returns a value all the same."""
        await _begin()
        progress = ctx.execution_metadata
        try:
            while True:
                await outside.add("cancels", ctx, progress.done)
                _body.reach("cancels")
                progress.done, progress.writer = progress.done + 1, ctx.attempt
                await ctx.persist()
                await asyncio.sleep(_PIECE_SECONDS)
        except asyncio.CancelledError:
            _body.reach(TOLD)
            if ctx.metadata:
                return ctx.attempt
            raise
