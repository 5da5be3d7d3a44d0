"""A worker process of a scenario: `python -m tests.support.scenario.worker`; what it needs is in the environment."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import threading
from pathlib import Path

from perdure import App
from perdure.worker import floors, pace, rescuer
from perdure.worker.run import run_worker
from tests.support.history import Recorder
from tests.support.scenario.tasks import define

__all__ = ["main"]


def main() -> int:
    """Serve until SIGTERM."""
    threading.Thread(target=_end_with, args=(os.getppid(),), name="watch", daemon=True).start()
    if "SCENARIO_DEAR_LOOKS" in os.environ:
        _make_looks_dear()
    settings = json.loads(os.environ["SCENARIO_SETTINGS"])
    app = App(os.environ["SCENARIO_DSN"], scheduling=settings["scheduling"], execution=settings["execution"])
    define(app, Recorder(Path(os.environ["SCENARIO_FOLDER"]), "handlers"))
    # Each raise of a job is logged as information, and many are raised here on purpose.
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(asctime)s %(name)s: %(message)s")
    return run_worker(app, on_ready=lambda: _say("worker ready"), on_wait=_say)


def _make_looks_dear() -> None:
    """Let looks at everything come as seldom as where they take long: what isn't found without them comes late then."""
    for module in (floors, rescuer):
        module.rest_seconds = functools.partial(pace.rest_seconds, share=1e-9)  # type: ignore[attr-defined]


def _end_with(parent: int) -> None:
    """End when the test has, even if it was killed."""
    while os.getppid() == parent:
        threading.Event().wait(1.0)  # libfaketime breaks `time.sleep`
    os._exit(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
