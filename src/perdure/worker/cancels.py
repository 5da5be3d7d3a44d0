"""Finds which jobs of this worker are to be cancelled: by their rows alone.

A notification is no more than a hint to look now: anybody may send one, and it may tell of what is over by now. Without
one a worker looks often enough all the same, as long as it has jobs.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Protocol

from perdure.store import calls, leases
from perdure.worker.service import Service

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.leases import CancelRequest
    from perdure.store.sql import Names
    from perdure.worker.desk import Desk
    from perdure.worker.executor import Executor

__all__ = ["Cancels", "CancelsOwner"]

_EVERY_SECONDS = 0.8  # a cancel is told within a second, whether its notification arrives or not
_AGAIN_SECONDS = 0.1
_MOST_TIMES_AGAIN = 20  # a claim's answer that takes longer may be lost, which is for the search for strays
_REST_SECONDS = 0.05  # however many notifications come meanwhile: they share the next look


class CancelsOwner(Protocol):
    """What the search needs of its worker."""

    names: Names
    desk: Desk
    executor: Executor

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""

    @property
    def may_hold_jobs(self) -> bool:
        """Whether any job is in hand, or may be on its way here."""
        ...


class Cancels(Service):
    """The search for cancel requests."""

    name = "cancels"

    def __init__(self, owner: CancelsOwner) -> None:
        """Prepare the search."""
        super().__init__()
        self._owner = owner
        self._unknown: dict[CancelRequest, int] = {}
        self._is_due = False

    async def run_once(self) -> float:
        """Look once, unless there is nothing to cancel, and rest."""
        worker_id = self._owner.worker_id
        if worker_id is None or not (self._owner.may_hold_jobs or self._is_due):
            return _EVERY_SECONDS
        self._is_due = True  # one that fails is made again, so that it is known when all is well
        call = leases.cancelling(self._owner.names, worker_id)
        found = await self._owner.desk.run(functools.partial(calls.run, call=call), what="search for cancel requests")
        self._is_due = False
        for job_id, claim in found:
            self._owner.executor.cancel(job_id, claim)
        next_seconds = _AGAIN_SECONDS if self._awaits_any_of(found) else _EVERY_SECONDS
        await asyncio.sleep(_REST_SECONDS)
        return next_seconds - _REST_SECONDS

    def _awaits_any_of(self, found: list[CancelRequest]) -> bool:
        """Whether one of the jobs is still on its way here: the answer of its claim isn't read yet."""
        if not found and not self._unknown:
            return False
        known = {*self._owner.executor.known_ids(), *self._owner.desk.ids()}
        self._unknown = {entry: self._unknown.get(entry, 0) + 1 for entry in found if entry.id not in known}
        return any(times <= _MOST_TIMES_AGAIN for times in self._unknown.values())
