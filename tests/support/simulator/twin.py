"""The model beside a real PostgreSQL: each statement runs on both, the answers and then all rows must be the same.

Time passes when the test says so: the model's clock goes on by whole hours, the database's times are set back by as
much. Every duration is in whole hours, so what really passes meanwhile makes no difference.
"""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.store import calls, claims, jobs, leases, running, settles
from perdure.store.jobs import NewPayloads
from tests.support.simulator.sides import TRANSACTIONS, Sides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import psycopg

    from perdure.store.calls import Call
    from perdure.store.leases import LapsedJob
    from perdure.store.running import SleepBegun
    from perdure.store.settles import Deferral, Finish, Persist, PutBack, Release
    from tests.support.simulator.model import Tx

__all__ = ["HOUR", "TRANSACTIONS", "Twin"]

HOUR = 3600.0
_ERROR, _LAST_ERROR = b'"late"', b"late"
_UNKNOWN_EVENT = -1


class Twin(Sides):
    """All statements."""

    # --- clients

    def start(
        self, *, after_hours: int = 0, deadline_hours: int | None = None, priority: int = 0, task: str = "task"
    ) -> int:
        """Start a job."""
        call = jobs.start(
            self._names,
            task=task,
            queue="default",
            priority=priority,
            metadata=b"1",
            execution_metadata=b"0",
            at=None,
            after=timedelta(hours=after_hours),
            notify=False,
            deadline=None if deadline_hours is None else timedelta(hours=deadline_hours),
        )
        job_id = self._bench.run(call).id
        deadline = None if deadline_hours is None else deadline_hours * HOUR
        self.model.start(job_id, task=task, priority=priority, after=after_hours * HOUR, deadline=deadline)
        self._done(f"start {job_id}, due in {after_hours} h, deadline {deadline_hours} h, priority {priority}")
        return job_id

    def proceed(
        self, place: int | None, job_id: int, *, after_hours: int | None, checkpoint: int | None, data: bytes | None
    ) -> None:
        """Proceed a job, with a modification if there is `data`."""
        call = jobs.proceed(
            self._names,
            job_id,
            at=None,
            after=None if after_hours is None else timedelta(hours=after_hours),
            checkpoint=checkpoint,
            payloads=None if data is None else NewPayloads(data, None, 1),
        )
        after = None if after_hours is None else after_hours * HOUR
        self._both(
            place,
            f"proceed {job_id} after {after_hours} h, checkpoint {checkpoint}, data {data!r}",
            _answering(call, lambda rows: None if not rows else bool(rows[0][0])),
            lambda tx: self.model.proceed(job_id, after=after, checkpoint=checkpoint, data=data, tx=tx),
        )

    def send(self, place: int | None, job_id: int) -> None:
        """Send an event; the model's gets the id that the database has given."""
        call = jobs.send(self._names, job_id, task="task", version=1, event=b"1", notify=False)
        self._both(
            place, f"send {job_id}", call, lambda tx: self.model.send(job_id, _UNKNOWN_EVENT, tx=tx), compares=False
        )
        for event in self.model.events.get(job_id, ()):
            if event.id == _UNKNOWN_EVENT:
                event.id = self._newest_event(place)
        self._compare()

    def cancel(self, place: int | None, job_id: int) -> None:
        """Cancel a job that waits."""
        call = jobs.cancel(self._names, job_id)
        self._both(place, f"cancel {job_id}", call, lambda tx: self.model.cancel(job_id, tx))

    def request_cancel(self, place: int | None, job_id: int) -> None:
        """Ask for the cancellation of a job that runs."""
        call = jobs.request_cancel(self._names, job_id)
        self._both(place, f"request cancel {job_id}", call, lambda tx: self.model.request_cancel(job_id, tx))

    def retry(self, job_id: int, *, attempt: int | None, data: bytes | None) -> None:
        """An operator's retry."""
        payloads = None if data is None else NewPayloads(data, None, 1)
        call = jobs.retry(self._names, job_id, attempt=attempt, payloads=payloads)
        self._both(
            None,
            f"retry {job_id}, attempt {attempt}, data {data!r}",
            _answering(call, bool),
            lambda _tx: self.model.retry(job_id, attempt=attempt, data=data),
        )

    # --- attempts

    def claim(self, place: int | None, worker: UUID, want: int) -> list[tuple[int, int, int]]:
        """Claim; answers ids, claims and checkpoints."""
        call = claims.claim(self._names, worker, want=want, queues=None)
        taken: list[tuple[int, int, int]] = self._both(
            place,
            f"claim up to {want} by {self._name(worker)}",
            _answering(call, lambda rows: [_claim(job) for job in call.read(rows).jobs]),
            lambda tx: [_claim(job) for job in self.model.claim(worker, want, tx)],
        )
        return taken

    def claim_suspect(self, worker: UUID) -> list[tuple[int, int, int]]:
        """Claim a suspect."""
        call = claims.claim_suspect(self._names, worker, queues=None)
        taken: list[tuple[int, int, int]] = self._both(
            None,
            f"claim a suspect by {self._name(worker)}",
            _answering(call, lambda rows: [_claim(job) for job in call.read(rows)]),
            lambda _tx: [_claim(job) for job in self.model.claim_suspect(worker)],
        )
        return taken

    def put_back(self, place: int | None, worker: UUID, entries: list[PutBack]) -> None:
        """Put claims back."""
        call = settles.put_back(self._names, worker, entries)
        self._both(
            place,
            f"{self._name(worker)}: {entries}",
            _sorted(call),
            lambda tx: self.model.put_back(worker, entries, tx),
        )

    def defer(self, worker: UUID, entries: list[Deferral]) -> None:
        """Defer claims: what waits for seconds is then made to wait for an hour more, on both sides."""
        call = settles.defer(self._names, worker, entries)
        deferred = self._both(
            None,
            f"{self._name(worker)}: {entries}",
            _answering(
                call, read=lambda rows: sorted((row.id, round(row.due_seconds or 0)) for row in call.read(rows))
            ),
            lambda _tx: [(job_id, round(seconds)) for job_id, seconds in self.model.defer(worker, entries)],
            compares=False,
        )
        for job_id, _seconds in deferred:
            self._bench.sql("update {s}.jobs set scheduled_at = scheduled_at + interval '1 hour' where id = %s", job_id)
            due = self.model.jobs[job_id].due
            assert due is not None
            self.model.jobs[job_id].due = due + HOUR
        self._compare()

    def persist(self, place: int | None, worker: UUID, entries: list[Persist]) -> None:
        """Persist checkpoints."""
        call = settles.persist(self._names, worker, entries)
        self._both(
            place, f"{self._name(worker)}: {entries}", _sorted(call), lambda tx: self.model.persist(worker, entries, tx)
        )

    def fence(self, place: int | None, worker: UUID, entry: Persist) -> None:
        """Consume events and fence, as the end of a `ctx.transaction()` does."""
        consume = running.consume(self._names, entry.id, entry.events)
        call = settles.fence(self._names, worker, entry, changed=True)

        def real(connection: psycopg.Connection[Any]) -> bool:
            with contextlib.nullcontext() if place is not None else connection.transaction():
                calls.run_blocking(connection, consume)
                return calls.run_blocking(connection, call)

        def modelled(tx: Tx | None) -> bool:
            self.model.fence(worker, entry, tx)
            return True

        self._both(place, f"{self._name(worker)}: fence {entry}", real, modelled)

    def take_number(self, worker: UUID, entry: Persist) -> None:
        """Take the number of a checkpoint whose COMMIT wasn't acknowledged."""
        call = running.take_checkpoint_number(self._names, worker, entry)
        self._both(
            None,
            f"{self._name(worker)}: take the number of {entry}",
            call,
            lambda _tx: self.model.take_checkpoint_number(worker, entry),
        )

    def begin_sleep(self, worker: UUID, job_id: int, claim: int, key: str, hours: int) -> None:
        """Begin a sleep, or find it begun."""
        sleep = running.Sleep(job_id, claim, key, hours * HOUR, b"3", 1)
        call = running.begin_sleep(self._names, worker, sleep)
        self._both(
            None,
            f"{self._name(worker)}: {sleep}",
            _answering(call, lambda rows: self._begun(call.read(rows), self._bench.now().timestamp())),
            lambda _tx: self._begun(
                self.model.begin_sleep(worker, job_id, claim, key, hours * HOUR, b"3", 1), self.model.now
            ),
        )

    def finish(self, place: int | None, worker: UUID, entries: list[Finish], holder: UUID | None = None) -> None:
        """End jobs."""
        call = settles.finish(self._names, worker, entries, holder=holder)
        self._both(
            place,
            f"{self._name(worker)}, lease of {self._name(holder or worker)}: {entries}",
            call,
            lambda tx: self.model.finish(worker, entries, holder=holder, tx=tx),
        )

    def release(
        self,
        place: int | None,
        worker: UUID,
        entries: list[Release],
        holder: UUID | None = None,
        *,
        lapsed: bool = False,
    ) -> None:
        """Release jobs."""
        call = settles.release(self._names, worker, entries, holder=holder, lapsed=lapsed)
        self._both(
            place,
            f"{self._name(worker)}, lease of {self._name(holder or worker)}, lapsed {lapsed}: {entries}",
            _answering(call, lambda rows: sorted(row.id for row in call.read(rows))),
            lambda tx: self.model.release(worker, entries, holder=holder, lapsed=lapsed, tx=tx),
        )

    def wake_unread(self, place: int | None, entries: list[Release]) -> None:
        """Let go on what waits and has unread events."""
        call = settles.wake_unread(self._names, entries)
        ids = [entry.id for entry in entries]
        self._both(place, f"wake unread {ids}", _sorted(call), lambda tx: self.model.wake_unread(entries, tx))

    def settlement(self, ids: Sequence[int]) -> None:
        """Ask what has become of jobs."""
        call = settles.settlement(self._names, ids)
        self._both(
            None,
            f"settlement of {ids}",
            _answering(call, lambda rows: _asked(call.read(rows))),
            lambda _tx: _asked(self.model.settlement(ids)),
        )

    # --- leases

    def register(self, hours: int = 3) -> None:
        """Register a worker."""
        worker = self._bench.register(lease_seconds=hours * HOUR)
        self.workers.append(worker)
        self.model.register(worker, hours * HOUR)
        self._done(f"register {self._name(worker)}")

    def renew(self, worker: UUID) -> None:
        """Renew a lease."""
        call = leases.renew(self._names, worker)
        self._both(None, f"renew {self._name(worker)}", call, lambda _tx: self.model.renew(worker))

    def remove(self, worker: UUID) -> None:
        """Give a lease back."""
        call = leases.remove(self._names, worker)
        self._both(None, f"remove {self._name(worker)}", call, lambda _tx: self.model.remove(worker))

    def sweep(self, worker: UUID) -> None:
        """Sweep."""
        call = leases.sweep(self._names, worker)
        self._both(
            None,
            f"sweep by {self._name(worker)}",
            _answering(call, lambda rows: _swept(call.read(rows))),
            lambda _tx: _swept(self.model.sweep(worker)),
        )
        requests = leases.cancelling(self._names, worker)
        self._both(
            None,
            f"cancel requests of {self._name(worker)}",
            _answering(requests, lambda rows: sorted(requests.read(rows))),
            lambda _tx: sorted(self.model.cancelling(worker)),
        )

    def lapsed_jobs(self, place: int, worker: UUID) -> list[LapsedJob]:
        """Lock the jobs of a worker that has no lease."""
        call = leases.lapsed_jobs(self._names, worker, limit=500)
        what = f"lapsed jobs of {self._name(worker)}"
        found: list[LapsedJob] = self._both(place, what, call, lambda tx: self.model.lapsed_jobs(worker, tx=tx))
        return found

    def forgive(self, worker: UUID, ids: Sequence[int]) -> None:
        """Take lapses back."""
        call = leases.forgive(self._names, worker, ids)
        self._both(None, f"{self._name(worker)} forgives {ids}", call, lambda _tx: self.model.forgive(worker, ids))

    def expire(self) -> None:
        """Fail what is past its deadline."""
        call = leases.expire(self._names, error=_ERROR, last_error=_LAST_ERROR, limit=500)
        self._both(None, "expire", call, lambda _tx: self.model.expire(error=_ERROR, last_error=_LAST_ERROR))

    def revive(self, task: str) -> None:
        """Make due what waited for a worker that knows this task."""
        call = leases.revive(self._names, [task], limit=10_000)
        self._both(None, f"revive {task}", call, lambda _tx: self.model.revive([task]))

    # --- time and transactions

    def pass_time(self, hours: int) -> None:
        """Let hours pass; less than none: the database's clock is set back."""
        if any(self._open):
            return  # the rows that are locked couldn't be set back
        self.model.now += hours * HOUR
        shift = f"interval '{hours} hours'"
        self._bench.sql(
            f"""with a as (
                    update {{s}}.jobs set scheduled_at = scheduled_at - {shift}, created_at = created_at - {shift},
                        proceed_at = proceed_at - {shift}, deadline_at = deadline_at - {shift}
                ), b as (
                    update {{s}}.finished_jobs set scheduled_at = scheduled_at - {shift},
                        created_at = created_at - {shift}, deadline_at = deadline_at - {shift}
                ), c as (
                    update {{s}}.workers set lease_until = lease_until - {shift}
                )
                update {{s}}.steps set result = (result::jsonb || jsonb_build_object(
                    'until', (result ->> 'until')::timestamptz - {shift}))::json
                where result ->> 'until' is not null"""
        )
        self._done(f"{hours} h pass")

    @staticmethod
    def _begun(begun: SleepBegun | None, now: float) -> Any:
        if begun is None or begun.until is None:
            return begun
        until: Any = begun.until
        moment = until if isinstance(until, float) else until.timestamp()
        return round((moment - now) / HOUR), *begun[1:]


def _answering(call: Call[Any], read: Callable[[Sequence[tuple[Any, ...]]], Any]) -> Call[Any]:
    """Make another answer of the call's rows."""
    return dataclasses.replace(call, read=read)


def _claim(job: Any) -> tuple[int, int, int]:
    return job.id, job.claim, job.checkpoint


def _sorted(call: Call[list[int]]) -> Call[list[int]]:
    return _answering(call, lambda rows: sorted(call.read(rows)))


def _asked(found: dict[int, Any]) -> dict[int, Any]:
    # Of a locked row nothing counts but that it is locked.
    return {job_id: "locked" if row.locked else tuple(row) for job_id, row in found.items()}


def _swept(sweep: Any) -> tuple[Any, ...]:
    next_hours = [
        None if at is None else round(at / HOUR) for at in (sweep.next_lapse_seconds, sweep.next_deadline_seconds)
    ]
    return (
        sorted(sweep.lapsed),
        sorted(sweep.lost),
        sweep.suspect_due,
        sweep.deadline_due,
        *next_hours,
    )
