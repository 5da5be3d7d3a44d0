"""Where claims begin to look: near where the last ones stopped, so that they don't step over what is dead before that.

What has been claimed leaves dead entries at the front of the index until vacuum comes, and it can't remove them while
somebody's snapshot is open (a backup, a report): a claim that begins at the front costs more and more. So each band
(queue, priority) has a floor. Nothing depends on it but the cost: a job that came behind it (its starter's transaction
was long, it was put back to its old place, the clock was set back) is found by the next claim that looks everywhere.

Pure policy, without I/O: the time is handed in.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from perdure.store.claims import EVERYWHERE, Floor, Front
from perdure.worker.pace import rest_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.store.claims import Claimed

__all__ = ["Floors"]

# The lowest position of so many claims counts: of those of other workers some may not have landed yet.
_CLAIMS = 4
# Every so often a claim looks a little way back: at commits that were on their way.
_BACK_EVERY_SECONDS = 0.2
_BACK_SECONDS = 1.0
# A claim that looks everywhere comes at least so often, however long it takes; and so soon while that isn't known.
_EVERYWHERE_EVERY_SECONDS = 60.0
_EVERYWHERE_NEXT_SECONDS = 5.0
# So soon where another look is under way just then.
_EVERYWHERE_LATER_SECONDS = 0.05
# Positions are read as floats, which are this exact: one that is rounded up would pass a job by.
_PRECISION_SECONDS = 1e-6


class Floors:
    """The floors of one worker."""

    def __init__(self) -> None:
        """Begin with none: the first claim looks everywhere."""
        self._reached: dict[tuple[str, int], deque[tuple[float, int]]] = {}
        self._others_at_seconds: float | None = None
        self._everywhere_at_seconds = 0.0
        # Since the last claim began that looks everywhere.
        self._is_asked_for = False
        self._back_at_seconds = 0.0

    def look_everywhere(self) -> None:
        """Let the next claim begin at the very front: something was put back to its old place."""
        self._everywhere_at_seconds = 0.0
        self._is_asked_for = True

    def look_back(self) -> None:
        """Let the next claim look a little way back: something was passed by."""
        self._back_at_seconds = 0.0

    def everywhere_in_seconds(self, now_seconds: float) -> float:
        """Return how long until the next claim that looks everywhere is due."""
        return max(0.0, self._everywhere_at_seconds - now_seconds)

    def choose(self, now_seconds: float, *, may_look_everywhere: bool) -> Front:
        """Return where the next claim begins; `EVERYWHERE` itself where that is due."""
        if now_seconds >= self._everywhere_at_seconds:
            if may_look_everywhere:
                self._is_asked_for = False
                self._everywhere_at_seconds = now_seconds + _EVERYWHERE_NEXT_SECONDS
                return EVERYWHERE
            self._everywhere_at_seconds = now_seconds + _EVERYWHERE_LATER_SECONDS
        back_seconds = 0.0
        if now_seconds >= self._back_at_seconds:
            self._back_at_seconds = now_seconds + _BACK_EVERY_SECONDS
            back_seconds = _BACK_SECONDS
        floors = [
            Floor(queue, priority, at_seconds - back_seconds, 0 if back_seconds else job_id)
            for (queue, priority), (at_seconds, job_id) in (
                (band, min(positions)) for band, positions in self._reached.items()
            )
        ]
        others_at_seconds = self._others_at_seconds
        return Front(floors, None if others_at_seconds is None else others_at_seconds - back_seconds)

    def claimed(self, jobs: Sequence[Claimed]) -> None:
        """Take note of what a claim has brought, in the line's order: what is before the last of a band is taken."""
        last = {(job.queue, job.priority): job for job in jobs}
        for band, job in last.items():
            position = (job.scheduled_at_seconds - _PRECISION_SECONDS, job.id)
            self._reached.setdefault(band, deque(maxlen=_CLAIMS)).append(position)

    def took_all(self, asked_at_seconds: float) -> None:
        """Take note that a claim has brought all that was due then, everywhere, by the database's clock; none, perhaps.

        So bands of which nothing is claimed (they were busy before this worker began) cost no claim their dead entries.
        """
        # Commits that were on their way then: where nothing is claimed, no earlier claim's position allows for them.
        self._others_at_seconds = asked_at_seconds - _BACK_SECONDS

    def looked_everywhere(self, began_at_seconds: float, now_seconds: float) -> None:
        """Take note of when a claim began and ended that looked from the very front: by that the next one is due.

        Unless it was asked for meanwhile: what was put back then, this one may have passed by.
        """
        if self._is_asked_for:
            return
        self._everywhere_at_seconds = now_seconds + rest_seconds(
            now_seconds - began_at_seconds, least=0.0, most=_EVERYWHERE_EVERY_SECONDS
        )
