"""Who takes part: sides, each with the settings to measure it with, and the environments that they run in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BARE", "MANY", "OWN", "PEERS", "PERDURE", "PLAIN", "TABLES", "Contender", "missing", "python_of"]


@dataclass(frozen=True, slots=True)
class Contender:
    """A side, and how it is set up.

    Attributes:
        name: As it is called in results.
        side: The module in `benchmarks.sides`.
        jobs: How many it can work off in a second or two: so many it is given.
        settings: For the side's processes, beside its own.
        loop: The event loop of its workers; empty: that of the run.
    """

    name: str
    side: str
    jobs: int
    settings: dict[str, Any] = field(default_factory=dict)
    loop: str = ""

    def having(self, name: str = "", **settings: Any) -> Contender:
        """Return the same with other settings, and another name where one is given."""
        return replace(self, name=name or self.name, settings={**self.settings, **settings})


PERDURE = Contender("perdure", "perdure", 40_000)
MANY = PERDURE.having("perdure 1000", concurrency=1000)
PLAIN = replace(PERDURE, name="perdure asyncio", loop="asyncio")
BARE = Contender("bare", "bare", 60_000)
TABLES = Contender("tables", "tables", 60_000)
OWN = (PERDURE.side, BARE.side, TABLES.side)
PEERS = (
    Contender("pgqueuer", "pgqueuer", 20_000),
    Contender("oban", "oban", 10_000),
    Contender("procrastinate", "procrastinate", 2_000),
    Contender("dbos", "dbos", 2_000, loop="asyncio"),
    Contender("absurd", "absurd", 3_000, loop="asyncio"),
)
"""Each on the loop that its documentation or its own benchmark uses."""


def python_of(side: str, peers: Path) -> str:
    """Return the Python that a side runs on."""
    return sys.executable if side in OWN else str(peers / "bin" / "python")


def missing(peers: Path) -> dict[str, str]:
    """Return which peers can't take part, and why."""
    if not (peers / "bin" / "python").exists():
        return dict.fromkeys((peer.name for peer in PEERS), f"no environment {peers}; `make bench-peers` makes it")
    reasons: dict[str, str] = {}
    for peer in PEERS:
        load = f"from benchmarks.sides.base import load; load({peer.side!r})"
        command = [python_of(peer.side, peers), "-c", load]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        if done.returncode:
            reasons[peer.name] = done.stderr.strip().splitlines()[-1]
    return reasons
