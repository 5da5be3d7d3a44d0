"""Looks at how fast the machine works while a run goes on, and at what the database's clock says.

So that what takes time is judged by what the machine could do just then, and not by what it can do at best.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tests.support.history.lines import Pulsed, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Pulse"]

_EVERY_SECONDS = 0.5
_WORK_SECONDS = 0.005
_PIECE = bytes(100_000)
# What a write to the database and back takes on a machine that isn't slow, and how late a timer is there.
_TRIP_SECONDS, _LATE_SECONDS = 0.02, 0.05
_PATIENCE_SECONDS = 5
_STATEMENT = "update history.pulse set at = clock_timestamp() returning extract(epoch from at)::float8"


class Pulse:
    """Writes a line twice a second; none while the database can't be written to.

    with Pulse(lambda: dsn, folder):
        …
    """

    def __init__(self, dsn: Callable[[], str], folder: Path) -> None:
        """Prepare.

        Args:
            dsn: Says where the database is; the log is installed there.
            folder: Where the lines are written.
        """
        self._dsn = dsn
        self._recorder = Recorder(folder, "pulse")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, if it has begun; a look that the database doesn't answer is left behind."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._over.is_set():
            due_at_seconds = time.monotonic() + _EVERY_SECONDS
            if self._over.wait(_EVERY_SECONDS):
                break
            late_seconds = time.monotonic() - due_at_seconds
            slowness = max(_slowness_of_work(), late_seconds / _LATE_SECONDS)
            try:
                if connection is None:
                    connection = self._connect()
                began_at_seconds, at = time.monotonic(), time.time()
                row = connection.execute(_STATEMENT).fetchone()
                took_seconds = time.monotonic() - began_at_seconds
            except psycopg.Error:
                if connection is not None:
                    connection.close()
                connection = None
            else:
                assert row is not None
                slowness = max(slowness, took_seconds / _TRIP_SECONDS)
                self._recorder.write(Pulsed(row[0], slowness, at=at + took_seconds / 2))
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._dsn(), autocommit=True, application_name="pulse", connect_timeout=_PATIENCE_SECONDS
        )


def _slowness_of_work() -> float:
    """Return how many times longer than its own time some work takes: the others' share of the machine."""
    began_at_seconds, own_seconds = time.monotonic(), time.thread_time()
    while (worked_seconds := time.thread_time() - own_seconds) < _WORK_SECONDS:
        hashlib.sha256(_PIECE)
    return max(1.0, (time.monotonic() - began_at_seconds) / worked_seconds)
