"""A worker process as small steps: heartbeat, lane, rescuer, the search for strays, and what a new lease reports.

The desk, the verdicts, what follows from a write that found no row, and the rescue's decisions are perdure's own; only
the loops around them, which perdure has on asyncio, are told again here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.store.settles import PutBack
from perdure.worker import inquiry
from perdure.worker.batch import Batch
from tests.support.simulator.bodies import Body
from tests.support.simulator.desk import SimulatedDesk
from tests.support.simulator.rescues import LEASE_SECONDS, MOMENT_SECONDS, Rescues
from tests.support.simulator.scheduler import Exchange, Lost, Until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.simulator.attempts import Claim
    from tests.support.simulator.ledger import Ledger
    from tests.support.simulator.model import Tx
    from tests.support.simulator.scheduler import Script, World

__all__ = ["LEASE_SECONDS", "Process"]

_MARGIN_SECONDS = 0.9
_SLOTS = 2
_WAITING = frozenset({4, 5})


class Process(Rescues):
    """One worker process.

    Attributes:
        worker_id: The id of its lease, if it believes to have one.
        running: Its attempts by job.
        frozen_until: Until when it is stopped, if it is.
        is_stopping: Whether it claims no more.
        has_left: Whether it has given its lease back.
    """

    def __init__(self, world: World, ledger: Ledger, name: str) -> None:
        self.world, self.ledger, self.name = world, ledger, name
        self.model = world.model
        self.desk = SimulatedDesk()
        self.running: dict[int, Body] = {}
        self.worker_id: Any = None
        self.frozen_until: float | None = None
        self.is_alive, self.is_stopping, self.has_left = True, False, False
        self.lost: list[tuple[Any, list[int]]] = []
        self._valid_until = 0.0
        self._number = 0
        self.looks_for_strays = False
        self.transactions: list[Tx] = []
        self.under_way = 0
        world.processes.append(self)
        for part in (self._heartbeat, self._lane, self._rescuer, self._strays):
            world.add(f"{name} {part.__name__[1:]}", part(), self)

    # --- faults

    def kill(self) -> None:
        """SIGKILL: what has been sent may arrive all the same."""
        world = self.world
        world.say(f"{self.name} is killed")
        self.is_alive, self.frozen_until = False, None
        self._end_transactions()
        for actor in [actor for actor in world.actors if actor.process is self]:
            world.remove(actor)
            if actor.pending.__class__ not in (type(None), Until) and not actor.is_answered:
                world.send_late(actor)
        self.running.clear()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP."""
        self.world.say(f"{self.name} is frozen for {seconds} s")
        self.frozen_until = self.world.now + seconds

    def thaw(self) -> None:
        """SIGCONT; by then the server has ended what it had open for longer than a lease."""
        self.world.say(f"{self.name} thaws")
        self.frozen_until = None
        self._end_transactions()

    def _end_transactions(self) -> None:
        for tx in self.transactions:
            tx.roll_back()
        self.transactions.clear()

    # --- the lease

    def holds(self, worker_id: Any) -> bool:
        """Whether the lease of this id is valid, by this process's clock; if it isn't, it never is again."""
        if worker_id != self.worker_id:
            return False
        if self.world.now < self._valid_until:
            return True
        if not self.world.broken("keeps what is lost"):
            self._lose()
        return False

    def turned(self) -> None:
        """The event loop turns: give the lease up if it couldn't be renewed in time. Now and then it is late."""
        is_time = self.worker_id is not None and self.world.now >= self._valid_until - _MARGIN_SECONDS
        if is_time and self.world.chance.random() < 0.7:
            self._lose()

    def _lose(self) -> None:
        worker_id, self.worker_id = self.worker_id, None
        if worker_id is None:
            return
        self.world.say(f"{self.name} gives up its lease {worker_id}")
        self.desk.clear()
        ids = [body.job.id for body in self.running.values() if body.worker_id == worker_id]
        for job_id in ids:
            self.running[job_id].stop("lease lost")
        self.lost.append((worker_id, ids))

    def _heartbeat(self) -> Script:
        world, model = self.world, self.model
        while not self.has_left:
            try:
                sent_at = world.now
                if self.worker_id is None:
                    if not (world.broken("reused ids") and self._number):
                        self._number += 1
                    worker_id = f"{self.name}#{self._number}"
                    yield lambda worker_id=worker_id: model.register(worker_id, LEASE_SECONDS)
                    self.worker_id, self._valid_until = worker_id, sent_at + LEASE_SECONDS
                    world.add(f"{self.name} report", self._report(worker_id), self)
                else:
                    worker_id = self.worker_id
                    renewed = (yield self._renewal(worker_id))[-1]
                    if renewed and self.worker_id == worker_id:
                        self._valid_until = sent_at + LEASE_SECONDS
                    else:
                        self._lose()
                        continue
            except Lost:
                yield Until(at=world.now + MOMENT_SECONDS)
                continue
            yield Until(lambda: self.worker_id is None or self._is_drained, at=world.now + LEASE_SECONDS / 3)
            if self._is_drained:
                self.has_left = True
        while self.worker_id is not None:
            worker_id = self.worker_id
            try:
                yield lambda worker_id=worker_id: model.remove(worker_id)
                self.worker_id = None
            except Lost:
                continue

    def _renewal(self, worker_id: Any) -> Exchange:
        model = self.model
        return Exchange([lambda _tx: model.begin_renewal(worker_id), lambda _tx: model.end_renewal(worker_id)])

    def _report(self, worker_id: Any) -> Script:
        model = self.model
        while self.lost:
            lost, ids = self.lost[0]
            self.ledger.reports(lost)
            try:
                yield lambda lost=lost: model.remove(lost)
                yield from self._rescue(lost, worker_id, ever_reported=True)
                while (yield lambda lost=lost, ids=ids: model.forgive(lost, ids)):
                    pass  # some are locked
            except Lost:
                continue
            self.lost = [entry for entry in self.lost if entry[0] != lost]

    # --- the lane

    @property
    def _is_drained(self) -> bool:
        return self.is_stopping and not (self.running or self.under_way or self.desk.later) and self.desk.is_empty

    def _has_work(self) -> bool:
        if self.worker_id is None:
            return False
        desk = self.desk
        if desk.later or desk.finishes or desk.releases or desk._persists or desk._put_backs:
            return True
        return self._wants() > 0

    def _wants(self) -> int:
        """How many jobs to ask for: only if one is due, since who asks in vain only waits until he asks again."""
        if self.is_stopping or len(self.running) >= _SLOTS:
            return 0
        now = self.model.now
        is_due = any(
            job.state in (0, 3, 5, 4) and job.due is not None and job.due <= now and not job.suspect
            for job in self.model.jobs.values()
        )
        return _SLOTS - len(self.running) if is_due else 0

    def _lane(self) -> Script:
        work = Until(self._has_work)
        while True:
            yield work
            worker_id = self.worker_id
            if worker_id is None:
                continue
            self.desk.bring_again()
            batch, want = self.desk.take(), self._wants()
            statements = self._statements(worker_id, batch, want)
            if not statements:
                continue
            self.under_way += 1
            try:
                parts = [statement for _, statement in statements]
                answers = yield Exchange(parts[:-1], parts[-1]) if want else Exchange(parts)
            except Lost:
                self.desk.return_batch(batch)
                self.looks_for_strays = self.looks_for_strays or want > 0
            else:
                answered = dict(zip([name for name, _ in statements], answers, strict=True))
                yield from self._take_note(worker_id, batch, answered)
                self.take_claimed(worker_id, answered.get("claim", []))
            finally:
                self.under_way -= 1

    def _statements(self, worker: Any, batch: Batch, want: int) -> list[tuple[str, Callable[[Tx | None], Any]]]:
        model = self.model
        sent: list[tuple[str, Callable[[Tx | None], Any]]] = []
        if batch.persists:
            entries = [pending.entry for pending in batch.persists]
            sent.append(("persist", lambda tx: model.persist(worker, entries, tx)))
        if batch.finishes:
            sent.append(("finish", lambda tx: model.finish(worker, batch.finishes, tx=tx)))
        if batch.releases:
            waiting = [entry for entry in batch.releases if entry.state in _WAITING and not entry.asleep]
            pair: list[tuple[str, Callable[[Tx | None], Any]]] = [
                ("release", lambda tx: model.release(worker, batch.releases, tx=tx))
            ]
            if waiting:
                pair.append(("wake unread", lambda tx: model.wake_unread(waiting, tx)))
            sent += reversed(pair) if self.world.broken("looks before it suspends") else pair
        if batch.put_backs:
            sent.append(("put back", lambda tx: model.put_back(worker, batch.put_backs, tx)))
        if want:
            sent.append(("claim", lambda tx: model.claim(worker, want, tx)))
        for name, statement in sent:
            statement.__name__ = f"{name} by {worker}"
        return sent

    def _take_note(self, worker_id: Any, batch: Batch, answers: dict[str, Any]) -> Script:
        desk, unwritten = self.desk, Batch()
        landed = set(answers.get("persist", ()))
        for pending in batch.persists:
            if pending.entry.id in landed:
                inquiry.written(pending)
            else:
                unwritten.persists.append(pending)
        released = set(answers.get("release", ()))
        unwritten.releases = [entry for entry in batch.releases if entry.id not in released]
        if batch.finishes and answers["finish"] != len(batch.finishes):
            unwritten.finishes = batch.finishes
        open_ids = {entry.id for entry in unwritten.settles}
        desk.settled([entry for entry in batch.settles if entry.id not in open_ids])
        returned = set(answers.get("put back", ()))
        desk.returned([entry for entry in batch.put_backs if entry.id in returned])
        unwritten.put_backs = [entry for entry in batch.put_backs if entry.id not in returned]
        if unwritten:
            yield from self._inquire(worker_id, unwritten)

    def _inquire(self, worker_id: Any, unwritten: Batch) -> Script:
        desk = self.desk
        ids = {pending.entry.id for pending in unwritten.persists}
        ids |= {entry.id for entry in unwritten.settles} | {entry.id for entry in unwritten.returns}
        try:
            rows = yield lambda: self.model.settlement(sorted(ids))
        except Lost:
            desk.return_batch(unwritten)
            return
        for pending in unwritten.persists:
            inquiry._see_to_persist(desk, worker_id, pending, rows.get(pending.entry.id))
        for entry in unwritten.settles:
            if self.world.broken("decides once"):
                rows = {
                    job_id: row._replace(cancel_requested=False, proceed_requested=False)
                    for job_id, row in rows.items()
                }
            inquiry._see_to_settle(desk, worker_id, entry, rows.get(entry.id))
        for claim in unwritten.returns:
            inquiry._see_to_return(desk, worker_id, claim, rows.get(claim.id))

    def take_claimed(self, worker_id: Any, jobs: list[Claim]) -> None:
        if worker_id != self.worker_id:
            return  # they are rescued
        for job in jobs:
            if self.is_stopping or self.world.chance.random() < 0.05:
                self.desk.put_back(PutBack(job.id, job.claim))
            else:
                body = self.running[job.id] = Body(self, job, worker_id)
                self.world.add(f"{self.name} job {job.id}", body.run(), self)

    def cancel(self, job_id: int, claim: int) -> None:
        """End a job whose cancellation was requested during this claim."""
        body = self.running.get(job_id)
        if body is not None and body.job.claim == claim:
            body.stop("cancel")

    # --- stop

    def stop(self) -> None:
        """SIGTERM."""
        self.world.say(f"{self.name} is told to stop")
        self.is_stopping = True
        for body in list(self.running.values()):
            if self.world.chance.random() < 0.7:
                body.stop("shutdown")
