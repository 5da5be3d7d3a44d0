"""What handlers leave for the measuring process to see: numbers in a small file that both have mapped.

It costs the handlers' process next to nothing, wakes nobody, and survives a kill.
"""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Probe"]

_COUNT, _FIRST, _LAST, _CPU = range(4)
_SLOTS = 4
_DOUBLE = 8


class Probe:
    """Counts handlers' beginnings in one process; with slots, also how long each job has waited for it."""

    def __init__(self, path: Path) -> None:
        """Map a file that `make` has made."""
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self._slots = len(self._cells) - _SLOTS

    @classmethod
    def make(cls, path: Path, slots: int = 0) -> Probe:
        """Make the file, with room for so many waits."""
        path.write_bytes(bytes(_DOUBLE * (_SLOTS + slots)))
        return cls(path)

    def hit(self, sent_at_seconds: float = 0.0) -> None:
        """A handler begins, of a job that was sent then, by the monotonic clock that all processes share."""
        now_seconds = time.monotonic()
        cells = self._cells
        count = cells[_COUNT]
        if not count:
            cells[_FIRST] = now_seconds
            cells[_CPU] = time.process_time()
        cells[_LAST] = now_seconds
        if count < self._slots:
            cells[_SLOTS + int(count)] = now_seconds - sent_at_seconds
        cells[_COUNT] = count + 1

    @property
    def count(self) -> int:
        """How many have begun."""
        return int(self._cells[_COUNT])

    @property
    def first_at_seconds(self) -> float:
        """When the first one began; 0 before that."""
        return self._cells[_FIRST]

    @property
    def last_at_seconds(self) -> float:
        """When the last one began."""
        return self._cells[_LAST]

    @property
    def first_cpu_seconds(self) -> float:
        """The CPU time that the process had used by then."""
        return self._cells[_CPU]

    def waits_seconds(self) -> list[float]:
        """How long the jobs have waited, in the order in which they began."""
        return self._cells[_SLOTS : _SLOTS + min(self.count, self._slots)].tolist()
