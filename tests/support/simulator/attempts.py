"""The statements of a worker for its attempts, over the model: claim, persist, settle, give back, ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.store.running import SleepBegun
from perdure.store.settles import Settlement
from tests.support.simulator.model import NO_KEY_UPDATE, RUNNING, SHARE, UPDATE, FenceError, Tables
from tests.support.simulator.rows import Past

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.store.settles import Deferral, Finish, Persist, PutBack, Release
    from tests.support.simulator.model import Tx
    from tests.support.simulator.rows import Job

__all__ = ["Attempts", "Claim"]

_CLAIMABLE = frozenset({0, 3, 4, 5})
_FAILED = 7
_LONGEST_DEFERRAL_SECONDS = 60.0
_MOST_DOUBLINGS = 6
_MOST_UNREADABLE = 1000


class Claim(NamedTuple):
    """What a claim answers of a job."""

    id: int
    task: str
    claim: int
    attempt: int
    retry_number: int
    scheduler_retries: int
    lapses: int
    checkpoint: int
    data: bytes
    woken_by: int


class Attempts(Tables):
    """Statements of attempts."""

    # --- claims

    def claim(self, worker: Any, want: int, tx: Tx | None = None) -> list[Claim]:
        """claim.sql."""
        return self._claim(worker, want, tx, suspects=False)

    def claim_suspect(self, worker: Any, tx: Tx | None = None) -> list[Claim]:
        """claim_suspect.sql."""
        return self._claim(worker, 1, tx, suspects=True)

    def _claim(self, worker: Any, want: int, tx: Tx | None, *, suspects: bool) -> list[Claim]:
        now = self.tick()
        if not self.holds_lease(worker):
            return []
        due = [
            job
            for job in self.jobs.values()
            if job.state in _CLAIMABLE
            and job.due is not None
            and job.due <= now
            and job.suspect == suspects
            and self.is_free(job.id, NO_KEY_UPDATE, tx)
        ]
        due.sort(key=lambda job: (job.due, job.id))
        if suspects:
            return [self._take(job, worker, tx) for job in due[:1]]
        taken: list[Claim] = []
        for level in sorted({job.priority for job in due}, reverse=True):
            front = [job for job in due if job.priority == level][:want]
            for job in front:  # a level's first are locked before it is known how many are taken of them
                self.lock(job.id, NO_KEY_UPDATE, tx)
            taken += [self._take(job, worker, tx) for job in front[: want - len(taken)]]
            if len(taken) == want:
                break
        return taken

    def _take(self, job: Job, worker: Any, tx: Tx | None) -> Claim:
        self.change(job.id, NO_KEY_UPDATE, tx)
        job.state = RUNNING
        if "claim number" not in self.broken:
            job.claim += 1
        job.attempt += 1
        job.worker = worker
        job.claim_checkpoint = job.checkpoint
        return Claim(
            job.id,
            job.task,
            job.claim,
            job.attempt,
            job.retry_number,
            job.scheduler_retries,
            job.lapses,
            job.checkpoint,
            job.data,
            job.woken_by,
        )

    def put_back(self, worker: Any, entries: Sequence[PutBack], tx: Tx | None = None) -> list[int]:
        """put_back.sql."""
        self.tick()
        returned = []
        for job_id, claim in entries:
            job = self.guarded(
                "put back", job_id, worker, claim, checkpoint=None, holder=None, mode=NO_KEY_UPDATE, tx=tx
            )
            if job is None or (job.cancel_requested and "put back cancel" not in self.broken):
                continue
            self.write("put back", job, worker, claim, None, NO_KEY_UPDATE, tx)
            job.state, job.worker = 0, None
            if "put back attempt" not in self.broken:
                job.attempt -= 1
            returned.append(job_id)
        return returned

    def defer(self, worker: Any, entries: Sequence[Deferral], tx: Tx | None = None) -> list[tuple[int, float]]:
        """defer.sql."""
        now = self.tick()
        deferred = []
        for job_id, claim, last_error, began in entries:
            job = self.guarded("defer", job_id, worker, claim, checkpoint=None, holder=None, mode=NO_KEY_UPDATE, tx=tx)
            if job is None or job.cancel_requested:
                continue
            self.write("defer", job, worker, claim, None, NO_KEY_UPDATE, tx)
            seconds = min(_LONGEST_DEFERRAL_SECONDS, 2.0 ** min(job.unreadable, _MOST_DOUBLINGS))
            job.state, job.worker, job.due, job.last_error = 0, None, now + seconds, last_error
            job.attempt -= not began
            job.unreadable = min(job.unreadable + 1, _MOST_UNREADABLE)
            deferred.append((job_id, seconds))
        return deferred

    def strays(self, worker: Any, known: Sequence[int]) -> list[tuple[int, int, int, bool]]:
        """strays.sql."""
        return [
            (job.id, job.claim, job.checkpoint, job.cancel_requested)
            for job in self.snapshot()
            if job.worker == worker and job.id not in known
        ]

    # --- checkpoints

    def persist(self, worker: Any, entries: Sequence[Persist], tx: Tx | None = None) -> list[int]:
        """persist.sql."""
        self.tick()
        landed = []
        for entry in entries:
            job = self.guarded(
                "persist",
                entry.id,
                worker,
                entry.claim,
                checkpoint=entry.checkpoint,
                holder=worker,
                mode=NO_KEY_UPDATE,
                tx=tx,
            )
            if job is None:
                continue
            self.write("persist", job, worker, entry.claim, worker, NO_KEY_UPDATE, tx)
            job.checkpoint += 1
            if entry.execution_metadata is not None:
                job.data = entry.execution_metadata
            self.consume(job.id, entry.events, tx)
            if entry.steps:
                self.steps.setdefault(job.id, {}).update(entry.steps)
            landed.append(job.id)
        return landed

    def fence(self, worker: Any, entry: Persist, tx: Tx | None = None) -> None:
        """consume.sql and fence.sql, in one message with their COMMIT.

        Raises:
            FenceError: The attempt may not write.
            Blocked: Another has the row.
        """
        self.tick()
        seen = self.seen(entry.id, tx)
        if seen is not None and self.holds_lease(worker):
            # It waits only for a row that looks right in its snapshot.
            place = seen.state, seen.worker, seen.claim, seen.checkpoint
            if place == (RUNNING, worker, entry.claim, entry.checkpoint):
                self.wait_for(entry.id, NO_KEY_UPDATE, tx)
        job = self.guarded(
            "fence",
            entry.id,
            worker,
            entry.claim,
            checkpoint=entry.checkpoint,
            holder=worker,
            mode=NO_KEY_UPDATE,
            tx=tx,
        )
        if job is None:
            raise FenceError
        self.write("fence", job, worker, entry.claim, worker, NO_KEY_UPDATE, tx)
        self.consume(job.id, entry.events, tx)
        job.checkpoint += 1
        if entry.execution_metadata is not None:
            job.data = entry.execution_metadata

    def take_checkpoint_number(self, worker: Any, entry: Persist, tx: Tx | None = None) -> int | None:
        """take_checkpoint_number.sql."""
        self.tick()
        job = self.guarded(
            "take number", entry.id, worker, entry.claim, checkpoint=None, holder=None, mode=NO_KEY_UPDATE, tx=tx
        )
        if job is None or job.checkpoint not in {entry.checkpoint, entry.checkpoint + 2}:
            return None
        if "take number" in self.broken:
            return job.checkpoint
        self.write("take number", job, worker, entry.claim, None, NO_KEY_UPDATE, tx)
        if "progress" not in self.broken:
            job.claim_checkpoint += entry.checkpoint + 2 - job.checkpoint
        job.checkpoint = entry.checkpoint + 2
        return job.checkpoint

    def begin_sleep(
        self, worker: Any, job_id: int, claim: int, key: str, seconds: float, found: bytes | None, version: int
    ) -> SleepBegun | None:
        """begin_sleep.sql; `until` is a time of the model."""
        now = self.tick()
        job = self.guarded("sleep", job_id, worker, claim, checkpoint=None, holder=worker, mode=NO_KEY_UPDATE, tx=None)
        if job is None:
            return None
        self.touched.add(job_id)
        steps = self.steps.setdefault(job_id, {})
        stored = steps.get(key)
        if isinstance(stored, bytes):  # a step's result, which had this key
            return SleepBegun(None, None, None, None)  # type: ignore[arg-type]
        if stored is None:
            stored = (now + seconds, found, version)
        elif stored[0] > now:
            stored = (stored[0], found, version)
        steps[key] = stored
        until, kept, kept_version = stored
        return SleepBegun(until, until <= now, kept, kept_version)  # type: ignore[arg-type]

    # --- outcomes

    def finish(self, worker: Any, entries: Sequence[Finish], *, holder: Any = None, tx: Tx | None = None) -> int:
        """finish.sql."""
        self.tick()
        holder, count = holder or worker, 0
        for entry in entries:
            job = self.guarded(
                "finish",
                entry.id,
                worker,
                entry.claim,
                checkpoint=entry.checkpoint,
                holder=holder,
                mode=UPDATE,
                tx=tx,
            )
            if job is None or (job.cancel_requested and entry.state == _FAILED and "finish cancel" not in self.broken):
                continue
            self.write("finish", job, worker, entry.claim, holder, UPDATE, tx)
            data = entry.execution_metadata
            self.end(
                job,
                entry.state,
                tx,
                data=job.data if data is None else data,
                checkpoint=job.checkpoint + (data is not None),
                result=entry.result,
                error=entry.error,
                last_error=entry.last_error,
            )
            self.consume(entry.id, entry.events, tx)
            count += 1
        return count

    def release(
        self, worker: Any, entries: Sequence[Release], *, holder: Any = None, lapsed: bool = False, tx: Tx | None = None
    ) -> list[int]:
        """release.sql; `due_at` is a time of the model."""
        self.tick()
        holder, released = holder or worker, []
        for entry in entries:
            job = self.guarded(
                "release",
                entry.id,
                worker,
                entry.claim,
                checkpoint=entry.checkpoint,
                holder=holder,
                mode=UPDATE,
                tx=tx,
            )
            if job is None or self._is_news(job, entry):
                continue
            self.write("release", job, worker, entry.claim, holder, UPDATE, tx)
            self._release(job, entry, lapsed=lapsed)
            self.consume(entry.id, entry.events, tx)
            self.remember(job.id, Past(job.attempt, entry.ending, entry.attempt_woken_by, worker, entry.error))
            released.append(entry.id)
        return released

    def _is_news(self, job: Job, entry: Release) -> bool:
        suspends = entry.state == 4 and not entry.asleep
        return (job.cancel_requested and "cancel" not in self.broken) or (
            job.proceed_requested and suspends and "proceed" not in self.broken
        )

    def _release(self, job: Job, entry: Release, *, lapsed: bool) -> None:
        now = self.now
        if not entry.keep_place:
            if entry.use_proceed:
                job.due = now if job.proceed_at is None else max(now, job.proceed_at)
            elif entry.due_at is not None:
                job.due = max(now, entry.due_at)  # type: ignore[assignment]
            else:
                job.due = None if entry.due_seconds is None else now + entry.due_seconds
        job.state = entry.state
        job.lapsed_worker = job.worker if lapsed and entry.lapses > job.lapses else None
        job.worker = None
        job.retry_number, job.scheduler_retries = entry.retry_number, entry.scheduler_retries
        job.lapses, job.suspect, job.asleep, job.unreadable = entry.lapses, entry.suspect, entry.asleep, 0
        if entry.woken_by is not None:
            job.woken_by = entry.woken_by
        job.proceed_requested = job.proceed_requested and not entry.use_proceed
        if entry.execution_metadata is not None:
            job.checkpoint += 1
            job.data = entry.execution_metadata
        job.error, job.last_error = entry.error, entry.last_error

    def wake_unread(self, entries: Sequence[Release], tx: Tx | None = None) -> list[int]:
        """wake_unread.sql."""
        now = self.tick()
        woken = []
        for entry in entries:
            job = self.jobs.get(entry.id)
            if job is None or not self.is_free(entry.id, NO_KEY_UPDATE, tx) or "wake unread" in self.broken:
                continue
            waits = (job.state == 4 and not job.asleep) or (job.state == 5 and job.due is not None and job.due > now)
            events = self.unread(entry.id, tx)
            if not waits or not any(entry.took_events or not event.woke for event in events):
                continue
            self.change(job.id, NO_KEY_UPDATE, tx)
            job.state, job.due, job.woken_by = 5, now, 2
            for event in events:
                if not event.woke:
                    event.woke = True
                    if tx is not None:
                        tx.marked.append(event)
            woken.append(job.id)
        return woken

    def settlement(self, ids: Sequence[int], tx: Tx | None = None) -> dict[int, Settlement]:
        """settlement.sql."""
        found: dict[int, Settlement] = {}
        for job_id in ids:
            if not self.is_free(job_id, SHARE, tx):
                found[job_id] = Settlement(job_id, 0, 0, None, 0, False, False, True)
            elif (job := self.jobs.get(job_id)) is not None:
                flags = job.cancel_requested, job.proceed_requested, False
                place = job_id, job.claim, job.state, job.worker, job.checkpoint
                found[job_id] = Settlement(*place, *flags, job.lapsed_worker)
            elif (ended := self.ended.get(job_id)) is not None and (ended.tx is None or ended.tx is tx):
                place = job_id, ended.claim, ended.state, ended.worker, ended.checkpoint
                found[job_id] = Settlement(*place, False, False, False)
        return found
