"""A worker for `test_failover.py`: its job goes on when a file of its name is there, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from perdure import App, Context, LeaseLost
from perdure.worker.run import run_worker

app = App(
    os.environ["TEST_DSN"],
    # A connection of the pool that was seen alive just before the failover makes its attempt raise: that costs a retry.
    scheduling={"polling_delay": 0.1, "scheduler_retry_delays": [0]},
    execution=json.loads(os.environ["TEST_EXECUTION"]),
)


@dataclass
class Place:
    whose: str = ""


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the test reads it


@app.task("named")
async def named(ctx: Context[str, Place]) -> str:
    name = ctx.metadata
    say(f"{name} begins")
    while not Path(os.environ["TEST_GATES"], name).exists():  # noqa: ASYNC240 - the test makes it
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            say(f"{name}: stopped")  # and goes on, as it shouldn't
    try:
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (%s, %s)", [ctx.id, name])
            ctx.execution_metadata.whose = name
    except LeaseLost:
        say(f"{name}: transaction refused")
    try:
        await ctx.persist()
    except LeaseLost:
        say(f"{name}: persist refused")
    return name


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
    sys.exit(run_worker(app, on_ready=lambda: say("worker ready"), on_wait=say))
