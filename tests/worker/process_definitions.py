"""The tasks of `process_app`, for the side that starts them: names and types alone."""

from __future__ import annotations

from typing import Any

from perdure import App, Context
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated

__all__ = ["make"]


def make(dsn: str) -> App:
    """Make an app that knows the tasks and runs none of them."""
    app = App(dsn, scheduling={"polling_delay": 0.1})

    @app.task("pages")
    async def pages(ctx: Context[dict[str, Any], dict[str, int]]) -> int: ...

    @app.task("zombie")
    async def zombie(ctx: Context[dict[str, Any], dict[str, int]]) -> int: ...

    @app.task("asking zombie")
    async def asking_zombie(ctx: Context[bool, dict[str, int]]) -> int: ...

    @app.task("asking zombie in a thread")
    def asking_zombie_in_a_thread(ctx: BlockingContext[bool, dict[str, int]]) -> int: ...

    @app.task("poison")
    async def poison(ctx: Context[None, None]) -> None: ...

    @app.task("block")
    async def block(ctx: Context[float, None]) -> str: ...

    @app.task("nothing")
    async def nothing(ctx: Context[int, None]) -> int: ...

    @app.task("threaded")
    async def threaded(ctx: Context[None, None]) -> None: ...

    @app.task("sleepy")
    async def sleepy(ctx: Context[None, None]) -> None: ...

    return app
