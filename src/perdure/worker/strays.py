"""Finds jobs that this worker holds without knowing: a claim whose answer was lost, a claim that wasn't put back.

They are put back; or cancelled, when that was requested meanwhile.

Nobody else can rescue them, since this worker's lease is alive. A job counts as a stray when it was seen twice, and no
exchange that was under way at the first look still is at the second: else its claim might just be on its way here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from perdure.core.states import JobState
from perdure.store import calls, leases
from perdure.store.settles import Finish, PutBack
from perdure.worker.pace import rest_seconds
from perdure.worker.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from perdure.store.claims import Claimed
    from perdure.store.leases import Stray
    from perdure.store.sql import Names
    from perdure.worker.desk import Desk
    from perdure.worker.executor import Executor
    from perdure.worker.lane import Lane

__all__ = ["Strays", "StraysOwner"]

_AGAIN_SECONDS = 0.5
# Whoever loses the answer to a claim says so. For so many leases it may still land, and is looked for.
_SUSPICIOUS_LEASES = 2
# Otherwise the search is a net below that, for which no look may cost much: of each page of the dead that one reads,
# the server may have to write an image to its log.
_SHARE = 0.001
_SUSPICIOUS_SHARE = 0.01
_LONGEST_SLEEP_SECONDS = 300.0


class StraysOwner(Protocol):
    """What the search needs of its worker."""

    names: Names
    desk: Desk
    executor: Executor
    lease_seconds: float

    @property
    def lanes(self) -> Sequence[Lane]:
        """The worker's lanes."""
        ...

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""


class Strays(Service):
    """The search for strays."""

    name = "strays"

    def __init__(self, owner: StraysOwner) -> None:
        """Prepare the search."""
        super().__init__()
        self._owner = owner
        self._seen: dict[Stray, float] = {}
        self._arrived: set[int] | None = None
        self._suspicious_until_seconds = 0.0

    def suspect(self) -> None:
        """A claim's answer was lost: look now, and go on looking until it has landed or never will."""
        now_seconds = asyncio.get_running_loop().time()
        self._suspicious_until_seconds = now_seconds + _SUSPICIOUS_LEASES * self._owner.lease_seconds
        self.poke()

    def arrived(self, jobs: Iterable[Claimed]) -> None:
        """These are in hand: a look that is under way doesn't take them for strays, even if they end before it."""
        if self._arrived is not None:
            self._arrived.update(job.id for job in jobs)

    async def run_once(self) -> float:
        """Look once; put back what was seen before."""
        owner = self._owner
        worker_id = owner.worker_id
        if worker_id is None:
            self._seen.clear()
            return owner.lease_seconds / 3
        strays, took_seconds = await self._look(worker_id)
        # Afterwards: an exchange that began while the look waited or was made may have claimed what it saw.
        looked_at_seconds = asyncio.get_running_loop().time()
        for stray in strays:
            first_seen_at_seconds = self._seen.get(stray)
            if first_seen_at_seconds is not None and self._none_under_way_since(first_seen_at_seconds):
                self._let_go(stray)
        self._seen = {stray: self._seen.get(stray, looked_at_seconds) for stray in strays}
        if strays:
            return _AGAIN_SECONDS
        least_seconds, suspicious_seconds = owner.lease_seconds / 3, self._suspicious_until_seconds - looked_at_seconds
        if suspicious_seconds <= 0:
            return rest_seconds(took_seconds, least=least_seconds, most=_LONGEST_SLEEP_SECONDS, share=_SHARE)
        # Whatever it costs, the last look comes as soon as nothing can land any more.
        return rest_seconds(took_seconds, least=least_seconds, most=suspicious_seconds, share=_SUSPICIOUS_SHARE)

    async def _look(self, worker_id: UUID) -> tuple[list[Stray], float]:
        """Return what is held and wasn't known before, during or after the look; and how long that took, in seconds."""
        owner = self._owner
        call = leases.strays(owner.names, worker_id, sorted(self._known()))
        found: list[Stray]
        arrived: set[int] = set()
        self._arrived = arrived
        try:
            found, took_seconds = await owner.desk.look(
                lambda connection: calls.run(connection, call), what="search for strays"
            )
        finally:
            self._arrived = None
        known = self._known() | arrived
        return [stray for stray in found if stray.id not in known], took_seconds

    def _known(self) -> set[int]:
        return {*self._owner.executor.known_ids(), *self._owner.desk.ids()}

    def _let_go(self, stray: Stray) -> None:
        if stray.cancel_requested:
            cancelled = Finish(stray.id, stray.claim, stray.checkpoint, JobState.CANCELLED.code, None, None, None, None)
            self._owner.desk.finish(cancelled)
        else:
            self._owner.desk.put_back(PutBack(stray.id, stray.claim))

    def _none_under_way_since(self, seen_at_seconds: float) -> bool:
        return all(
            lane.exchange_began_at_seconds is None or lane.exchange_began_at_seconds > seen_at_seconds
            for lane in self._owner.lanes
        )
