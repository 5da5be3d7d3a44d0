"""Where a worker's log goes when its app hasn't set up logging itself: to standard error."""

from __future__ import annotations

import logging

__all__ = ["log_to_stderr"]


def log_to_stderr(*, debug: bool) -> None:
    """Show what perdure and its jobs log, with `debug` what anybody does; unless the app has set up logging itself."""
    if logging.getLogger().handlers:
        return
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s [%(process)d] %(message)s")
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)
        return
    logging.getLogger("perdure").setLevel(logging.INFO)
    # The pool warns at each of its attempts while a database is away; the worker says so once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
