"""When the database refuses a batch for what is in it: its entries one by one, so that neighbours aren't held up.

The codecs refuse what the columns can't hold before it comes here; this is for what they don't know of.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.core.failure import Raised, encode_raised
from perdure.core.states import JobState
from perdure.store import settles
from perdure.store.settles import Finish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.settles import Release
    from perdure.store.sql import Names
    from perdure.worker.desk import Batch, Desk

__all__ = ["settle_one_by_one"]

_log = logging.getLogger("perdure.worker")


async def settle_one_by_one(
    names: Names, send: Callable[[Call[Any]], Awaitable[Any]], worker_id: UUID, batch: Batch, desk: Desk
) -> None:
    """Write a refused batch entry by entry: one that is refused alone fails its job, or its `persist()`."""
    for pending in batch.persists:
        try:
            await send(settles.persist(names, worker_id, [pending.entry]))
        except psycopg.DataError as error:
            if not pending.written.done():
                pending.written.set_exception(error)
        else:
            desk.persist(pending)  # it finds itself written
    for entry in batch.settles:
        try:
            await send(_settle(names, worker_id, entry))
        except psycopg.DataError as error:
            failed = _failed(entry, error)
            desk.verdicts.pop((entry.id, entry.claim), None)
            await send(settles.finish(names, worker_id, [failed]))
    # Progress is dropped; claims to put back or to defer are found by the search for strays.


def _settle(names: Names, worker_id: UUID, entry: Finish | Release) -> Call[Any]:
    if isinstance(entry, Finish):
        return settles.finish(names, worker_id, [entry])
    return settles.release(names, worker_id, [entry])


def _failed(entry: Finish | Release, error: psycopg.DataError) -> Finish:
    raised = Raised(type=f"psycopg.{type(error).__name__}", message=f"the outcome can't be stored: {error}")
    _log.error("job %d: %s", entry.id, raised)
    return Finish(
        id=entry.id,
        claim=entry.claim,
        checkpoint=entry.checkpoint,
        state=JobState.FAILED.code,
        execution_metadata=None,
        result=None,
        error=encode_raised(raised),
        last_error=str(raised).encode(),
    )
