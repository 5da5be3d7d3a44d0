"""A worker process of the demo: `python -m perdure.demo.worker`, on the database that PERDURE_DSN names.

It serves as `perdure worker` does, tells the demo on its standard output what happens (`Told`), and ends with it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.demo import tasks
from perdure.worker.run import run_worker

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BEGAN", "READY", "REFUSED", "Told", "main"]

READY: Final = "ready"
BEGAN: Final = "began"
REFUSED: Final = "refused"

_KINDS: Final[Mapping[str, str]] = {tasks.BEGAN: BEGAN, tasks.REFUSED: REFUSED}


class Told(msgspec.Struct):
    """A line of a worker's standard output.

    Attributes:
        what: `READY`; `BEGAN` or `REFUSED`, of an attempt.
        attempt: Its number.
    """

    what: str
    attempt: int = 0


class _Teller(logging.Handler):
    """Passes on what the job's handler logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        if (what := _KINDS.get(str(record.msg))) is not None:
            _tell(Told(what, getattr(record, "attempt", 0)))


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    threading.Thread(target=_end_with_demo, name="demo watch", daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s [%(process)d] %(message)s")
    of_job = logging.getLogger("perdure.job")
    of_job.setLevel(logging.INFO)
    of_job.addHandler(_Teller())
    of_job.propagate = False
    app, _task = tasks.make_app()
    return run_worker(app, on_ready=lambda: _tell(Told(READY)), on_wait=logging.getLogger(__name__).warning)


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_demo() -> None:
    """End when the demo has, however it did: the other end of standard input is closed then."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
