"""A worker process for tests: run as a script, it serves until it is told to stop, and prints what it does.

Its database and its execution settings (JSON) come from the environment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from dataclasses import dataclass

import psycopg

from perdure import App, Context, LeaseLost
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.worker.run import run_worker

app = App(
    os.environ["TEST_DSN"],
    scheduling={"polling_delay": 0.1, "scheduler_retry_count": 3, "scheduler_retry_delays": [0]},
    execution=json.loads(os.environ.get("TEST_EXECUTION", "{}")),
)

EFFECT = "insert into effects values (%s, %s)"


@dataclass
class Pages:
    """So many pages; the first attempt stops before one of them, until the gate is there."""

    total: int
    stop_at: int
    ignore: bool = False


@dataclass
class Progress:
    done: int = 0


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # noqa: T201 - the test reads it; in one piece, whatever threads say meanwhile


@app.task("pages")
async def pages(ctx: Context[Pages, Progress]) -> int:
    progress = ctx.execution_metadata
    say(f"attempt {ctx.attempt} of job {ctx.id} from {progress.done}")
    while progress.done < ctx.metadata.total:
        if ctx.attempt == 1 and progress.done == ctx.metadata.stop_at:
            say(f"stopped at {progress.done}")
            await _stop(ctx)
        async with ctx.transaction() as connection:
            await connection.execute(EFFECT, [ctx.id, progress.done])
            progress.done += 1
    return progress.done


async def _stop(ctx: Context[Pages, Progress]) -> None:
    while not _is_gate_there():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            say("cancelled")
            if not ctx.metadata.ignore:
                raise


@app.task("zombie")
async def zombie(ctx: Context[Pages, Progress]) -> int:
    """Tries to write after it was frozen for longer than its lease."""
    say(f"attempt {ctx.attempt} begins")
    if ctx.attempt > 1:
        async with ctx.transaction() as connection:
            await connection.execute(EFFECT, [ctx.id, ctx.attempt])
        return ctx.attempt
    try:
        async with ctx.transaction() as connection:
            await connection.execute(EFFECT, [ctx.id, ctx.attempt])
            say("inside")
            _wait_for_gate()
    except LeaseLost:
        say("LeaseLost in the transaction")
    except Exception as error:  # noqa: BLE001 - the test reads which
        say(f"{type(error).__name__} in the transaction")
    try:
        ctx.execution_metadata.done = 99
        await ctx.persist()
    except LeaseLost:
        say("LeaseLost in persist")
    return 0


@app.task("asking zombie")
async def asking_zombie(ctx: Context[bool, Progress]) -> int:
    """Asks for something in its transaction after it was frozen for longer than its lease."""
    if ctx.attempt > 1:
        return ctx.attempt
    try:
        async with ctx.transaction() as connection:
            await connection.execute(EFFECT, [ctx.id, 1])
            say("inside")
            _wait_for_gate()
            await connection.execute(EFFECT, [ctx.id, 2])
            say("answered")
    except BaseException as error:  # noqa: BLE001 - the test reads which
        say(f"{_kind(error)} in the transaction")
    try:
        await ctx.persist()
    except LeaseLost:
        say("LeaseLost in persist")
    return 0


@app.task("asking zombie in a thread")
def asking_zombie_in_a_thread(ctx: BlockingContext[bool, Progress]) -> int:
    """As the one above, but no stop cuts it off; its metadata: whether its session outlives the lease."""
    if ctx.attempt > 1:
        return ctx.attempt
    try:
        with ctx.transaction() as connection:
            if ctx.metadata:
                connection.execute("set local idle_in_transaction_session_timeout = 0")
            connection.execute(EFFECT, [ctx.id, 1])
            say("inside")
            _wait_for_gate()
            connection.execute(EFFECT, [ctx.id, 2])
            say("answered")
    except BaseException as error:  # noqa: BLE001 - the test reads which
        say(f"{_kind(error)} in the transaction")
    try:
        ctx.persist()
    except LeaseLost:
        say("LeaseLost in persist")
    return 0


def _kind(error: BaseException) -> str:
    return "the driver's error" if isinstance(error, psycopg.Error) else type(error).__name__


def _is_gate_there() -> bool:
    return os.path.exists(os.environ.get("TEST_GATE", ""))  # noqa: PTH110


def _wait_for_gate() -> None:
    # Blocks the loop on purpose: after the thaw the handler writes before anybody could cancel it.
    while not _is_gate_there():
        time.sleep(0.01)


@app.task("poison")
async def poison(ctx: Context[None, None]) -> None:
    say("poison")
    os._exit(66)


@app.task("block")
async def block(ctx: Context[float, None]) -> str:
    say("blocking")
    time.sleep(ctx.metadata)  # noqa: ASYNC251 - on purpose
    return "done"


@app.task("nothing")
async def nothing(ctx: Context[int, None]) -> int:
    return ctx.metadata


@app.task("sleepy")
async def sleepy(ctx: Context[None, None]) -> None:
    say("sleepy")
    await asyncio.Event().wait()


@app.task("threaded")
async def threaded(ctx: Context[None, None]) -> None:
    say("in a thread")
    await asyncio.to_thread(time.sleep, 600)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
    code = run_worker(app, on_ready=lambda: say("worker ready"), on_wait=lambda line: say(f"waiting: {line}"))
    say(f"exit {code}")
    sys.exit(code)
