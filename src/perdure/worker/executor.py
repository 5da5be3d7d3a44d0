"""Runs claimed jobs: resolve, decode, run, decide, settle. Knows no SQL; what is to be written goes to the desk.

Nothing is awaited between a handler's end and its settle, so no cancellation can come between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from perdure.attempt import Attempt, StopReason
from perdure.context import BlockingContext, Context
from perdure.core.states import JobState
from perdure.errors import LeaseLost, PayloadError
from perdure.steps import Asleep
from perdure.store.settles import Deferral, Finish, ProgressReport, PutBack
from perdure.worker import endings
from perdure.worker.ahead import Ahead
from perdure.worker.eager import Starter
from perdure.worker.reading import read_payloads
from perdure.worker.slots import Slots
from perdure.worker.telling import Telling
from perdure.worker.threads import Threads
from perdure.worker.timers import call_after

if TYPE_CHECKING:
    from collections import defaultdict
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from perdure.port import Port
    from perdure.store.claims import Claimed
    from perdure.store.running import Upgrade
    from perdure.task import Task
    from perdure.worker.ahead import Waiting
    from perdure.worker.claimer import Claimer
    from perdure.worker.desk import Desk
    from perdure.worker.endings import AnyOutcome, Rules
    from perdure.worker.verdict import Verdict

__all__ = ["Executor", "ExecutorOwner"]

_log = logging.getLogger("perdure.worker")
_COMPLETED = JobState.COMPLETED.code
_CANCELLED = JobState.CANCELLED.code
# Reasons to stop that say what becomes of the job, however the handler unwinds. (Of a cancel the row decides.)
_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.TIMEOUT, StopReason.DEADLINE})


class ExecutorOwner(Protocol):
    """What the executor needs of its worker."""

    desk: Desk
    claimer: Claimer
    rules: Rules
    tasks: Mapping[str, Task[Any, Any, Any, Any]]
    resolver: Callable[[type[Any]], Any] | None
    cancel_grace_seconds: float

    lost: defaultdict[UUID, list[int]]

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""


class Executor:
    """The running attempts of a worker process, and what was claimed ahead of them."""

    def __init__(self, owner: ExecutorOwner, port: Port, *, concurrency: int, threads: int) -> None:
        """Begin with nothing in hand; the port is what attempts ask."""
        self._owner = owner
        self._port = port
        self._ahead = Ahead()
        self._telling = Telling()
        self._threads = Threads(threads, self._fill)
        self._slots = Slots(concurrency, self._threads, owner.rules.is_suspect)
        self.running = self._slots.running
        self._loop = asyncio.get_running_loop()
        self._starter = Starter()
        # A handler that was left behind may still run: its task is kept from being collected.
        self._left_behind: set[asyncio.Task[None]] = set()

    @property
    def in_hand(self) -> int:
        """How many jobs are running or claimed ahead, and the slot that is kept free."""
        return len(self.running) + len(self._ahead) + self._slots.keeps_one_free

    @property
    def has_room_for_suspect(self) -> bool:
        """Whether a slot is free and there is no suspect here."""
        return self._slots.has_room_for_suspect(waiting.job for waiting in self._ahead)

    def keep_slot_free(self, *, keeps: bool) -> None:
        """Keep a slot for a suspect; or don't any more, and fill it."""
        keeps = keeps and not self._slots.has_suspect(waiting.job for waiting in self._ahead)
        if keeps != self._slots.keeps_one_free:
            self._slots.keeps_one_free = keeps
            self._loop.call_soon(self._fill)  # not now: the suspect that it was kept for may be about to begin
            self._owner.desk.wake()

    @property
    def has_left_behind(self) -> bool:
        """Whether a handler that was left behind still runs."""
        return bool(self._left_behind)

    def known_ids(self) -> Iterable[int]:
        """The jobs in hand."""
        return [*self.running, *(waiting.job.id for waiting in self._ahead)]

    async def wait_until_idle(self) -> None:
        """Wait until no attempt runs."""
        await self._slots.wait_until_idle()

    # ---- resolve and decode

    def take(self, jobs: list[Claimed], worker_id: UUID) -> None:
        """Start claimed jobs, or keep them until a slot, and for a `def` handler a thread, is free."""
        for job in jobs:
            if self._slots.have_room_for(job, self._owner.tasks):
                self._begin(job, worker_id)
            else:
                self._ahead.add(job, worker_id)

    def _fill(self) -> None:
        """Start what was claimed ahead: in its order, but nothing waits for what waits for a thread or a suspect."""
        self._ahead.begin(self._begin_waiting)

    def _begin_waiting(self, waiting: Waiting) -> bool | None:
        if self._slots.are_taken:
            return None
        if waiting.worker_id != self._owner.worker_id:
            return True  # its lease is lost: it is rescued
        if not self._slots.have_room_for(waiting.job, self._owner.tasks):
            return False
        self._begin(waiting.job, waiting.worker_id)
        return True

    def put_back(self, jobs: list[Claimed]) -> None:
        """Return claimed jobs untouched."""
        for job in jobs:
            self._owner.desk.put_back(PutBack(job.id, job.claim))

    def turned(self) -> None:
        """See, once a turn, to what waits for too long: jobs claimed ahead, and handlers for a COMMIT's answer."""
        self.put_back_stale()
        for attempt in list(self.running.values()):
            attempt.cut_if_silent(self._port.lease_seconds)

    def put_back_stale(self, *, everything: bool = False) -> None:
        """Return what was claimed ahead and couldn't be started in a second; or all of it."""
        for waiting in self._ahead.take_stale(everything=everything):
            self._owner.claimer.misjudged()
            if waiting.worker_id == self._owner.worker_id:
                self._owner.desk.put_back(PutBack(waiting.job.id, waiting.job.claim))

    def _begin(self, job: Claimed, worker_id: UUID) -> None:
        owner = self._owner
        task = owner.tasks.get(job.task)
        if task is None:
            reason = f"no task named {job.task!r} is registered in this worker's app; it waits for one that has it"
            self._telling.unread(job, reason)
            self._defer(job, reason)
            return
        try:
            payloads = read_payloads(job, task)
        except Exception as error:  # noqa: BLE001 - also of the user's classes: nothing of one job may harm the others
            kind = "" if isinstance(error, PayloadError) else f"its payloads can't be read: {type(error).__name__}: "
            self._telling.unread(job, error)
            self._defer(job, f"{job.task}: {kind}{error}")
            return
        attempt = Attempt(job, task, worker_id, self._port, self._loop, payloads)
        if job.deadline_seconds is not None and job.deadline_seconds <= 0:
            owner.desk.settle(owner.rules.stopped(attempt, StopReason.DEADLINE, keep_checkpoint=False))
            return
        self._slots.take(attempt)
        attempt.started_at_seconds = time.monotonic()
        if job.deadline_seconds is not None:
            self._arm(attempt, job.deadline_seconds, lambda: self.stop(attempt, StopReason.DEADLINE))
        if task.options.timeout is not None:
            self._arm(attempt, task.options.timeout.total_seconds(), lambda: self.stop(attempt, StopReason.TIMEOUT))
        if task.is_async:
            attempt.handle = self._starter.start(self._run(attempt), attempt.started_at_seconds)
        else:
            self._threads.take()
            attempt.handle = self._starter.start_later(self._run_in_thread(attempt))

    def _defer(self, job: Claimed, reason: str) -> None:
        self._owner.desk.defer(Deferral(job.id, job.claim, endings.one_line(reason)))

    # ---- run

    async def _run(self, attempt: Attempt) -> None:
        attempt.started = True
        try:
            if attempt.upgrade is not None:
                await self._upgrade(attempt, attempt.upgrade)
            handler = attempt.task.bind(self._owner.resolver)
            try:
                outcome = await handler(Context(attempt, self._port))
            finally:
                if attempt.write_lock is not None:
                    await attempt.settle_writing()
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises ends its attempt, not the worker
            self._raised(attempt, error)
        else:
            self._returned(attempt, outcome)

    async def _run_in_thread(self, attempt: Attempt) -> None:
        context: BlockingContext[Any, Any] = BlockingContext(attempt, self._port)

        def call() -> Any:
            return attempt.task.bind(self._owner.resolver)(context)

        try:
            attempt.started = True
            if attempt.upgrade is not None:
                try:
                    await self._upgrade(attempt, attempt.upgrade)
                    attempt.check_thread_not_stopped()
                except BaseException:
                    self._threads.give_back()
                    raise
            try:
                outcome = await self._threads.run(call, f"perdure job {attempt.job.id}")
            finally:
                await attempt.settle_writing()
        except BaseException as error:  # noqa: BLE001 - as above
            self._raised(attempt, error)
        else:
            self._returned(attempt, outcome)

    async def _upgrade(self, attempt: Attempt, entry: Upgrade) -> None:
        """Store the payloads as this code has them, so that whatever is written from now on is of one version."""
        await self._port.upgrade(attempt, entry)
        attempt.checkpoint += 1
        attempt.job = attempt.job._replace(checkpoint=attempt.checkpoint)  # it isn't the attempt's progress

    # ---- decide and settle

    def _returned(self, attempt: Attempt, outcome: Any) -> None:
        if attempt.closed or attempt.stop_reason is StopReason.LEASE_LOST:
            self._drop(attempt)
            return
        owner = self._owner
        try:
            if outcome.__class__ in endings.OUTCOMES:
                verdict = owner.rules.outcome(attempt, cast("AnyOutcome", outcome))
            elif attempt.job.lapses or attempt.job.scheduler_retries or attempt.job.retry_number:
                verdict = owner.rules.returned(attempt, outcome)
            else:
                # The common case, without an object for its own sake: `decide` would say just this.
                job, task = attempt.job, attempt.task
                result = task.result.encode(outcome, what="result", limit=self._port.max_payload_bytes)
                checkpoint, events = attempt.changed_at_end(), attempt.used_at_end()
                owner.desk.finish(
                    Finish(job.id, job.claim, attempt.checkpoint, _COMPLETED, checkpoint, result, None, None, events)
                )
                self._release_slot(attempt)  # what begins in it may take its time
                return
        except Exception as error:  # noqa: BLE001 - a payload that can't be stored, or the user's own code in it
            verdict = owner.rules.raised(attempt, error)
        self._end(attempt, verdict)

    def _end(self, attempt: Attempt, verdict: Verdict) -> None:
        self._release_slot(attempt)
        self._owner.desk.settle(verdict)

    def _raised(self, attempt: Attempt, error: BaseException) -> None:
        reason = attempt.stop_reason
        is_fenced = isinstance(error, LeaseLost) and not self._port.holds(attempt.worker_id)
        if attempt.closed or is_fenced or reason is StopReason.LEASE_LOST:
            self._drop(attempt)
            return
        error, rules = endings.meant(attempt, error), self._owner.rules
        if error is attempt.unreadable:
            self._defer_begun(attempt, error)
            return
        if reason is not None and endings.is_cancellation(error):
            verdict = rules.stopped(attempt, reason, error, keep_checkpoint=True)
        elif endings.is_refused(attempt, error):  # and yet the lease is valid: the database's clock was ahead
            verdict = rules.stopped(attempt, StopReason.LEASE_LOST, keep_checkpoint=False)
        elif isinstance(error, Asleep):
            verdict = rules.asleep(attempt, error)
        elif reason is not None and reason in _DECIDES:
            # What it raises as it unwinds changes nothing: a stop spends no retry, and a time-out stays one. Only what
            # it has persisted is sure to be whole.
            verdict = rules.stopped(attempt, reason, error, keep_checkpoint=False)
            self._telling.raised(attempt.job, error)
        else:
            verdict = rules.raised(attempt, error)
            self._telling.raised(attempt.job, error)
        self._end(attempt, verdict)

    def _defer_begun(self, attempt: Attempt, error: BaseException) -> None:
        job = attempt.job
        self._telling.unread(job, error)
        self._release_slot(attempt)
        self._owner.desk.defer(Deferral(job.id, job.claim, endings.one_line(f"{job.task}: {error}"), began=True))

    def _drop(self, attempt: Attempt) -> None:
        """End an attempt of which nothing may be written any more."""
        if not attempt.closed:
            _log.debug("job %d: attempt %d has lost its lease", attempt.job.id, attempt.job.attempt)
            if attempt.stop_reason is not StopReason.LEASE_LOST:  # it knew before its worker did
                self._owner.lost[attempt.worker_id].append(attempt.job.id)
            self._release_slot(attempt)

    def _release_slot(self, attempt: Attempt) -> None:
        attempt.close()
        if attempt.timers is not None:
            for timer in attempt.timers:
                timer.cancel()
        if attempt.next_progress is not None:
            job = attempt.job
            self._owner.desk.report_progress(ProgressReport(job.id, job.claim, attempt.next_progress))
            attempt.next_progress = None
        self._slots.release(attempt)
        self._owner.claimer.measure(time.monotonic() - attempt.started_at_seconds)
        self._fill()
        if self._slots.idle is not None:
            self._slots.tell_if_idle()

    # ---- stop

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Ask one attempt to end; leave it behind if it hasn't after the grace."""
        if attempt.closed or attempt.stop_reason is StopReason.LEASE_LOST:
            return
        if attempt.stop_reason is not None and reason is not StopReason.LEASE_LOST:
            return
        attempt.stop_reason = reason
        handle = attempt.handle
        assert handle is not None  # noqa: S101 - set when it began
        if not attempt.started:
            self._release_slot(attempt)
            if reason is not StopReason.LEASE_LOST:
                self._owner.desk.put_back(PutBack(attempt.job.id, attempt.job.claim))
            handle.cancel()
            if not attempt.task.is_async:
                self._threads.give_back()
            return
        if attempt.task.is_async:
            handle.cancel()
        self._arm(attempt, self._owner.cancel_grace_seconds, lambda: self._leave_behind(attempt))

    def cancel(self, job_id: int, claim: int) -> None:
        """End a job whose cancellation was requested during this claim, if it is here."""
        attempt = self.running.get(job_id)
        if attempt is not None and attempt.job.claim == claim:
            self.stop(attempt, StopReason.CANCEL)
            return
        job = self._ahead.take(job_id, claim, self._owner.worker_id)
        if job is not None:
            self._owner.desk.finish(Finish(job.id, job.claim, job.checkpoint, _CANCELLED, None, None, None, None))

    def stop_all(self, reason: StopReason) -> None:
        """Ask every running attempt to end."""
        for attempt in list(self.running.values()):
            self.stop(attempt, reason)

    def lose_lease(self, worker_id: UUID) -> list[int]:
        """Stop what runs under a lost lease, forget what was claimed ahead, and return the jobs of both."""
        ahead = self._ahead.drop(worker_id)
        lost = [attempt for attempt in self.running.values() if attempt.worker_id == worker_id]
        for attempt in lost:
            self.stop(attempt, StopReason.LEASE_LOST)
        return [*ahead, *(attempt.job.id for attempt in lost)]

    def _leave_behind(self, attempt: Attempt) -> None:
        if attempt.closed:
            return
        reason = attempt.stop_reason
        assert reason is not None  # noqa: S101 - set by `stop`
        self._telling.left_behind(attempt.job, reason)
        handle = attempt.handle
        if handle is not None and not handle.done():
            self._left_behind.add(handle)
            handle.add_done_callback(self._left_behind.discard)
        verdict = None
        if reason is not StopReason.LEASE_LOST:
            verdict = self._owner.rules.stopped(attempt, reason, keep_checkpoint=False)
        self._release_slot(attempt)
        if verdict is not None:
            self._owner.desk.settle(verdict)
        if handle is not None and not attempt.task.is_async:
            handle.cancel()  # only the waiting for the thread ends; the thread itself can't be ended

    def _arm(self, attempt: Attempt, seconds: float, action: Callable[[], None]) -> None:
        if attempt.timers is None:
            attempt.timers = []
        attempt.timers.append(call_after(self._loop, seconds, action))
