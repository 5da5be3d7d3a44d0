"""Clocks that are wrong: of a process, or of a server, whose clock can be set while it runs. By Debian's libfaketime.

Only the time of the day is wrong. The monotonic clock goes on: nobody sets that, and what waits, waits by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from datetime import timedelta

    from tests.support.cluster import Cluster

__all__ = ["ServerClock", "off_by"]


def off_by(offset: timedelta) -> dict[str, str]:
    """Return the environment of a process whose clock is off by so much."""
    return {
        "FAKETIME": _words(offset),
        "LD_PRELOAD": _library(),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Else waits by the monotonic clock are wrong, those for Python's lock among them: its threads stand still then.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


class ServerClock:
    """The clock of a server, which is restarted under it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Begin with the right time; the folder is one that the server's user can reach."""
        self._file = folder / "clock"
        self._file.write_text("+0", encoding="ascii")
        settings = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",  # every look at the clock reads the file
        }
        cluster.stop()
        cluster.wrapper = ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items())]
        cluster.start()

    def set(self, offset: timedelta) -> None:
        """Let it go wrong by so much, from now on."""
        draft = self._file.with_suffix(".new")
        draft.write_text(_words(offset), encoding="ascii")
        draft.rename(self._file)


def _words(offset: timedelta) -> str:
    return f"{offset.total_seconds():+.0f}"


def _library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime isn't installed (Debian: apt-get install libfaketime)")
    return str(found[0])
