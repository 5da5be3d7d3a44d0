"""A worker process of a version of the code, for tests: run as a script; which version is in the environment."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from perdure import App, Context
from perdure.worker.run import run_worker

VERSION = int(os.environ["TEST_VERSION"])

app = App(
    os.environ["TEST_DSN"],
    scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0},
    execution={"lease_duration": 2, "shutdown_grace": 0},
)


@dataclass
class Pages:
    """What is to be done, since version 2."""

    pages: int


def upgrade(kind: str, data: Any) -> Any:
    say(f"upgrade of {kind}")
    return {"pages": data} if kind == "metadata" else data


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the test reads it


if VERSION == 1:

    @app.task("pages")
    async def first(ctx: Context[int, list[str]]) -> str:
        return f"version 1 has done {ctx.metadata}"

else:

    @app.task("pages", version=2, upgrades={1: upgrade})
    async def second(ctx: Context[Pages, list[str]]) -> str:
        say(f"attempt {ctx.attempt} with {ctx.metadata}")
        if ctx.attempt == 1 and "TEST_DIES" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return f"version 2 has done {ctx.metadata.pages}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
    sys.exit(run_worker(app, on_ready=lambda: say("worker ready"), on_wait=lambda line: say(f"waiting: {line}")))
