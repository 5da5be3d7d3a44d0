"""The statements for leases and rescues, over the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.store.leases import LapsedJob, Revived, Sweep
from tests.support.simulator.attempts import Attempts
from tests.support.simulator.clients import Clients
from tests.support.simulator.model import NO_KEY_UPDATE, UPDATE
from tests.support.simulator.rows import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.simulator.model import Tx

__all__ = ["Model"]

_FAILED = 7
_CLAIMABLE = frozenset({0, 3, 4, 5})


class Model(Attempts, Clients):
    """The whole store."""

    def register(self, worker: Any, lease_seconds: float) -> None:
        """register_worker.sql."""
        self.workers[worker] = Worker(worker, self.tick() + lease_seconds, lease_seconds)

    def renew(self, worker: Any) -> bool:
        """renew_lease.sql."""
        renewed = self.begin_renewal(worker)
        return self.end_renewal(worker) if renewed else False

    def begin_renewal(self, worker: Any) -> bool:
        """renew_lease.sql up to its commit: the row is locked, and others see it as it was."""
        self.tick()
        row = self.workers.get(worker)
        if row is None or ((row.lapsed or row.lease_until <= self.now) and "renew" not in self.broken):
            return False
        row.renewed_until = self.now + row.lease_seconds
        return True

    def end_renewal(self, worker: Any) -> bool:
        """The commit of a renewal."""
        row = self.workers.get(worker)
        if row is None or row.renewed_until is None:
            return False
        row.lease_until, row.renewed_until = row.renewed_until, None
        return True

    def remove(self, worker: Any) -> None:
        """remove_worker.sql."""
        self.tick()
        row = self.workers.get(worker)
        if row is None:
            return
        if any(job.worker == worker for job in self.snapshot()):
            row.lapsed = row.left = True
        else:
            del self.workers[worker]

    def lapsed_leases(self) -> list[Any]:
        """The leases that a sweep's snapshot shows as run out."""
        return [row.id for row in self.workers.values() if not row.lapsed and row.lease_until <= self.now]

    def mark(self, worker: Any) -> bool:
        """The update of sweep.sql, which asks again under the row's lock."""
        row = self.workers.get(worker)
        if row is None or row.lapsed or row.renewed_until is not None:
            return False
        if row.lease_until > self.now and "sweep" not in self.broken:
            return False
        row.lapsed = True
        return True

    def sweep(self, worker: Any, expired: Iterable[Any] | None = None) -> Sweep:
        """sweep.sql; `expired`: the leases that its snapshot showed as run out, if that was taken before."""
        now = self.tick()
        jobs = self.snapshot()
        holders = {job.worker for job in jobs if job.worker is not None}
        lost = [holder for holder in holders if (row := self.workers.get(holder)) is None or row.lapsed]
        lapsed = [found for found in (self.lapsed_leases() if expired is None else expired) if self.mark(found)]
        others = [
            row.lease_until - now
            for row in self.workers.values()
            if not row.lapsed and row.id != worker and row.lease_until > now
        ]
        for row in self.workers.values():
            if not row.lapsed and row.lease_until > now + row.lease_seconds + 1:
                row.lease_until = now + row.lease_seconds
        deadlines = [job.deadline for job in jobs if job.worker is None and job.deadline is not None]
        return Sweep(
            lapsed=lapsed,
            lost=sorted(lost),
            next_lapse_seconds=min(others, default=None),
            suspect_due=any(
                job.suspect and job.state in _CLAIMABLE and job.due is not None and job.due <= now for job in jobs
            ),
            deadline_due=any(deadline <= now for deadline in deadlines),
            next_deadline_seconds=min((deadline - now for deadline in deadlines if deadline > now), default=None),
        )

    def cancelling(self, worker: Any) -> list[tuple[int, int]]:
        """cancelling.sql."""
        self.tick()
        return [(job.id, job.claim) for job in self.snapshot() if job.cancel_requested and job.worker == worker]

    def lapsed_jobs(
        self, worker: Any, limit: int = 500, skipped: Sequence[int] = (), tx: Tx | None = None
    ) -> list[LapsedJob]:
        """lapsed_jobs.sql."""
        self.tick()
        row = self.workers.get(worker)
        if row is not None and not row.lapsed and "rescue" not in self.broken:
            return []
        found = [
            LapsedJob(
                job.id,
                job.claim,
                job.checkpoint,
                job.checkpoint > (0 if "lapses" in self.broken else job.claim_checkpoint),
                job.retry_number,
                job.scheduler_retries,
                job.lapses,
                job.cancel_requested,
                job.proceed_requested,
                job.woken_by,
                job.task,
                row is not None and row.left,
            )
            for job in sorted(self.jobs.values(), key=lambda job: job.id)
            if job.worker == worker and job.id not in skipped and self.is_free(job.id, UPDATE, tx)
        ][:limit]
        for job in found:
            self.lock(job.id, UPDATE, tx)
        return found

    def forgive(self, worker: Any, ids: Iterable[int]) -> int:
        """forgive.sql."""
        self.tick()
        locked = 0
        for job_id in set(ids):
            if self.seen(job_id, None) is None:
                continue
            if not self.is_free(job_id, NO_KEY_UPDATE, None):
                locked += 1
                continue
            job = self.jobs[job_id]
            if job.lapses > 0 and (job.lapsed_worker == worker or "forgive" in self.broken):
                self.touched.add(job_id)
                job.lapses, job.lapsed_worker, job.suspect = job.lapses - 1, None, False
        return locked

    def expire(self, *, error: bytes, last_error: bytes) -> int:
        """expire.sql."""
        now = self.tick()
        over = [
            job
            for job in self.jobs.values()
            if job.deadline is not None
            and job.deadline <= now
            and job.worker is None
            and self.is_free(job.id, UPDATE, None)
        ]
        for job in over:
            self.touched.add(job.id)
            self.end(job, _FAILED, error=error, last_error=last_error)
        return len(over)

    def revive(self, tasks: Iterable[str]) -> Revived:
        """revive.sql."""
        now, names = self.tick(), set(tasks)
        waiting = [
            job
            for job in self.jobs.values()
            if job.unreadable > 0 and job.task in names and job.state == 0 and job.due is not None and job.due > now
        ]
        free = [job for job in waiting if self.is_free(job.id, NO_KEY_UPDATE, None)]
        for job in free:
            self.touched.add(job.id)
            job.due, job.unreadable = min(job.created, now), 1
        return Revived(len(free), len(waiting))

    def locked_ids(self) -> set[int]:
        """The jobs that an open transaction has a lock on: of what it has written others see nothing."""
        return set(self._locks)
