"""A worker process, and the tasks that harm it: each in its own way."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import resource
import signal
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psutil

from perdure import App, Context, blocking
from perdure.worker.run import run_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["DEADLY", "make"]

_PIECE = 1024 * 1024
_LONGER_THAN_A_LEASE_SECONDS = 4.5

DEADLY: dict[str, Callable[[], object]] = {
    "exits": lambda: os._exit(66),
    "segfaults": lambda: ctypes.string_at(0),
    "is killed as if memory had run out": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
"""What takes the process with it."""


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the test reads it


def make(dsn: str) -> App:
    """Make the app; the test starts jobs with the same tasks."""
    settings = {"lease_duration": 2, "shutdown_grace": 0, "cancel_grace": 0.5}
    settings |= json.loads(os.environ.get("TEST_EXECUTION", "{}"))
    app = App(dsn, scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0}, execution=settings)
    _add_harmless(app)
    _add_deadly(app)
    _add_greedy(app)
    _add_blocking(app)
    _add_deaf(app)
    return app


def _add_harmless(app: App) -> None:
    @app.task("neighbour")
    async def neighbour(ctx: Context[int, None]) -> int:
        await asyncio.sleep(0.5)
        return ctx.metadata


def _add_deadly(app: App) -> None:
    for name, harm in DEADLY.items():
        app.task(name)(_deadly(harm))


def _deadly(harm: Callable[[], object]) -> Callable[[Context[None, None]], Coroutine[Any, Any, None]]:
    async def deadly(ctx: Context[None, None]) -> None:
        say(f"attempt {ctx.attempt} of {ctx.id} is about to die")
        await asyncio.sleep(0.2)  # so that it isn't alone
        harm()

    return deadly


def _add_greedy(app: App) -> None:
    @app.task("takes all memory")
    async def takes(ctx: Context[None, None]) -> None:
        _take_all_memory()

    @app.task("takes all memory in a thread")
    def takes_in_thread(ctx: blocking.Context[None, None]) -> None:
        _take_all_memory(holds_seconds=1.0)


def _take_all_memory(holds_seconds: float = 0.0) -> None:
    taken = list[bytearray]()
    try:
        while True:
            taken.append(bytearray(_PIECE))
    except MemoryError:
        while taken and len(taken[-1]) > 1:  # down to the last bytes, while others want some too
            try:
                taken.append(bytearray(len(taken[-1]) // 2))
            except MemoryError:
                break
        time.sleep(holds_seconds)
        raise


def _add_blocking(app: App) -> None:
    @app.task("blocks the event loop")
    async def blocks(ctx: Context[None, None]) -> int:
        say("blocks")
        time.sleep(_LONGER_THAN_A_LEASE_SECONDS)  # noqa: ASYNC251 - on purpose
        return ctx.attempt

    @app.task("blocks the event loop for good")
    async def blocks_for_good(ctx: Context[None, None]) -> None:
        say("blocks")
        time.sleep(3600)  # noqa: ASYNC251 - on purpose

    @app.task("keeps the GIL")
    async def keeps(ctx: Context[None, None]) -> int:
        if ctx.attempt == 1:
            say("keeps the GIL")
            ctypes.PyDLL(None).usleep(int(_LONGER_THAN_A_LEASE_SECONDS * 1_000_000))
        return ctx.attempt


def _add_deaf(app: App) -> None:
    @app.task("ignores its cancellation")
    async def ignores(ctx: Context[None, None]) -> None:
        await _ignore_all()

    @app.task("can't hear of its cancellation")
    def deaf(ctx: blocking.Context[None, None]) -> None:
        say("running")
        time.sleep(3600)

    @app.task("times out and ignores it", timeout=timedelta(seconds=0.5))
    async def times_out(ctx: Context[None, None]) -> None:
        await _ignore_all()


async def _ignore_all() -> None:
    say("running")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("ignored")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    if room := os.environ.get("TEST_MEMORY"):
        limit = psutil.Process().memory_info().vms + int(room)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    code = run_worker(make(os.environ["TEST_DSN"]), on_ready=lambda: say("worker ready"), on_wait=say)
    say(f"exit {code}")
    sys.exit(code)
