"""The jobs that are measured, as an application would write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from benchmarks.payloads import Done, Order
from perdure import App, Context

if TYPE_CHECKING:
    from benchmarks.recorder import Recorder
    from perdure import Task

__all__ = ["ROWS", "Position", "Steps", "Tasks"]

ROWS = "drop table if exists perdure_row; create table perdure_row (job_id bigint, n int, primary key (job_id, n))"
_ROW = "insert into perdure_row values (%s, %s)"


@dataclass
class Steps:
    """How many checkpoints a job is to store."""

    times: int


@dataclass
class Position:
    """A checkpoint."""

    number: int = 0


class Tasks:
    """An app and its tasks.

    Attributes:
        app: Not open yet.
        noop: Does nothing.
        persist: Stores a checkpoint again and again.
        transact: Stores a row and a checkpoint together, again and again.
    """

    def __init__(self, dsn: str, schema: str, recorder: Recorder | None = None) -> None:
        """Define them; settings are the defaults.

        Args:
            dsn: The database.
            schema: Where in it.
            recorder: Is told when handlers begin; only where they run.
        """
        self.app = App(dsn, persistence={"schema_name": schema})

        async def noop(ctx: Context[Order, None]) -> Done:
            if recorder:
                recorder.began(ctx.metadata.sent_at_seconds)
            return Done(ctx.metadata.number)

        async def persist(ctx: Context[Steps, Position]) -> None:
            if recorder:
                recorder.began(0.0)
            for number in range(ctx.metadata.times):
                ctx.execution_metadata.number = number
                await ctx.persist()

        async def transact(ctx: Context[Steps, Position]) -> None:
            if recorder:
                recorder.began(0.0)
            for number in range(ctx.metadata.times):
                async with ctx.transaction() as connection:
                    await connection.execute(_ROW, [ctx.id, number])
                    ctx.execution_metadata.number = number

        self.noop: Task[Order, None, Done, Never] = self.app.task("bench.noop")(noop)
        self.persist: Task[Steps, Position, None, Never] = self.app.task("bench.persist")(persist)
        self.transact: Task[Steps, Position, None, Never] = self.app.task("bench.transact")(transact)
