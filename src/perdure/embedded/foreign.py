"""Finds a server on our data that we haven't started, and clears away what a dead one left.

A `postmaster.pid` may be older than the machine's last start: the process id in it can be anybody's by now. It is read
to leave a server alone, never to signal anybody.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

__all__ = ["clear_away_pid_file", "foreign_server"]

_NAME: Final = "postmaster.pid"
_HAS_PROC: Final = Path("/proc/self/cwd").exists()


def foreign_server(data: Path) -> int | None:
    """Return the id of a living process that is a server on this data folder; None when there is none."""
    try:
        process = int((data / _NAME).read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return process if process > 0 and _is_server(process, data) else None


def clear_away_pid_file(data: Path) -> None:
    """Remove what a dead server left: PostgreSQL wouldn't start while any process has the id that is in it."""
    (data / _NAME).unlink(missing_ok=True)


def _is_server(process: int, data: Path) -> bool:
    if _HAS_PROC:
        # A server works in its data folder. One that this user may not look at is not on this user's data.
        try:
            return data.samefile(f"/proc/{process}/cwd")
        except OSError:
            return False
    told = subprocess.run(  # noqa: S603 - our own arguments, no shell
        ["/bin/ps", "-o", "command=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return "postgres" in told.stdout
