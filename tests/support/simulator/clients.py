"""The statements of clients, over the model: start, proceed, send, cancel, retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.simulator.model import KEY_SHARE, NO_KEY_UPDATE, RUNNING, UPDATE, Tables
from tests.support.simulator.rows import Event, Job, Past

if TYPE_CHECKING:
    from tests.support.simulator.model import Tx

__all__ = ["Clients"]

_CANCELLED = 8
_WAITING = frozenset({0, 1, 3, 4, 5})


class Clients(Tables):
    """Statements of clients."""

    def start(
        self,
        job_id: int,
        *,
        task: str = "task",
        data: bytes = b"0",
        priority: int = 0,
        after: float = 0.0,
        deadline: float | None = None,
    ) -> int:
        """start.sql."""
        now = self.tick()
        due = now + max(0.0, after)
        self.jobs[job_id] = Job(
            job_id,
            task,
            now,
            due,
            data,
            priority=priority,
            deadline=None if deadline is None else due + deadline,
        )
        self.touched.add(job_id)
        return job_id

    def proceed(
        self,
        job_id: int,
        *,
        after: float | None = None,
        task: str | None = None,
        checkpoint: int | None = None,
        data: bytes | None = None,
        tx: Tx | None = None,
    ) -> bool | None:
        """proceed.sql; None when the job isn't live, or of another task."""
        now = self.tick()
        self.wait_for(job_id, NO_KEY_UPDATE, tx)
        job = self.jobs.get(job_id)
        if job is None or (task is not None and job.task != task):
            return None
        due = now if after is None else max(now, now + after)
        remembers = job.state == RUNNING or (job.state == 4 and job.asleep)
        if "proceed running" in self.broken and job.state == RUNNING:
            return False
        may = (
            (job.state == 4 and not job.asleep)
            or (job.state == 5 and job.due is not None and job.due > due)
            or (remembers and data is None)
        )
        if not may or (checkpoint is not None and job.checkpoint != checkpoint):
            return False
        self.change(job_id, NO_KEY_UPDATE, tx)
        if not remembers:
            job.state, job.due, job.woken_by, job.proceed_at = 5, due, 1, None
        elif job.proceed_requested and job.proceed_at is not None:
            job.proceed_at = min(job.proceed_at, due)
        else:
            job.proceed_at = due
        job.proceed_requested = remembers
        if data is not None:
            job.checkpoint += 1
            job.data = data
        return True

    def send(self, job_id: int, event_id: int, *, task: str = "task", tx: Tx | None = None) -> int | None:
        """send_event()."""
        now = self.tick()
        if "send locks" not in self.broken:
            self.wait_for(job_id, KEY_SHARE, tx)
        job = self.seen(job_id, tx)
        if job is None or job.task != task:
            return None
        state, wakes = job.state, _can_be_woken(job, now)
        if wakes:
            self.wait_for(job_id, NO_KEY_UPDATE, tx)
            self.change(job_id, NO_KEY_UPDATE, tx)
            job.state, job.due, job.woken_by = 5, now, 2
        self.events.setdefault(job_id, []).append(Event(event_id, wakes, tx))
        if tx is None:
            self.touched.add(job_id)
        return state

    def cancel(self, job_id: int, tx: Tx | None = None) -> bool:
        """cancel.sql."""
        self.tick()
        job = self.seen(job_id, tx)
        if job is None or (job.state not in _WAITING and "cancel state" not in self.broken):
            return False
        self.wait_for(job_id, UPDATE, tx)
        self.change(job_id, UPDATE, tx)
        self.end(job, _CANCELLED, tx)
        return True

    def request_cancel(self, job_id: int, tx: Tx | None = None) -> bool:
        """request_cancel.sql."""
        self.tick()
        job = self.seen(job_id, tx)
        if job is None or job.state != RUNNING:
            return False
        self.wait_for(job_id, NO_KEY_UPDATE, tx)
        self.change(job_id, NO_KEY_UPDATE, tx)
        job.cancel_requested = True
        return True

    def retry(self, job_id: int, *, attempt: int | None = None, data: bytes | None = None) -> bool:
        """retry.sql; here in a transaction of its own only."""
        now = self.tick()
        ended = self.ended.get(job_id)
        if ended is None or ended.tx is not None or (attempt is not None and ended.attempt != attempt):
            return False
        self.touched.add(job_id)
        if ended.attempt > 0:
            past = Past(ended.attempt, ended.state + 1, ended.woken_by, ended.worker, ended.error)
            self.remember(job_id, past)
        if data is not None:
            self.steps.pop(job_id, None)
            self.consume(job_id, [event.id for event in self.unread(job_id)], None)
        checkpoint = ended.checkpoint + (data is not None)
        del self.ended[job_id]
        self.jobs[job_id] = Job(
            job_id,
            ended.task,
            ended.created,
            now,
            ended.data if data is None else data,
            priority=ended.priority,
            claim=ended.claim,
            attempt=ended.attempt,
            checkpoint=checkpoint,
            claim_checkpoint=checkpoint,
        )
        return True


def _can_be_woken(job: Job, now: float) -> bool:
    return (job.state == 4 and not job.asleep) or (job.state == 5 and job.due is not None and job.due > now)
