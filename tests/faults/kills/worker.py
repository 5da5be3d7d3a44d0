"""A worker process of `tasks`; what it is to run into comes in its environment."""

from __future__ import annotations

import json
import logging
import os
import sys

from perdure.worker.run import run_worker
from tests.faults.kills.tasks import make


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    app = make(
        os.environ["TEST_DSN"],
        execution=json.loads(os.environ["TEST_EXECUTION"]),
        knows_newcomer="TEST_OLDER" not in os.environ,
    )
    code = run_worker(app, on_ready=lambda: say("worker ready"), on_wait=say)
    say(f"exit {code}")
    sys.exit(code)
