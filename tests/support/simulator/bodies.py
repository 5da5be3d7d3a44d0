"""An attempt: a handler that draws what it does, and what becomes of that.

Its execution metadata are three numbers: how often it has persisted, how many events it has used, how many rows it has
written in a `ctx.transaction()`. So whatever is lost, or is there twice, shows in the sums.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.core.decide import FRESH, Cancel, Fail, Limits, Raise, Returned, Shutdown, Snapshot, Suspend, UserCancel
from perdure.core.retry import RetryPolicy
from perdure.errors import LeaseLost
from perdure.store.settles import Finish, Persist
from perdure.worker.batch import PendingPersist
from perdure.worker.verdict import Verdict
from tests.support.simulator.model import FenceError
from tests.support.simulator.scheduler import Lost, Until

if TYPE_CHECKING:
    from perdure.core.decide import Ending
    from tests.support.simulator.attempts import Claim
    from tests.support.simulator.process import Process
    from tests.support.simulator.scheduler import Script

__all__ = ["LIMITS", "Body", "Numbers", "numbers"]

_MOST_ATTEMPTS = 6
_MOMENT_SECONDS = 0.1
LIMITS = Limits(RetryPolicy(1, (2.0,), 1), 3)
_MEANING: dict[str, Ending] = {
    "return": Returned(),
    "suspend": Suspend(),
    "suspend a while": Suspend(timedelta(seconds=3)),
    "raise": Raise(),
    "fail": Fail(),
    "fail for good": Fail(retry=False),
    "cancel": Cancel(),
    "cancel by user": UserCancel(),
    "shutdown": Shutdown(),
}
_ENDINGS = ("return", "return", "suspend", "suspend", "suspend a while", "raise", "fail", "fail for good", "cancel")


class Numbers(NamedTuple):
    """The execution metadata."""

    persisted: int
    events: int
    rows: int

    def encode(self) -> bytes:
        """As it is stored."""
        return b"%d,%d,%d" % self


def numbers(data: bytes) -> Numbers:
    """Decode what is stored."""
    return Numbers(*map(int, data.split(b",")))


class _Stopped(Exception):
    """The handler is stopped from outside."""


class _Written:
    """Whether a checkpoint is written: what the desk tells whoever waits for it."""

    __slots__ = ("_error", "_is_done")

    def __init__(self) -> None:
        self._is_done, self._error = False, None

    def done(self) -> bool:
        return self._is_done

    def set_result(self, _result: None) -> None:
        self._is_done = True

    def set_exception(self, error: Any) -> None:
        self._is_done, self._error = True, error

    def exception(self) -> Any:
        return self._error


class Body:
    """One attempt of a job.

    Attributes:
        job: As it was claimed.
        worker_id: Whose lease covers it.
    """

    def __init__(self, process: Process, job: Claim, worker_id: Any) -> None:
        self.process, self.job, self.worker_id = process, job, worker_id
        self.checkpoint = job.checkpoint
        self._claimed_checkpoint = job.checkpoint
        self._baseline = job.data
        self._now = numbers(job.data)
        self._before_events = self._now
        self._handed: tuple[int, ...] = ()
        self._took_events = False
        self._reason: str | None = None
        self._is_closed = False

    def stop(self, reason: str) -> None:
        """Ask it to end."""
        if self._reason is None or reason == "lease lost":
            self._reason = reason

    def wrote(self, entry: Persist) -> None:
        """Take note that a checkpoint is stored."""
        self.checkpoint += 1
        if entry.execution_metadata is not None:
            self._baseline = entry.execution_metadata
            if entry.events:
                self._took_events = True
                self._handed = self._handed[len(entry.events) :]
            self._before_events = numbers(self._baseline)

    # --- run

    def run(self) -> Script:
        """Do what a handler does, and settle it."""
        process, chance = self.process, self.process.world.chance
        process.ledger.begins(self.job.id, self.job.claim)
        try:
            for _ in range(int(chance.random() * 4)):
                yield from self._act(chance.random())
                yield None
                self._look()
            ending = self._choose(chance.random())
        except _Stopped:
            ending = "cancel by user" if self._reason == "cancel" else self._reason or "shutdown"
        except LeaseLost:
            # The lease may have been lost, or the attempt have been left behind: nothing of it is written any more.
            ending = "lease lost"
        if self._reason == "lease lost" or ending == "lease lost":
            self._leave()
            return
        self._end(ending)

    def _look(self) -> None:
        if self._reason is not None and self.process.world.chance.random() < 0.8:
            raise _Stopped

    def _act(self, drawn: float) -> Script:
        if drawn < 0.4:
            process = self.process
            process.ledger.outside(self.job.id, self.job.claim, self._now.persisted)
            yield from self._persist(self._now._replace(persisted=self._now.persisted + 1))
        elif drawn < 0.7:
            yield from self._transaction()
        else:
            yield from self._next_event(persists=drawn < 0.9)

    def _check_may_write(self) -> None:
        if self._is_closed or self._reason == "lease lost" or not self.process.holds(self.worker_id):
            raise LeaseLost

    def _persist(self, now: Numbers) -> Script:
        self._check_may_write()
        self._now, written = now, _Written()
        entry = Persist(self.job.id, self.job.claim, self.checkpoint, now.encode(), self._handed)
        self.process.desk.persist(PendingPersist(entry, self, written))  # type: ignore[arg-type]
        yield Until(written.done)
        if written.exception() is not None:
            raise written.exception()

    def _next_event(self, *, persists: bool) -> Script:
        self._check_may_write()
        try:
            unread = yield lambda: self.process.model.unread(self.job.id)
        except Lost:
            return
        fresh = [event.id for event in unread if event.id not in self._handed]
        if not fresh:
            return
        if not self._handed:
            self._before_events = self._now
        self._handed += (fresh[0],)
        self._now = self._now._replace(events=self._now.events + 1)
        if persists:
            yield from self._persist(self._now)

    def _transaction(self) -> Script:
        self._check_may_write()
        entered, now = self._now, self._now._replace(rows=self._now.rows + 1)
        entry = Persist(self.job.id, self.job.claim, self.checkpoint, now.encode(), self._handed)
        model, ledger = self.process.model, self.process.ledger

        def commit() -> None:
            model.fence(self.worker_id, entry)
            ledger.rows[self.job.id] = ledger.rows.get(self.job.id, 0) + 1

        commit.__name__ = f"fence {entry}"
        try:
            yield commit
        except FenceError:
            raise LeaseLost from None
        except Lost:
            landed = False if self.process.world.broken("guessed commit") else (yield from self._has_landed(entry))
            if not landed:
                self._now = entered
                return
        self._now = now
        self.wrote(entry)

    def _has_landed(self, entry: Persist) -> Script:
        """As `perdure.worker.port.WorkerPort.has_landed` finds out what became of a COMMIT."""
        model = self.process.model
        while True:
            if self._reason == "lease lost" or not self.process.holds(self.worker_id):
                raise LeaseLost
            try:
                number = yield lambda: model.take_checkpoint_number(self.worker_id, entry)
                if number is not None:
                    self._claimed_checkpoint += number - self.checkpoint
                    self.checkpoint = number
                    return False
                row = (yield lambda: model.settlement([entry.id])).get(entry.id)
            except Lost:
                yield Until(at=self.process.world.now + _MOMENT_SECONDS)
                continue
            if row is not None and row.locked:
                yield Until(at=self.process.world.now + _MOMENT_SECONDS)
                continue
            if row is not None and row.claim == entry.claim and row.checkpoint == entry.checkpoint + 1:
                return True
            if row is not None and (row.claim, row.worker_id, row.checkpoint) == (
                entry.claim,
                self.worker_id,
                entry.checkpoint,
            ):
                continue  # it was locked for a moment: the number can be had by now
            raise LeaseLost

    # --- end

    def _choose(self, drawn: float) -> str:
        if self.job.attempt >= _MOST_ATTEMPTS:
            return "return"
        return _ENDINGS[int(drawn * len(_ENDINGS))]

    def _leave(self) -> None:
        self._is_closed = True
        if self.process.running.get(self.job.id) is self:
            del self.process.running[self.job.id]

    def _end(self, ending: str) -> None:
        self._leave()
        process, job = self.process, self.job
        process.ledger.ends(job.id, job.claim, ending)
        process.world.say(f"job {job.id}, claim {job.claim} ends: {ending}")
        verdict = self._verdict(ending)
        if ending == "return" and verdict.snapshot is FRESH:
            process.desk.finish(
                Finish(
                    job.id, job.claim, self.checkpoint, 6, verdict.execution_metadata, b"1", None, None, self._handed
                )
            )
        else:
            process.desk.settle(verdict)

    def _verdict(self, ending: str) -> Verdict:
        """As `perdure.worker.endings` judges it."""
        job = self.job
        is_broken_off = ending == "raise"
        is_stopped = ending in {"shutdown", "cancel by user"}
        now = self._before_events if is_stopped and self._handed else self._now
        data: bytes | None = now.encode()
        if is_broken_off or data == self._baseline:
            data = None
        events = () if is_broken_off or is_stopped else self._handed
        snapshot = FRESH
        if job.retry_number or job.scheduler_retries or job.lapses:
            progressed = data is not None or self.checkpoint != self._claimed_checkpoint
            snapshot = Snapshot(
                job.retry_number,
                job.scheduler_retries,
                job.lapses,
                cancel_requested=False,
                proceed_requested=False,
                progressed=progressed,
            )
        return Verdict(
            job.id,
            job.claim,
            self.checkpoint,
            snapshot,
            _MEANING[ending],
            LIMITS,
            execution_metadata=data,
            result=b"1" if ending == "return" else None,
            events=events,
            took_events=self._took_events or bool(events),
            woken_by=job.woken_by,
        )
