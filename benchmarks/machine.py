"""What was measured on: recorded with the figures, for they mean little without."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.server import SETTINGS

if TYPE_CHECKING:
    from benchmarks.server import Server

__all__ = ["describe"]

_GIB = 1 << 30


def describe(server: Server) -> dict[str, Any]:
    """Return when, on what, and with which versions and settings of the server."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / _GIB),
            "system": f"{platform.system()} {platform.release()}",
            "data_on": server.file_system(),
            "load": round(os.getloadavg()[0], 1),
        },
        "python": platform.python_version(),
        "postgresql": server.version(),
        "postgresql_settings": SETTINGS,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
