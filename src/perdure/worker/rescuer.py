"""Returns the jobs of lapsed workers to the queue; and gives each suspect a run of its own.

Every worker sweeps: there is no leader to lose. A sweep sleeps until the next lease ends, so that recovery takes no
longer than the lease, and two sweeps of one job can't both have it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from perdure.core.decide import Lapse, Limits, Snapshot
from perdure.core.failure import Raised, encode_raised
from perdure.core.states import JobState
from perdure.failpoints import reach
from perdure.store import calls, claims, leases, settles
from perdure.store.refusals import for_log, is_refusal
from perdure.store.settles import Finish
from perdure.worker.endings import deadline_exceeded, describe
from perdure.worker.pace import rest_seconds
from perdure.worker.seldom import Seldom
from perdure.worker.service import Service
from perdure.worker.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from psycopg import AsyncConnection

    from perdure.store.claims import Claimed
    from perdure.store.leases import LapsedJob, Sweep
    from perdure.store.settles import Release
    from perdure.store.sql import Names
    from perdure.worker.claimer import Claimer
    from perdure.worker.desk import Desk

__all__ = ["Rescuer", "RescuerOwner", "rescue"]

_log = logging.getLogger("perdure.worker")
_LONGEST_SLEEP_SECONDS = 2.5
_LONGEST_UNSCANNED_SECONDS = 60.0
_SHORTEST_SLEEP_SECONDS = 0.02
_SUSPECT_LOOK_SECONDS = 0.1
_BATCH = 500


class RescuerOwner(Protocol):
    """What the rescuer needs of its worker."""

    names: Names
    queues: tuple[str, ...] | None
    desk: Desk
    claimer: Claimer

    def limits_of(self, name: str) -> Limits:
        """What the settings allow the jobs of a task."""
        ...

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""

    @property
    def has_room_for_suspect(self) -> bool:
        """Whether no suspect runs here, and a slot is free."""
        ...

    def keep_slot_free(self, *, for_suspect: bool) -> None:
        """Keep the next slot that is free from being filled with anything but a suspect; or don't any more."""

    def take_claimed(self, jobs: list[Claimed], worker_id: UUID) -> None:
        """Start what was claimed."""

    def claims_uncertain(self) -> None:
        """A claim's answer was lost: look for strays."""


class Rescuer(Service):
    """The sweep for lapsed leases."""

    name = "rescuer"

    def __init__(self, owner: RescuerOwner) -> None:
        """Prepare the sweeps."""
        super().__init__()
        self._owner = owner
        self._scan_at_seconds = 0.0
        self._seldom = Seldom()

    async def run_once(self) -> float:
        """Sweep once; return the seconds until the next lease ends, or so."""
        owner = self._owner
        worker_id = owner.worker_id
        if worker_id is None:
            return _LONGEST_SLEEP_SECONDS / 4
        sweep = await self._sweep(worker_id)
        if sweep.lapsed:
            reach("sweep.committed")
        for lost in sweep.lost:
            await self._rescue(lost, worker_id)
        if sweep.deadline_due:
            await self._expire()
        suspect_due = sweep.suspect_due and owner.claimer.open
        claims_suspect = suspect_due and owner.has_room_for_suspect
        if claims_suspect:
            await owner.desk.run(functools.partial(self._claim_suspect, worker_id), what="claim of a suspect")
        # Under load no slot would ever be free when this looks.
        owner.keep_slot_free(for_suspect=suspect_due and not claims_suspect)
        if sweep.lapsed:
            return 0.0
        if suspect_due:  # also when one was claimed just now: others may wait for its end, which nobody tells of
            return _SUSPECT_LOOK_SECONDS
        following = [at for at in (sweep.next_lapse_seconds, sweep.next_deadline_seconds) if at is not None]
        next_seconds = min([_LONGEST_SLEEP_SECONDS, *following])
        next_seconds += random.uniform(_SHORTEST_SLEEP_SECONDS, 5 * _SHORTEST_SLEEP_SECONDS)  # noqa: S311 - jitter
        return max(_SHORTEST_SLEEP_SECONDS, min(_LONGEST_SLEEP_SECONDS, next_seconds))

    async def _sweep(self, worker_id: UUID) -> Sweep:
        """Sweep, and look for jobs without a lease where that is due: it may cost much."""
        owner, began_seconds = self._owner, None
        scans = time.monotonic() >= self._scan_at_seconds
        call = leases.sweep(owner.names, worker_id, scans=scans, queues=owner.queues)

        async def work(connection: AsyncConnection[Any]) -> Sweep:
            nonlocal began_seconds
            began_seconds = time.monotonic()
            return await calls.run(connection, call)

        try:
            if scans:
                sweep, took_seconds = await owner.desk.look(work, what="sweep")
                self._scan_at_seconds = _next_scan_at_seconds(took_seconds)
            else:
                sweep = await owner.desk.run(work, what="sweep")
        except BaseException:
            # It may have ended leases, whose jobs only a scan finds; but a scan that takes too long fails each time.
            # Its wait for other looks isn't counted.
            took_seconds = time.monotonic() - began_seconds if scans and began_seconds is not None else 0.0
            self._scan_at_seconds = _next_scan_at_seconds(took_seconds)
            raise
        if sweep.lapsed:
            self._scan_at_seconds = 0.0  # their jobs
        return sweep

    async def _expire(self) -> None:
        """Fail the jobs that are past their deadline and that no worker holds."""
        raised = describe(deadline_exceeded())
        fields = {"error": encode_raised(raised), "last_error": str(raised).encode()}
        limit, stepped_over = _BATCH, 0
        while True:
            call = leases.expire(self._owner.names, **fields, limit=limit, stepped_over=stepped_over)
            try:
                count = await self._owner.desk.run(functools.partial(calls.run, call=call), what="end of overdue jobs")
            except psycopg.Error as error:
                if not is_refusal(error):
                    raise
                if limit == 1:
                    stepped_over += 1
                    about = "jobs that are past their deadline"
                    self._seldom.log(
                        logging.ERROR, about, "a job that is past its deadline can't be ended: %s", for_log(error)
                    )
                limit = 1  # so that one which is refused doesn't hold up the others
                continue
            if count < limit:
                return

    async def _claim_suspect(self, worker_id: UUID, connection: AsyncConnection[Any]) -> None:
        # All of it on the lane: whatever becomes of this service meanwhile, what was claimed is taken or put back.
        owner = self._owner
        try:
            jobs = await calls.run(connection, claims.claim_suspect(owner.names, worker_id, queues=owner.queues))
        except BaseException:
            owner.claims_uncertain()
            raise
        owner.keep_slot_free(for_suspect=False)
        owner.take_claimed(jobs, worker_id)

    async def _rescue(self, lost: UUID, holder: UUID) -> None:
        owner = self._owner
        count = await owner.desk.run(
            functools.partial(
                rescue,
                names=owner.names,
                lost=lost,
                holder=holder,
                limits_of=owner.limits_of,
                ever_reported=False,
                seldom=self._seldom,
            ),
            what="rescue",
        )
        if count:
            _log.warning("worker %s is lost: %d of its jobs go on elsewhere", lost, count)
            owner.claimer.look_everywhere()
            owner.desk.wake()


def _next_scan_at_seconds(took_seconds: float) -> float:
    return time.monotonic() + rest_seconds(took_seconds, least=0.0, most=_LONGEST_UNSCANNED_SECONDS)


async def rescue(
    connection: AsyncConnection[Any],
    names: Names,
    lost: UUID,
    holder: UUID,
    limits_of: Callable[[str], Limits],
    *,
    ever_reported: bool,
    seldom: Seldom,
) -> int:
    """Decide and write what becomes of the jobs that a worker without a lease holds; returns how many there were.

    Args:
        connection: In autocommit mode.
        names: The schema's names.
        lost: The worker that has lost its lease.
        holder: The worker whose lease allows the writes.
        limits_of: What the settings allow the jobs of a task, by its name.
        ever_reported: Whether the lost worker is known to be alive, so that its lapse isn't counted.
        seldom: Says which jobs can't be rescued; they are found again by each sweep.
    """
    count, limit, skipped = 0, _BATCH, list[int]()
    while True:
        jobs: list[LapsedJob] = []
        try:
            async with connection.transaction():
                jobs = await calls.run(connection, leases.lapsed_jobs(names, lost, limit=limit, skipped=skipped))
                verdicts = [_verdict(job, limits_of(job.task), ever_reported=ever_reported) for job in jobs]
                written = await _write(connection, names, lost, holder, verdicts)
                reach("rescue.uncommitted")
        except psycopg.Error as error:
            if not (jobs and is_refusal(error)):
                raise
            if len(jobs) == 1:
                skipped.append(jobs[0].id)
                job_id = jobs[0].id
                seldom.log(logging.ERROR, "jobs to be rescued", "job %d can't be rescued: %s", job_id, for_log(error))
            limit = 1  # so that one which is refused doesn't hold up the others
            continue
        reach("rescue.committed")
        count += written
        if written < limit:  # also when the holder has lost its own lease: then nothing is written any more
            return count


async def _write(
    connection: AsyncConnection[Any], names: Names, lost: UUID, holder: UUID, verdicts: list[Verdict]
) -> int:
    entries = [verdict.entry() for verdict in verdicts]
    finishes = [entry for entry in entries if isinstance(entry, Finish)]
    releases: list[Release] = [entry for entry in entries if not isinstance(entry, Finish)]
    written = 0
    if finishes:
        written += await calls.run(connection, settles.finish(names, lost, finishes, holder=holder))
    if releases:
        call = settles.release(names, lost, releases, holder=holder, lapsed=True)
        released = await calls.run(connection, call)
        written += len(released)
    return written


def _verdict(job: LapsedJob, limits: Limits, *, ever_reported: bool) -> Verdict:
    snapshot = Snapshot.of_counts(
        job.retry_number,
        job.scheduler_retries,
        job.lapses,
        cancel_requested=job.cancel_requested,
        proceed_requested=job.proceed_requested,
        progressed=job.persisted,
    )
    ending = Lapse(persisted=job.persisted, ever_reported=ever_reported or job.has_left)
    verdict = Verdict(job.id, job.claim, job.checkpoint, snapshot, ending, limits, woken_by=job.woken_by)
    if verdict.entry().state == JobState.FAILED.code:
        raised = Raised(
            "perdure.errors.WorkerLost",
            f"{limits.max_lapses} workers in a row were lost while they ran this job, and none of the attempts had "
            "persisted anything; retry it once its cause is known",
        )
        error, line = encode_raised(raised), str(raised)
    else:
        error = None
        line = f"the attempt's worker {'gave it up before its outcome was written' if job.has_left else 'was lost'}"
    return dataclasses.replace(verdict, error=error, last_error=line.encode())
