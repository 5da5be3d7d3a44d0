"""A worker process with a state machine, for tests: run as a script, it serves until it is told to stop.

Its database comes from the environment; every handler says that it begins.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Never

from perdure import App, Completed, Context, MachineState, StateMachine, on
from perdure.worker.run import run_worker

app = App(
    os.environ.get("TEST_DSN", "postgresql:///nobody-connects"),
    scheduling={"polling_delay": 0.1},
    execution={"lease_duration": 2, "shutdown_grace": 0},
)


@dataclass
class Packed:
    parcels: int


@dataclass
class Shipped:
    parcels: int


@dataclass
class Delivered:
    parcels: int


States = Packed | Shipped | Delivered
Ctx = Context[None, MachineState[States]]


def say(ctx: Ctx, state: States) -> None:
    print(f"attempt {ctx.attempt} handles {state}", flush=True)  # noqa: T201 - the test reads it


@app.task("parcels")
class Parcels(StateMachine[None, States, int, Never]):
    """The first attempt stops for ever in the second state."""

    initial = Packed(1)

    @on(Packed)
    async def packed(self, state: Packed, ctx: Ctx) -> Shipped:
        say(ctx, state)
        return Shipped(state.parcels + 1)

    @on(Shipped)
    async def shipped(self, state: Shipped, ctx: Ctx) -> Delivered:
        say(ctx, state)
        if ctx.attempt == 1:
            state.parcels = 99  # never persisted
            await asyncio.Event().wait()
        return Delivered(state.parcels + 1)

    @on(Delivered)
    async def delivered(self, state: Delivered, ctx: Ctx) -> Completed[int]:
        say(ctx, state)
        return Completed(state.parcels)


if __name__ == "__main__":
    sys.exit(run_worker(app, on_ready=lambda: print("worker ready", flush=True), on_wait=print))  # noqa: T201
