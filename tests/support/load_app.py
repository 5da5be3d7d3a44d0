"""An app under load: its handlers write down what they do, for the checkers. Run as a module it is a worker.

A job writes its rows inside `ctx.transaction()`, and its effects outside of it, each counted by a checkpoint.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure import App, Context, LeaseLost
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.worker.run import run_worker
from tests.support.history import Recorder
from tests.support.history.lines import Began, Effect, Ended

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["POLLING_SECONDS", "RETRIES", "Order", "Place", "define"]

POLLING_SECONDS = 0.2

RETRIES = 10_000
"""How often an attempt may raise: a server that is away makes them raise."""

_INSERT = "insert into history.effects (job, number, attempt) values (%s, %s, %s)"


@dataclass
class Order:
    """What a job is to do: rows, then effects."""

    key: str
    rows: int = 2
    effects: int = 1


@dataclass
class Place:
    """How far it is."""

    writer: int = 0
    rows: int = 0
    effects: int = 0


class _Notes:
    """What handlers write down."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def write(self, line: Began | Effect | Ended) -> None:
        assert self._recorder is not None
        self._recorder.write(line)

    @contextmanager
    def of(self, ctx: Any) -> Iterator[None]:
        """Note that the handler begins, and how it ends."""
        self.write(Began(ctx.id, ctx.attempt, os.getpid()))
        try:
            yield
        except BaseException as error:
            how = {LeaseLost: "refused", asyncio.CancelledError: "stopped"}.get(type(error), "raises")
            self.write(Ended(ctx.id, ctx.attempt, how, str(error)))
            raise
        self.write(Ended(ctx.id, ctx.attempt, "returns"))


def define(dsn: str, recorder: Recorder | None = None, execution: dict[str, Any] | None = None) -> App:
    """Make the app; one that only starts jobs needs no recorder."""
    app = App(
        dsn,
        scheduling={
            "polling_delay": POLLING_SECONDS,
            "scheduler_retry_count": RETRIES,
            "scheduler_retry_delays": [0.1],
        },
        execution={
            "shutdown_grace": 5,
            "cancel_grace": 2,
            "concurrency": 20,
            "max_connections": 8,
            **(execution or {}),
        },
    )

    notes = _Notes(recorder)

    @app.task("awaits")
    async def awaits(ctx: Context[Order, Place]) -> int:
        with notes.of(ctx):
            while ctx.execution_metadata.rows < ctx.metadata.rows:
                async with ctx.transaction() as connection:
                    place = ctx.execution_metadata
                    await connection.execute(_INSERT, [ctx.id, place.rows, ctx.attempt])
                    place.rows += 1
                    place.writer = ctx.attempt
            while ctx.execution_metadata.effects < ctx.metadata.effects:
                place = ctx.execution_metadata
                notes.write(Effect(ctx.id, ctx.attempt, place.effects))
                place.effects += 1
                place.writer = ctx.attempt
                await ctx.persist()
            return ctx.attempt

    @app.task("blocks")
    def blocks(ctx: BlockingContext[Order, Place]) -> int:
        with notes.of(ctx):
            while ctx.execution_metadata.rows < ctx.metadata.rows:
                with ctx.transaction() as connection:
                    place = ctx.execution_metadata
                    connection.execute(_INSERT, [ctx.id, place.rows, ctx.attempt])
                    place.rows += 1
                    place.writer = ctx.attempt
            return ctx.attempt

    @app.task("retries")
    async def retries(ctx: Context[Order, Place]) -> int:
        with notes.of(ctx):
            if ctx.attempt == 1:
                message = "once more"
                raise ConnectionError(message)
            return ctx.attempt

    return app


def main() -> None:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    recorder = Recorder(Path(os.environ["TEST_HISTORY"]), "worker")
    app = define(os.environ["TEST_DSN"], recorder, json.loads(os.environ.get("TEST_EXECUTION", "{}")))
    sys.exit(run_worker(app, on_ready=lambda: say("worker ready"), on_wait=lambda line: say(f"waiting: {line}")))


def say(line: str) -> None:
    """Tell the test."""
    print(line, flush=True)  # noqa: T201 - it reads that


if __name__ == "__main__":
    main()
