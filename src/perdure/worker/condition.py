"""Whether the database does what its worker asks of it; each change of that is one line of the log.

An outage breaks every connection, at its own time and with its own error. Whoever reads the log wants one line of it.
"""

from __future__ import annotations

import logging
import time

import psycopg

from perdure.store.refusals import for_log

__all__ = ["Condition"]

_log = logging.getLogger("perdure.worker")
# So long without trouble: a database that refuses every other thing isn't there again each time that it does one.
_SETTLED_SECONDS = 2.0
# So long after its failure something that is asked for now and then is no trouble any more: it may not be wanted again.
_FORGOTTEN_SECONDS = 60.0
# Broken off, shut down, starting up. What has no SQLSTATE is the driver's: no connection, or a lost one.
_AWAY = ("08", "57P")


class Condition:
    """What the worker's connections have met lately.

    Attributes:
        trouble: What is wrong now, in a line; None when nothing is.
    """

    def __init__(self) -> None:
        """Begin without trouble."""
        self.trouble: str | None = None
        self._troubled: dict[str, float] = {}
        self._troubled_at_seconds = 0.0
        self._said: set[str | None] = set()

    def failed(self, who: str, error: BaseException) -> None:
        """Take note of a failure of somebody's ("lane 1"), and say it unless its like was said since all was well."""
        self._troubled[who] = self._troubled_at_seconds = time.monotonic()
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        is_away = state is None or state.startswith(_AWAY)
        what = "is away" if is_away else "refuses to work"
        self.trouble = f"the database {what}: {for_log(error)}"
        kind = "" if is_away else state
        if kind in self._said:
            _log.debug("%s (%s)", self.trouble, who)
            return
        self._said.add(kind)
        _log.warning("%s (%s); trying again until it works", self.trouble, who)

    def works(self, who: str) -> None:
        """Take note that it has done something for somebody; say so when all has been well for a moment."""
        if self.trouble is None:
            return
        self._troubled.pop(who, None)
        now_seconds = time.monotonic()
        forgets = all(now_seconds - at_seconds >= _FORGOTTEN_SECONDS for at_seconds in self._troubled.values())
        if forgets and now_seconds - self._troubled_at_seconds >= _SETTLED_SECONDS:
            self._troubled.clear()
            self.trouble = None
            self._said.clear()
            # As loud as what it ends, so that whoever sees the one sees the other.
            _log.warning("the database is there again")
