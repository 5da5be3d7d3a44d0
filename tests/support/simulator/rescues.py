"""How a worker process returns jobs to the queue: those of lost workers, and those that it holds unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.store.settles import Finish, PutBack
from perdure.worker.rescuer import _verdict
from tests.support.simulator.bodies import LIMITS
from tests.support.simulator.model import Tx
from tests.support.simulator.scheduler import Lost, Until

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.store.leases import LapsedJob
    from tests.support.simulator.attempts import Claim
    from tests.support.simulator.bodies import Body
    from tests.support.simulator.desk import SimulatedDesk
    from tests.support.simulator.leases import Model
    from tests.support.simulator.ledger import Ledger
    from tests.support.simulator.scheduler import Script, World

__all__ = ["LEASE_SECONDS", "MOMENT_SECONDS", "Rescues"]

LEASE_SECONDS = 9.0
MOMENT_SECONDS = 0.1


class Rescues:
    """The sweeps, the rescues, the search for strays; `Process` is the rest."""

    world: World
    model: Model
    ledger: Ledger
    desk: SimulatedDesk
    running: dict[int, Body]
    worker_id: Any
    is_stopping: bool
    has_left: bool
    under_way: int
    looks_for_strays: bool
    transactions: list[Tx]

    def take_claimed(self, worker_id: Any, jobs: list[Claim]) -> None:
        """Begin what was claimed."""
        raise NotImplementedError

    def cancel(self, job_id: int, claim: int) -> None:
        """End a job whose cancellation was requested during this claim."""
        raise NotImplementedError

    def _rescuer(self) -> Script:
        model, world = self.model, self.world
        while not self.has_left:
            yield Until(lambda: self.worker_id is not None and self._is_needed())
            worker_id = self.worker_id
            if worker_id is None:  # lost just now
                continue
            try:
                expired = None
                if world.chance.random() < 0.3:
                    expired = yield model.lapsed_leases
                sweep = yield lambda worker_id=worker_id, expired=expired: model.sweep(worker_id, expired)
                requests = yield lambda worker_id=worker_id: model.cancelling(worker_id)
                for job_id, claim in requests:
                    self.cancel(job_id, claim)
                for lost in sweep.lost:
                    yield from self._rescue(lost, worker_id, ever_reported=False)
                if sweep.suspect_due and not self.is_stopping and not self.running:
                    jobs = yield lambda worker_id=worker_id: model.claim_suspect(worker_id)
                    self.take_claimed(worker_id, jobs)
            except Lost:
                self.looks_for_strays = True
            yield Until(at=world.now + 1.0)

    def _is_needed(self) -> bool:
        """Whether a sweep would find anything: it is spared where it wouldn't, which only saves steps."""
        model, now = self.model, self.model.now
        if any(row.lease_until <= now and not row.lapsed for row in model.workers.values()):
            return True
        for job in model.jobs.values():
            if job.worker is not None and ((row := model.workers.get(job.worker)) is None or row.lapsed):
                return True
            if job.cancel_requested and job.worker == self.worker_id:
                return True
            if job.suspect and job.worker is None and not self.running and not self.is_stopping:
                return True
        return False

    def _rescue(self, lost: Any, holder: Any, *, ever_reported: bool) -> Script:
        if self.world.chance.random() < 0.6:
            yield lambda: self._rescue_at_once(lost, holder, ever_reported=ever_reported)
            return
        tx = Tx(self.model)
        self.transactions.append(tx)
        try:
            jobs = yield lambda: self._in(tx, lambda: self.model.lapsed_jobs(lost, tx=tx))
            yield lambda: self._in(tx, lambda: self._write(lost, holder, jobs, tx, ever_reported=ever_reported))
            yield lambda: self._in(tx, lambda: self._commit(tx))
        except Lost:
            if tx in self.transactions:
                tx.roll_back()
            raise
        finally:
            if tx in self.transactions:
                self.transactions.remove(tx)

    def _in(self, tx: Tx, act: Callable[[], Any]) -> Any:
        """Do something in a transaction that the server may have ended meanwhile."""
        if tx not in self.transactions:
            raise Lost
        return act()

    def _commit(self, tx: Tx) -> None:
        tx.commit()
        self.transactions.remove(tx)

    def _rescue_at_once(self, lost: Any, holder: Any, *, ever_reported: bool) -> None:
        self._write(lost, holder, self.model.lapsed_jobs(lost), None, ever_reported=ever_reported)

    def _write(self, lost: Any, holder: Any, jobs: list[LapsedJob], tx: Tx | None, *, ever_reported: bool) -> None:
        verdicts = [_verdict(job, LIMITS, ever_reported=ever_reported) for job in jobs]
        for job, verdict in zip(jobs, verdicts, strict=True):
            entry = verdict.entry()
            self.ledger.lapses(job.id, job.claim, has_reported=ever_reported or job.has_left)
            if isinstance(entry, Finish):
                self.model.finish(lost, [entry], holder=holder, tx=tx)
            else:
                self.model.release(lost, [entry], holder=holder, lapsed=True, tx=tx)

    def _strays(self) -> Script:
        seen: list[tuple[int, int, int, bool]] = []
        while True:
            # Every third of a lease in perdure; here only once a claim's answer was lost, which saves steps.
            yield Until(lambda: self.looks_for_strays and self.worker_id is not None and not self.under_way)
            worker_id = self.worker_id
            if worker_id is None:  # lost just now
                continue
            try:
                known = [*self.running, *self.desk.ids()]
                found = yield lambda worker_id=worker_id, known=known: self.model.strays(worker_id, known)
            except Lost:
                continue
            found = [stray for stray in found if stray[0] not in self.running and stray[0] not in self.desk.ids()]
            for job_id, claim, checkpoint, cancel_requested in found:
                if (job_id, claim, checkpoint, cancel_requested) not in seen or self.under_way:
                    continue
                if cancel_requested:
                    self.desk.finish(Finish(job_id, claim, checkpoint, 8, None, None, None, None))
                else:
                    self.desk.put_back(PutBack(job_id, claim))
            seen = found
            yield Until(at=self.world.now + (MOMENT_SECONDS if found else LEASE_SECONDS / 3))
