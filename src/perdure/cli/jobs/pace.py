"""How fast a job gets on, and how long the rest takes, by what its handler has reported lately."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from perdure.job import JobProgress

__all__ = ["Pace"]

_WINDOW: Final = timedelta(seconds=30)
_LONGEST: Final = timedelta(days=999)


class Pace:
    """Looks back over the reports of the last half minute, by the times that they carry."""

    def __init__(self) -> None:
        """Begin without reports."""
        self._reports: deque[JobProgress] = deque()

    def see(self, progress: JobProgress | None) -> None:
        """Take notice of a report; the same one may come again."""
        if progress is None or (self._reports and progress == self._reports[-1]):
            return
        if self._reports and (progress.done < self._reports[-1].done or progress.at < self._reports[-1].at):
            self._reports.clear()  # it was put back: another attempt has begun at its checkpoint
        self._reports.append(progress)
        while progress.at - self._reports[0].at > _WINDOW:
            self._reports.popleft()

    @property
    def rate(self) -> float | None:
        """Units a second; None as long as that can't be told."""
        if len(self._reports) < 2:  # noqa: PLR2004 - a rate lies between two
            return None
        first, last = self._reports[0], self._reports[-1]
        seconds = (last.at - first.at).total_seconds()
        return (last.done - first.done) / seconds if seconds > 0 else None

    @property
    def remaining(self) -> timedelta | None:
        """How long the rest takes at this rate; None when that can't be told."""
        rate = self.rate
        if not rate or (total := self._reports[-1].total) is None:
            return None
        seconds = max(0.0, total - self._reports[-1].done) / rate
        return timedelta(seconds=round(seconds)) if seconds < _LONGEST.total_seconds() else None

    def __str__(self) -> str:
        """Write rate and remaining time, as far as they can be told."""
        rate, remaining = self.rate, self.remaining
        parts: list[str] = []
        if rate is not None:
            parts.append(f"{rate:,.3g}/s" if rate < 1000 else f"{rate:,.0f}/s")  # noqa: PLR2004 - digits that matter
        if remaining is not None:
            parts.append(f"{remaining} left")
        return ", ".join(parts)
