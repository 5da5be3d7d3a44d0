"""A task that has everything done to its row that a worker can do; and a plain one, its neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure import Context  # noqa: TC001 - handlers' annotations are read

if TYPE_CHECKING:
    from perdure import App

__all__ = ["Meta", "Ping", "Progress", "define"]


@dataclass
class Meta:
    """A job's input."""

    shop: str


@dataclass
class Progress:
    """A checkpoint."""

    rows: int = 0


@dataclass
class Ping:
    """An event."""

    number: int


def define(app: App) -> None:
    """Define the tasks `busy` and `neighbour`."""

    @app.task("busy", events=Ping, scheduler_retry_count=0, max_retry_count=0)
    async def busy(ctx: Context[Meta, Progress]) -> str:
        ctx.execution_metadata.rows += 1
        await ctx.progress(1, 2, "half")
        await ctx.step("step", lambda: 1, result=int)
        await ctx.persist()
        await ctx.next_event()
        await ctx.sleep(0, key="nap")
        async with ctx.transaction():
            ctx.execution_metadata.rows += 1
        return ctx.metadata.shop

    @app.task("neighbour")
    async def neighbour(ctx: Context[int, None]) -> int:
        return ctx.metadata
