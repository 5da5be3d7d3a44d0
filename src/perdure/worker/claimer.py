"""How many jobs to claim, and when: never more than will start soon, never asleep while work is due.

Pure policy, without I/O: the lanes ask it before each exchange and tell it what came of the claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.worker.batch import BATCH_BYTES
from perdure.worker.floors import Floors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.store.claims import Band, Claims

__all__ = ["Claimer"]

# What will start within this time, by the durations measured, is claimed ahead: slots don't wait for a round trip. At
# most a batch for each of two lanes, so that one claims while the other settles, however few slots there are.
_AHEAD_SECONDS = 0.1
_AHEAD_BATCHES = 2
_SMOOTHING = 0.05
# The mean size of outcomes is that of about so many, the latest.
_OUTCOMES = 10
# So many full claims in a row mean that there is a backlog, and starters needn't notify.
_BUSY_CLAIMS = 3
# So many pokes while every slot is taken mean that it stays so: starters needn't notify whoever has no room.
_VAIN_POKES = 3


class Claimer:
    """Decides what an exchange claims.

    Attributes:
        open: Whether to claim at all (not before there is a lease, nor once the worker stops).
        sleeping: Whether the worker's row says that starters have to notify.
        floors: Where claims begin to look.
        only_band: The one band that there is to be claimed from; None when there are others, or that isn't known.
        asks_for_bands: Whether it isn't known which bands there are.
        pokes: Counts the pokes, so that one that comes while a claim is under way isn't wiped by its answer.
    """

    def __init__(self, *, concurrency: int, batch_size: int, queues: tuple[str, ...] | None = None) -> None:
        """Start with everything to find out; `queues` are those to claim from, None is all."""
        self.open = False
        self.sleeping = False
        self._is_saying = False
        self._is_deaf = False
        self.pokes = 0
        self.floors = Floors()
        self.only_band: Band | None = None
        self.asks_for_bands = True
        self._has_no_band = False
        self._queues = queues
        self._concurrency = concurrency
        self._batch_size = batch_size
        self._maybe_due = True
        self._reserved = 0
        self._full_claims = 0
        self._pokes_at_claim = 0
        self._mean_seconds: float | None = None
        self._outcome_bytes = 0.0

    def poke(self) -> None:
        """There may be due jobs: a notification, a poll, or a job that was put back."""
        self.pokes += 1
        self._maybe_due = True

    def look_everywhere(self) -> None:
        """There may be due jobs at old places: something was put back, or rescued."""
        self.floors.look_everywhere()
        self.poke()

    def bands_are(self, bands: Sequence[Band]) -> None:
        """Take note of which bands there are."""
        served = {band for band in bands if self._queues is None or band.queue in self._queues}
        self._has_no_band = not served
        self.only_band = served.pop() if len(served) == 1 else None
        self.asks_for_bands = False

    def bands_told(self, claims: Claims) -> None:
        """Ask which bands there are when a claim tells that there is one that isn't known; and look for its jobs."""
        if claims.other_bands:
            self.only_band, self.asks_for_bands = None, True
            self.look_everywhere()
        elif claims.jobs and self._has_no_band:
            self.asks_for_bands = True

    def deaf(self, is_deaf: bool) -> None:  # noqa: FBT001 - a callback's only argument
        """Never say that the worker sleeps, while no notification would wake it: it polls."""
        self._is_deaf = is_deaf

    def reset(self) -> None:
        """Begin anew under a new lease."""
        self.floors = Floors()
        self.only_band, self.asks_for_bands = None, True
        self.says(sleeping=False)
        self._maybe_due = True
        self._full_claims = 0

    def measure(self, duration_seconds: float) -> None:
        """Take note of how long an attempt took."""
        mean = self._mean_seconds
        self._mean_seconds = duration_seconds if mean is None else mean + _SMOOTHING * (duration_seconds - mean)

    def measure_outcomes(self, count: int, size: int) -> None:
        """Take note of how large these outcomes are together."""
        self._outcome_bytes = (_OUTCOMES * self._outcome_bytes + size) / (_OUTCOMES + count)

    def misjudged(self) -> None:
        """What was claimed ahead couldn't be started: claim nothing ahead until durations are known again."""
        self._mean_seconds = None

    def want(self, in_hand: int, *, unwritten: int = 0) -> int:
        """Return how many jobs to claim now, and reserve room for them.

        None while outcomes that fill an exchange wait for the next: they come faster than they can be written. Whoever
        takes them asks again.

        Args:
            in_hand: How many are running or claimed already.
            unwritten: How many outcomes wait that don't go along.
        """
        if not (self.open and self._maybe_due) or unwritten * self._outcome_bytes > BATCH_BYTES:
            return 0
        want = min(self._room(in_hand + unwritten), self._batch_size)
        # A few slots that came free wait for the large claim under way: its jobs come first.
        if want <= 0 or want * 2 < self._reserved:
            return 0
        self._reserved += want
        return want

    def claimed(self, want: int, got: int, *, pokes: int) -> None:
        """Take note of how many jobs a claim has brought; `pokes` is the count when it was sent."""
        self._reserved -= want
        self._pokes_at_claim = pokes
        if got < want:
            self._maybe_due = self.pokes != pokes
            self._full_claims = 0
        else:
            self._full_claims += 1

    def release(self, want: int) -> None:
        """Give up a reservation whose claim failed."""
        self._reserved -= want

    def next_sleeping(self, in_hand: int) -> bool | None:
        """Return what the worker's row should say from now on, if that is something else.

        Whoever sets it must tell (`says`), and claim once more afterwards (`poke`): a job may have come between the
        last claim and now. One at a time: else the last that is answered may not be the last that was done.

        Args:
            in_hand: How many are running or claimed already.
        """
        if not self.open or self._is_saying:
            return None
        if not self.sleeping:
            says = not self._maybe_due and not self._is_deaf
        else:
            says = self._full_claims < _BUSY_CLAIMS and not self._is_woken_in_vain(in_hand) and not self._is_deaf
        if says is self.sleeping:
            return None
        self._is_saying = True
        return says

    def says(self, *, sleeping: bool) -> None:
        """Take note of what the worker's row says; not sleeping, where that isn't known: then it is said again."""
        self.sleeping = sleeping
        self._is_saying = False

    def _is_woken_in_vain(self, in_hand: int) -> bool:
        """Whether it has no room, so that it looks anyway when it has some again, and is told of jobs all the same."""
        return self._room(in_hand) <= 0 and not self._reserved and self.pokes - self._pokes_at_claim >= _VAIN_POKES

    def _room(self, in_hand: int) -> int:
        return self._concurrency + self._ahead() - in_hand - self._reserved

    def _ahead(self) -> int:
        if self._mean_seconds is None:
            return 0
        # Of those with large outcomes no more than an exchange can write.
        batch_size = min(self._batch_size, BATCH_BYTES / max(self._outcome_bytes, 1.0))
        return int(min(_AHEAD_BATCHES * batch_size, self._concurrency * _AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
