"""Which statements write a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perdure.core.states import JobState
from perdure.store import settles

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.settles import Release
    from perdure.store.sql import Names
    from perdure.worker.batch import Batch

__all__ = ["written_by"]

_WAITING: Final = frozenset({JobState.SUSPENDED.code, JobState.PROCEEDED.code})  # the latter for later, perhaps


def written_by(names: Names, worker_id: UUID, batch: Batch) -> dict[str, Call[Any]]:
    """Return what writes a batch, by its kinds, in the order in which it is to be sent."""
    sent: dict[str, Call[Any]] = {}
    if batch.persists:
        sent["persist"] = settles.persist(names, worker_id, [pending.entry for pending in batch.persists])
    if batch.progress:
        sent["progress"] = settles.report_progress(names, worker_id, batch.progress)
    if batch.finishes:
        sent["finish"] = settles.finish(names, worker_id, batch.finishes)
    if batch.releases:
        sent |= _release(names, worker_id, batch.releases)
    if batch.put_backs:
        sent["put back"] = settles.put_back(names, worker_id, batch.put_backs)
    if batch.deferrals:
        sent["defer"] = settles.defer(names, worker_id, batch.deferrals)
    return sent


def _release(names: Names, worker_id: UUID, entries: list[Release]) -> dict[str, Call[Any]]:
    """Release jobs; and let those go on that wait for an event which has come already."""
    sent: dict[str, Call[Any]] = {"release": settles.release(names, worker_id, entries)}
    waiting = [entry for entry in entries if entry.state in _WAITING and not entry.asleep]
    if waiting:
        sent["wake unread"] = settles.wake_unread(names, waiting)
    return sent
