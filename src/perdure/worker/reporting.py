"""What a worker does when it holds a lease (again): makes known what it can run, and clears what it had lost.

While it was away its jobs may have been taken for lost; it reports that it is alive, so that no lapse is counted.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from perdure.store import calls, leases
from perdure.store.refusals import is_refusal
from perdure.worker.rescuer import rescue
from perdure.worker.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from psycopg import AsyncConnection

    from perdure.worker.worker import Worker

__all__ = ["begin_report", "complain", "report_again"]

T = TypeVar("T")
_log = logging.getLogger("perdure.worker")
_AGAIN_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_LOOKS = 100
_BATCH = 10_000


def begin_report(worker: Worker, tasks: set[asyncio.Task[None]]) -> None:
    """Report in a task of its own, kept in `tasks`; without a lease not yet: whoever gets one begins it."""
    if worker.worker_id is None:
        return
    report = asyncio.create_task(report_again(worker, worker.worker_id), name="perdure report")
    tasks.add(report)
    report.add_done_callback(tasks.discard)
    report.add_done_callback(complain)


async def report_again(worker: Worker, worker_id: UUID) -> None:
    """With a new lease: make jobs due that waited for this code, and take the blame of a lapse off others."""
    names = worker.names
    # Not of the present one: an attempt may have taken it for lost, and a renewal have kept it.
    while (lost := next((lost for lost in worker.lost if lost != worker_id), None)) is not None:
        ids = worker.lost[lost]
        known = len(ids)
        # Our own dead id: without its lease its jobs can be rescued now, with no lapse counted against them.
        await _on_lane(worker, functools.partial(calls.run, call=leases.remove(names, lost)))
        rescue_own = functools.partial(rescue, names=names, lost=lost, holder=worker_id, limits_of=worker.limits_of)
        await _on_lane(worker, functools.partial(rescue_own, ever_reported=True, seldom=Seldom()))
        if ids:
            await _forgive(worker, lost, ids)
        worker.claimer.look_everywhere()  # they are at their old places, which claims may have passed by already
        if len(ids) == known:  # else some have come meanwhile
            worker.lost.pop(lost, None)
    worker.wake()
    await _revive(worker)


async def _forgive(worker: Worker, lost: UUID, ids: list[int]) -> None:
    """Take back what was counted against these jobs. Bounded: somebody may have one locked for as long as he likes."""
    forgive = leases.forgive(worker.names, lost, ids)
    for _ in range(_LOOKS):
        if not await _on_lane(worker, functools.partial(calls.run, call=forgive)):
            return
        await asyncio.sleep(_AGAIN_SECONDS)  # most are locked by this worker's own claim, for an exchange


async def _revive(worker: Worker) -> None:
    """Make jobs due that waited for this code. Bounded: some may be deferred again as soon as they are looked at."""
    revive = leases.revive(worker.names, list(worker.tasks), limit=_BATCH)
    for _ in range(_LOOKS):
        found = await _on_lane(worker, functools.partial(calls.run, call=revive))
        if found.revived:
            worker.claimer.look_everywhere()
            worker.wake()
        if found.revived == found.waited < _BATCH:
            return  # no further look: it would find those that were deferred meanwhile, over and over
        if found.revived < found.waited:  # some are locked: by a waiter for a result for a moment, or for longer
            await asyncio.sleep(_AGAIN_SECONDS)


async def _on_lane(worker: Worker, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    """Do it on a lane, as often as its connection breaks, or the database refuses to work: nobody else asks for it."""
    delay_seconds = _AGAIN_SECONDS
    while True:
        try:
            return await worker.desk.run(work, what="report after a lost lease")
        except psycopg.Error as error:
            if is_refusal(error):  # of what was to be written
                raise
            _log.debug("report: %s", error)
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(_LONGEST_SECONDS, 2 * delay_seconds)


def complain(task: asyncio.Task[None]) -> None:
    """Say how a task of the worker's has ended that nobody waits for, if that was an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended: %r", task.get_name(), error)
