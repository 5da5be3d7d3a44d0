"""Why a write found no row: done before, locked, decided on old news, or no longer ours to do; and what follows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from perdure.core.states import JobState
from perdure.store import calls, settles
from perdure.store.settles import Finish, PutBack
from perdure.worker.batch import fail_persist

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from perdure.store.settles import Deferral, Release, Settlement
    from perdure.store.sql import Names
    from perdure.worker.batch import Batch, PendingPersist
    from perdure.worker.desk import Desk

__all__ = ["inquire", "written"]

_log = logging.getLogger("perdure.worker")
_RUNNING = JobState.RUNNING.code
_CANCELLED = JobState.CANCELLED.code


async def inquire(
    connection: psycopg.AsyncConnection[Any],
    names: Names,
    desk: Desk,
    worker_id: UUID,
    unwritten: Batch,
) -> None:
    """Look at the rows of writes that found none, and see to each.

    Raises:
        psycopg.Error: The rows can't be read; nothing was seen to.
    """
    ids = {pending.entry.id for pending in unwritten.persists}
    ids |= {entry.id for entry in unwritten.settles} | {entry.id for entry in unwritten.returns}
    rows = await calls.run(connection, settles.settlement(names, sorted(ids)))
    for pending in unwritten.persists:
        _see_to_persist(desk, worker_id, pending, rows.get(pending.entry.id))
    for entry in unwritten.settles:
        _see_to_settle(desk, worker_id, entry, rows.get(entry.id))
    for claim in unwritten.returns:
        _see_to_return(desk, worker_id, claim, rows.get(claim.id))


def written(pending: PendingPersist) -> None:
    """Tell whoever waits for a checkpoint that it is written."""
    pending.attempt.wrote(pending.entry)
    if not pending.written.done():
        pending.written.set_result(None)


def _see_to_persist(desk: Desk, worker_id: UUID, pending: PendingPersist, row: Settlement | None) -> None:
    entry = pending.entry
    if row is not None and row.locked:
        desk.again(entry.id, lambda: desk.persist(pending), pending)
    elif row is None or not _is_ours(row, entry.claim, worker_id):
        fail_persist(pending)
    elif row.checkpoint == entry.checkpoint + 1:
        written(pending)  # only this attempt writes that number: the first try has landed
    elif row.checkpoint == entry.checkpoint:
        desk.again(entry.id, lambda: desk.persist(pending), pending)
    else:
        fail_persist(pending)


def _see_to_settle(desk: Desk, worker_id: UUID, entry: Finish | Release, row: Settlement | None) -> None:
    if row is not None and row.locked:
        desk.again(entry.id, lambda: _settle_again(desk, entry))
    elif row is not None and _is_ours(row, entry.claim, worker_id):
        verdict = desk.verdicts.get((entry.id, entry.claim))
        if verdict is not None:
            informed = verdict.informed(row)
            desk.again(entry.id, lambda: desk.settle(informed))
            return
        renewed = entry
        if row.checkpoint != entry.checkpoint:  # as in Verdict.informed
            renewed = entry._replace(checkpoint=row.checkpoint, execution_metadata=None, events=())
        desk.again(entry.id, lambda: _settle_again(desk, renewed))
    else:
        desk.settled([entry])
        _see_to_blame(desk, worker_id, row)
        if row is None:
            _log.warning("job %d is gone: somebody has deleted its row while it ran", entry.id)
        elif row.claim != entry.claim:
            _log.info("job %d: the outcome of claim %d came too late: another has it", entry.id, entry.claim)


def _see_to_return(desk: Desk, worker_id: UUID, entry: PutBack | Deferral, row: Settlement | None) -> None:
    is_locked = row is not None and row.locked
    if row is None or not (is_locked or _is_ours(row, entry.claim, worker_id)):
        desk.returned([entry])
        _see_to_blame(desk, worker_id, row)
    elif row.cancel_requested and not is_locked:
        desk.finish(Finish(entry.id, entry.claim, row.checkpoint, _CANCELLED, None, None, None, None))
    elif isinstance(entry, PutBack):
        desk.again(entry.id, lambda: desk.put_back(entry))
    else:
        desk.again(entry.id, lambda: desk.defer(entry))


def _see_to_blame(desk: Desk, worker_id: UUID, row: Settlement | None) -> None:
    """The write may be the first to tell that the lease has lapsed: its worker reports that it lives."""
    if row is not None and row.lapsed_worker_id == worker_id:
        desk.blamed.add(row.id)


def _is_ours(row: Settlement, claim: int, worker_id: UUID) -> bool:
    return row.state == _RUNNING and row.claim == claim and row.worker_id == worker_id


def _settle_again(desk: Desk, entry: Finish | Release) -> None:
    if isinstance(entry, Finish):
        desk.finishes.append(entry)
    else:
        desk.releases.append(entry)
