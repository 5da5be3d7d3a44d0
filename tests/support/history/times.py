"""Who could have done something in time, by the log of leases; how long it may take on a machine as slow as it was.

All by the database's clock. Faults and calls are noted by the test's process: on the same machine, by the same clock.
Where the database's clock is set in a run, nothing is timed.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from perdure import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.support.history.values import History, LeaseImage

__all__ = ["STARVING", "Times"]

# Of a run in which nobody has looked at the machine.
_UNKNOWN_SLOWNESS = 10.0
STARVING = 10.0
"""How slow a machine is on which a worker may lose its lease though nothing was done to it."""

_SECONDS_A_SLOWNESS = 0.5
# After what disturbs everybody: services and lanes that have failed for a while try again that seldom.
_SETTLING_SECONDS = 15.0
_SILENCE_SECONDS = 4.0
_SET_SECONDS = 1.0
# A lease is renewed three times in its duration.
_RENEWED = 1 / 3
_ENDS = frozenset({"SIGKILL", "SIGTERM", "SIGINT"})

Span = tuple[float, float]


class Stretch(NamedTuple):
    """A time in which a worker was seen to live, and nothing was done to it."""

    worker: str
    began: float
    ended: float


class Times:
    """The times of a history."""

    def __init__(self, history: History) -> None:
        """Ask nothing yet."""
        self._history = history

    @cached_property
    def are_comparable(self) -> bool:
        """Whether nobody has set the database's clock."""
        offsets = [pulse.database_at - pulse.at for pulse in self._history.pulses]
        return not offsets or max(offsets) - min(offsets) < _SET_SECONDS

    @cached_property
    def lease_ends(self) -> dict[str, float]:
        """When each worker's lease ended or ends: when it was given back, or wasn't renewed."""
        ends: dict[str, float] = {}
        for worker, images in self._leases.items():
            until = ends[worker] = max((image.until for image in images if not image.has_ended), default=inf)
            ends[worker] = min([until, *(image.at for image in images if image.has_ended)])
        return ends

    def slowness(self, since: float, until: float) -> float | None:
        """Return how slow the machine was then, on an average; None where nobody has looked."""
        pulses = self._history.pulses
        if not pulses:
            return None
        near = [pulse.slowness for pulse in pulses if since - 1 <= pulse.at <= until + 1]
        return sum(near) / len(near) if near else _UNKNOWN_SLOWNESS

    def allowed(self, seconds: float, since: float, until: float) -> float:
        """Return how long something may take that takes so long at most on a machine that isn't slow."""
        rules, slowness = self._history.rules, self.slowness(since, until)
        allowed = seconds + _SECONDS_A_SLOWNESS * (_UNKNOWN_SLOWNESS if slowness is None else slowness)
        if any(began < until and min(ended, began + self._lease) > since for began, ended in self._freezes):
            allowed += self._lease  # a frozen process may hold rows locked: for its lease, then the server ends that
        if rules.is_weathered:
            allowed += 3 * self._lease  # what was swallowed is noticed, and done again
        return allowed

    def longest_chance(self, since: float, until: float, *, has_room: bool = False, worker: str | None = None) -> float:
        """Return for how long one worker could have done it, without a break: it lived, unharmed (and had room).

        With a worker's id, for how long that one could.
        """
        spans = self._with_room if has_room else self._stretches
        able = (span for span in spans if worker is None or span.worker == worker)
        return max((min(span.ended, until) - max(span.began, since) for span in able), default=0.0)

    def is_harmed(self, worker: str, until: float) -> bool:
        """Tell whether anything was done, until then, that a worker can lose its lease by; or whether it starved."""
        history = self._history
        if not self.are_comparable:
            return True
        pid = history.pid_of.get(worker)
        if history.rules.is_weathered or any(fault.pid == pid and fault.at <= until for fault in history.faults):
            return True
        leases = self._leases.get(worker, [])
        since = leases[0].at if leases else 0.0
        if any(began <= until and ended >= since for began, ended in self._disturbances):
            return True
        slowness = self.slowness(since, until)
        return slowness is not None and slowness >= STARVING

    # --- who lived when ---

    @cached_property
    def _leases(self) -> dict[str, list[LeaseImage]]:
        leases: dict[str, list[LeaseImage]] = defaultdict(list)
        for image in self._history.leases:
            leases[image.worker].append(image)
        return dict(leases)

    @cached_property
    def _lease(self) -> float:
        return max((image.seconds for image in self._history.leases), default=0.0)

    @cached_property
    def _stretches(self) -> list[Stretch]:
        stretches: list[Stretch] = []
        for worker, images in self._leases.items():
            if images[0].is_choosy:
                continue  # which queue a job is in, the log doesn't say
            gaps = _merged([*self._harms.get(self._history.pid_of.get(worker), []), *self._disturbances])
            alive = [image.at for image in images if not image.has_ended]
            for span in _runs(alive, 2 * _RENEWED * images[0].seconds):
                stretches += [Stretch(worker, *part) for part in _without(span, gaps)]
        return stretches

    @cached_property
    def _harms(self) -> dict[int | None, list[Span]]:
        """When each process was frozen, or ended."""
        harms: dict[int | None, list[Span]] = defaultdict(list)
        frozen: dict[int | None, float] = {}
        for fault in self._history.faults:
            if fault.kind == "SIGSTOP":
                frozen.setdefault(fault.pid, fault.at)
                continue
            if fault.kind in {"SIGCONT", "SIGKILL"} and fault.pid in frozen:
                harms[fault.pid].append((frozen.pop(fault.pid), fault.at))
            harms[fault.pid].append((fault.at, inf if fault.kind in _ENDS else fault.at))
        for pid, at in frozen.items():
            harms[pid].append((at, inf))
        return dict(harms)

    @cached_property
    def _freezes(self) -> list[Span]:
        stops = {(fault.pid, fault.at) for fault in self._history.faults if fault.kind == "SIGSTOP"}
        return [span for pid, spans in self._harms.items() for span in spans if (pid, span[0]) in stops]

    @cached_property
    def _disturbances(self) -> list[Span]:
        """What concerns all: backends that were terminated, calls that failed, a database that was away."""
        history = self._history
        found = [(fault.at, fault.at) for fault in history.faults if fault.pid is None]
        found += [(call.at, call.at) for call in history.calls if call.answer is None and call.verb != "await"]
        ats = [pulse.at for pulse in history.pulses]
        found += [(before, after) for before, after in pairwise(ats) if after - before > _SILENCE_SECONDS]
        if history.calmed_at is not None:
            found.append((-inf, history.calmed_at))
        return [(began, ended + _SETTLING_SECONDS) for began, ended in found]

    @cached_property
    def _with_room(self) -> list[Stretch]:
        """The stretches in which workers had room; but for short ones, which are many, and in which nothing is late."""
        least = self._history.rules.claim_seconds or 0.0
        return [
            Stretch(stretch.worker, *part)
            for stretch in self._stretches
            for part in _without((stretch.began, stretch.ended), self._full.get(stretch.worker, []))
            if part[1] - part[0] > least
        ]

    @cached_property
    def _full(self) -> dict[str, list[Span]]:
        """When each worker had no room; of the last place it isn't known whether it is kept free for a suspect."""
        changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for moves in self._history.moves.values():
            for before, after in moves:
                had, has = (
                    None if image is None or image.state is not JobState.RUNNING else image.worker
                    for image in (before, after)
                )
                if had == has:
                    continue
                at = (after or before).at  # type: ignore[union-attr]
                if had is not None:
                    changes[had].append((at, -1))
                if has is not None:
                    changes[has].append((at, 1))
        rooms = {worker: images[0].concurrency - 1 for worker, images in self._leases.items()}
        return {worker: list(_full_spans(sorted(changes[worker]), room)) for worker, room in rooms.items()}


def _full_spans(changes: Sequence[tuple[float, int]], room: int) -> Iterator[Span]:
    held, full_since = 0, None if room > 0 else -inf
    for at, change in changes:
        held += change
        if held >= room and full_since is None:
            full_since = at
        elif held < room and full_since is not None:
            yield (full_since, at)
            full_since = None
    if full_since is not None:
        yield (full_since, inf)


def _runs(ats: Sequence[float], longest: float) -> Iterator[Span]:
    """Yield from when to when times follow each other closely."""
    first = last = None
    for at in ats:
        if first is None or last is None or at - last > longest:
            if first is not None and last is not None:
                yield (first, last)
            first = at
        last = at
    if first is not None and last is not None:
        yield (first, last)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
        else:
            merged.append((began, ended))
    return merged


def _without(span: Span, gaps: Sequence[Span]) -> Iterator[Span]:
    """Yield what is left of a span without these, which are in order."""
    began, ended = span
    for gap_began, gap_ended in gaps:
        if gap_ended < began:
            continue
        if gap_began > ended:
            break
        if gap_began > began:
            yield (began, gap_began)
        began = max(began, gap_ended)
    if began < ended:
        yield (began, ended)
