"""What to do when the database refuses a batch for what is in it: which entry it is, and what becomes of that one.

The codecs refuse what the columns can't hold before it comes here; this is for what they don't know of: a limit of the
server's, a constraint or a trigger that somebody has added.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Final

import psycopg

from perdure.core.decide import FRESH, Fail, Limits
from perdure.core.failure import Raised, encode_raised
from perdure.core.retry import RetryPolicy
from perdure.errors import PayloadRefused
from perdure.store import calls, leases
from perdure.store.refusals import for_log, is_full_queue, reason
from perdure.store.settles import Deferral
from perdure.worker.endings import one_line
from perdure.worker.verdict import Verdict

if TYPE_CHECKING:
    from perdure.store.sessions import WorkerConnection
    from perdure.store.settles import Finish, Release
    from perdure.store.sql import Names
    from perdure.worker.batch import Batch
    from perdure.worker.desk import Desk

__all__ = ["condemn", "let_heal"]

_log = logging.getLogger("perdure.worker")
_NO_RETRIES: Final = Limits(RetryPolicy(0, (), 0), max_lapses=1)


def condemn(batch: Batch, error: psycopg.Error, desk: Desk) -> None:
    """Do away with an entry that was refused alone: it fails its job, or its `persist()`.

    Progress is dropped; claims to put back or to defer are found by the search for strays.
    """
    desk.returned(batch.returns)
    message = f"the database refuses it: {reason(error)}"
    for pending in batch.persists:
        if not pending.written.done():
            job = pending.attempt.job
            pending.written.set_exception(PayloadRefused(f"job {job.id}: execution metadata: {message}"))
            pending.written.exception()  # its waiter may have been left behind: no complaint about that
    for entry in batch.settles:
        if (entry.id, entry.claim) in desk.condemned:
            _log.error("job %d: not even its failure can be stored, so it waits: %s", entry.id, for_log(error))
            desk.settled([entry])
            line = f"neither its outcome nor its failure can be stored: {message}"
            desk.defer(Deferral(entry.id, entry.claim, one_line(line), began=True))
        else:
            _log.error("job %d: the outcome can't be stored: %s", entry.id, for_log(error))
            _fail(entry, f"the outcome can't be stored: {message}", desk, type(error).__name__)


async def let_heal(error: psycopg.Error, connection: WorkerConnection | None, names: Names) -> None:
    """Wait for a moment, when the trouble is the server's; and do what helps it, where something does."""
    await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter
    if connection is not None and is_full_queue(error):
        with contextlib.suppress(psycopg.Error):
            await calls.run(connection, leases.make_notification_room(names))


def _fail(entry: Finish | Release, message: str, desk: Desk, kind: str) -> None:
    raised = Raised(type=f"psycopg.errors.{kind}", message=message)
    desk.condemned.add((entry.id, entry.claim))
    desk.settle(
        Verdict(
            entry.id,
            entry.claim,
            entry.checkpoint,
            FRESH,
            Fail(retry=False),
            _NO_RETRIES,
            error=encode_raised(raised),
            last_error=one_line(str(raised)),
        )
    )
