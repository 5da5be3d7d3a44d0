"""Where a worker's log goes when its app hasn't set up logging itself: to standard error."""

from __future__ import annotations

import logging

from perdure.cli.text import printable

__all__ = ["log_to_stderr"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(process)d] %(message)s"


class _Formatter(logging.Formatter):
    """Lets no text of a job command the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def log_to_stderr(*, debug: bool) -> None:
    """Show what perdure and its jobs log, with `debug` what anybody does; unless the app has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(_FORMAT))
    root.addHandler(handler)
    if debug:
        root.setLevel(logging.DEBUG)
        return
    logging.getLogger("perdure").setLevel(logging.INFO)
    # The driver and its pool warn of each connection while a database is away; the worker says so once.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
