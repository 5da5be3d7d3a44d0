"""A lane: one connection that carries exchanges. What has ended goes out, what is due comes in, in one round trip.

All statements of an exchange are one transaction, and all of them are fenced, so an exchange whose answer was lost is
simply made again: what had landed finds no row the second time, and `inquiry` tells that from a lost lease.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from perdure.failpoints import reach_each
from perdure.store import claims, direct, leases
from perdure.store.claims import EVERYWHERE, Claimed, Claims, Front
from perdure.store.links import cut, cut_after
from perdure.store.refusals import is_refusal
from perdure.store.sessions import WorkerConnection
from perdure.store.settles import Released
from perdure.worker.batch import Batch
from perdure.worker.inquiry import inquire, written
from perdure.worker.looks import Looks
from perdure.worker.poison import condemn, let_heal
from perdure.worker.sending import written_by

if TYPE_CHECKING:
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.sql import Names
    from perdure.worker.claimer import Claimer
    from perdure.worker.condition import Condition
    from perdure.worker.desk import Desk, Errand

__all__ = ["Lane", "LaneOwner"]

_log = logging.getLogger("perdure.worker")
_BACK_OFF_SECONDS = (0.05, 5.0)


class LaneOwner(Protocol):
    """What a lane needs of its worker."""

    dsn: str
    keeps_sessions: bool
    names: Names
    queues: tuple[str, ...] | None
    desk: Desk
    claimer: Claimer
    lease_seconds: float
    condition: Condition

    @property
    def worker_id(self) -> UUID | None:
        """The id of the current lease, if there is one."""

    @property
    def in_hand(self) -> int:
        """How many jobs are running or claimed."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether the lanes end once nothing is left to write."""
        ...

    def take_claimed(self, jobs: list[Claimed], worker_id: UUID) -> None:
        """Start what was claimed."""

    def released(self, entries: list[Released]) -> None:
        """Take note of jobs that go on later."""

    def wake(self) -> None:
        """There may be due jobs."""

    def claims_uncertain(self) -> None:
        """A claim's answer was lost: look for strays."""

    def lane_connected(self) -> None:
        """There is a connection (again)."""


class Lane:
    """One connection and its loop."""

    def __init__(self, owner: LaneOwner, number: int) -> None:
        """Prepare; `run` connects."""
        self.name = f"lane {number}"
        self.exchange_began_at_seconds: float | None = None
        self._owner = owner
        self._desk = owner.desk
        self._claimer = owner.claimer
        self._connection: WorkerConnection | None = None
        self._looks = Looks(owner.wake)
        self._floors = owner.claimer.floors
        self._pokes_at_claim = 0
        self._looks_everywhere = False
        self._has_exchanged = False
        self._was_refused = False

    async def run(self) -> None:
        """Carry exchanges until the worker is drained; reconnect as often as need be."""
        shortest, longest = _BACK_OFF_SECONDS
        delay_seconds = shortest
        while True:
            try:
                self._connection = await self._connect()
                self._owner.lane_connected()
                await self._carry()
            except (psycopg.Error, OSError) as error:
                self._lost(error)
            except Exception:  # noqa: BLE001 - a bug; but the next try may do better than no lane at all
                _log.exception("%s failed", self.name)
            else:
                return
            finally:
                await self._disconnect()
            if self._has_exchanged:
                self._has_exchanged, delay_seconds = False, shortest
            await asyncio.sleep(delay_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay_seconds = min(longest, delay_seconds * 2)

    def _lost(self, error: Exception) -> None:
        # One that has worked and ends is no outage: the next may be had.
        if self._owner.is_draining or self._has_exchanged:
            _log.debug("%s: %s", self.name, error)
        else:
            self._owner.condition.failed(self.name, error)

    async def _connect(self) -> WorkerConnection:
        owner = self._owner
        return await WorkerConnection.open(
            owner.dsn, owner.names, lease_seconds=owner.lease_seconds, may_keep=owner.keeps_sessions
        )

    def cut_if_not_answered_in(self, seconds: float) -> None:
        """Break off what is under way, if it still is by then: without its lease nothing of it counts any more."""
        began_at_seconds = self.exchange_began_at_seconds

        def look() -> None:
            if began_at_seconds is not None and self.exchange_began_at_seconds == began_at_seconds:
                self.cut()

        asyncio.get_running_loop().call_later(seconds, look)

    def cut(self) -> None:
        """Break the connection, so that what is under way on it ends now."""
        if self._connection is not None:
            cut(self._connection)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _carry(self) -> None:
        desk, owner, claimer = self._desk, self._owner, self._claimer
        while True:
            errand = desk.next_errand()  # first: under load there is always something else to do
            if errand is not None:
                await self._run_errand(errand)
            worker_id = owner.worker_id
            if worker_id is not None:
                batch = desk.take()
                if batch.outcome_bytes:
                    claimer.measure_outcomes(len(batch.finishes) + len(batch.releases), batch.outcome_bytes)
                sleeping = None if batch else claimer.next_sleeping(owner.in_hand)
                want = claimer.want(owner.in_hand, unwritten=desk.waiting_outcomes) if sleeping is None else 0
                if batch or want or sleeping is not None:
                    await self._exchange(worker_id, batch, want, sleeping)
                    continue
            if errand is not None:
                continue
            if owner.is_draining and (worker_id is None or desk.is_empty):
                desk.wake_all()
                return
            await desk.wait()

    async def _run_errand(self, errand: Errand) -> None:
        try:
            await self._do(errand)
        finally:
            if errand.is_look:
                self._desk.looked()

    async def _do(self, errand: Errand) -> None:
        assert self._connection is not None  # noqa: S101 - narrows the type
        if errand.done.done():  # nobody waits for it any more
            return
        self.exchange_began_at_seconds = asyncio.get_running_loop().time()
        try:
            with cut_after(self._connection, self._owner.lease_seconds):
                result = await errand.work(self._connection)
        except asyncio.CancelledError:
            errand.done.cancel()
            raise
        except Exception as error:
            if not errand.done.done():
                errand.done.set_exception(error)
            if self._connection.closed:
                raise psycopg.OperationalError(str(error)) from error
            if isinstance(error, psycopg.Error) and not is_refusal(error):
                self._owner.condition.failed(errand.what, error)
        else:
            self._has_exchanged = True
            for who in (self.name, errand.what):
                self._owner.condition.works(who)
            if not errand.done.done():
                errand.done.set_result(result)
        finally:
            self.exchange_began_at_seconds = None

    async def _exchange(self, worker_id: UUID, batch: Batch, want: int, sleeping: bool | None) -> None:  # noqa: FBT001
        try:
            await self._send_and_sort(worker_id, batch, want, sleeping)
        finally:
            self.exchange_began_at_seconds = None  # only here: until it is taken, what is claimed is on its way

    async def _send_and_sort(self, worker_id: UUID, batch: Batch, want: int, sleeping: bool | None) -> None:  # noqa: FBT001
        self.exchange_began_at_seconds = asyncio.get_running_loop().time()
        self._pokes_at_claim = self._claimer.pokes
        self._floors = self._claimer.floors  # the lease's: when the answer comes there may be another, with its own
        self._looks_everywhere = False
        try:
            try:
                sent = self._calls(worker_id, batch, want, sleeping)
                reach_each(sent, "unsent")
                answers = await self._send(sent)
            finally:
                began_at_seconds = self.exchange_began_at_seconds
                if self._looks_everywhere:  # others may, then; in vain it isn't done again at once either
                    self._floors.looked_everywhere(began_at_seconds, asyncio.get_running_loop().time())
                    self._desk.looked()
            reach_each(sent, "committed")
        except BaseException as error:
            self._claimer.release(want)
            if sleeping is not None:
                self._claimer.says(sleeping=False)
            if want:
                self._owner.claims_uncertain()
            if not isinstance(error, psycopg.Error) or self._connection is None or self._connection.closed:
                self._desk.got_stuck(batch)
                self._give_back(worker_id, batch)
                self._desk.wake()  # the other lane, which may have left all that to this one
                raise
            # The database refuses, but is there: nothing of the exchange was done.
            await self._refused(worker_id, batch, error, is_alone=not want and sleeping is None)
            return
        self._has_exchanged, self._was_refused = True, False
        self._desk.got_through()
        self._owner.condition.works(self.name)
        answered = dict(zip(sent, answers, strict=True))
        if answered.get("wake unread"):
            self._owner.wake()
        await self._sort_answers(worker_id, batch, want, sleeping, answered)

    def _give_back(self, worker_id: UUID, batch: Batch) -> None:
        if worker_id == self._owner.worker_id:
            self._desk.return_batch(batch)
        else:
            batch.fail_persists()  # nothing of a lost lease is written again

    async def _refused(self, worker_id: UUID, batch: Batch, error: psycopg.Error, *, is_alone: bool) -> None:
        """Find the entry that is refused, so that it doesn't hold up its neighbours; or wait until the server heals.

        `is_alone`: whether nothing but the batch was sent, so that it is the batch which is refused.
        """
        if not (batch and is_refusal(error)):
            # Out of disk, a deadlock, a time-out. Not at full speed again.
            self._desk.got_stuck(batch)
            self._give_back(worker_id, batch)
            self._was_refused = True
            self._owner.condition.failed(self.name, error)
            await let_heal(error, self._connection, self._owner.names)
            return
        parts = batch.singly()
        if len(parts) == 1 and is_alone:
            condemn(batch, error, self._desk)
            return
        try:
            while parts:
                await self._exchange(worker_id, parts.pop(0), 0, None)
                if self._was_refused:  # for another reason meanwhile
                    return
        finally:
            for rest in parts:
                self._give_back(worker_id, rest)

    def _calls(self, worker_id: UUID, batch: Batch, want: int, sleeping: bool | None) -> dict[str, Call[Any]]:  # noqa: FBT001
        names = self._owner.names
        sent = written_by(names, worker_id, batch)
        if sleeping is not None:
            sent["sleep"] = leases.set_sleeping(names, worker_id, sleeping=sleeping)
        if want:
            self._claim(sent, worker_id, want)
        return sent

    def _claim(self, sent: dict[str, Call[Any]], worker_id: UUID, want: int) -> None:
        names, queues, band, front = self._owner.names, self._owner.queues, self._claimer.only_band, self._front()
        if band is not None:
            sent["claim"] = claims.claim_band(names, worker_id, want=want, queues=queues, band=band, front=front)
            return
        if self._claimer.asks_for_bands:
            sent["bands"] = claims.bands(names)
        sent["claim"] = claims.claim(names, worker_id, want=want, queues=queues, front=front)

    def _front(self) -> Front:
        """Return where the claim begins to look; everywhere is a look that may take long."""
        desk = self._desk
        front = self._floors.choose(asyncio.get_running_loop().time(), may_look_everywhere=not desk.is_looking)
        if front is EVERYWHERE:
            self._looks_everywhere = desk.is_looking = True
            desk.wake()  # another lane: what has just come doesn't wait for the end of this
        return front

    async def _send(self, sent: dict[str, Call[Any]]) -> list[Any]:
        connection = self._connection
        assert connection is not None  # noqa: S101 - narrows the type
        # What takes longer is fenced by then: it isn't waited for, whatever is dead in between.
        with cut_after(connection, self._owner.lease_seconds):
            if len(sent) == 1:
                return [await direct.run(connection, call) for call in sent.values()]
            # In one trip; as one transaction, which behind a pooler has to be begun by itself.
            async with nullcontext() if connection.session_is_ours else connection.transaction_of_its_own():
                return await direct.run_all(connection, [*sent.values()], lambda: reach_each(sent, "uncommitted"))

    async def _sort_answers(
        self,
        worker_id: UUID,
        batch: Batch,
        want: int,
        sleeping: bool | None,  # noqa: FBT001 - as it was sent
        answers: dict[str, Any],
    ) -> None:
        if sleeping is not None:
            # The row of a lease that is lost meanwhile says nothing of the new one's, which begins awake.
            self._claimer.says(sleeping=sleeping and worker_id == self._owner.worker_id)
            self._claimer.poke()
            self._looks.after_sleep()
        try:
            unwritten = self._take_note(batch, answers)
            if unwritten:
                assert self._connection is not None  # noqa: S101 - narrows the type
                try:
                    with cut_after(self._connection, self._owner.lease_seconds):
                        await inquire(self._connection, self._owner.names, self._desk, worker_id, unwritten)
                except BaseException:
                    self._give_back(worker_id, unwritten)
                    raise
        finally:
            if "bands" in answers:
                self._claimer.bands_are(answers["bands"])
            if want:  # what is started here takes its time, so everything else is told before
                self._take_claims(worker_id, want, answers["claim"])

    def _take_note(self, batch: Batch, answers: dict[str, Any]) -> Batch:
        """Tell of what was written; return what found no row."""
        unwritten, desk = Batch(), self._desk
        if batch.persists:
            landed = set(answers["persist"])
            for pending in batch.persists:
                if pending.entry.id in landed:
                    written(pending)
                else:
                    unwritten.persists.append(pending)
        if batch.releases:
            released = {entry.id: entry for entry in answers["release"]}
            self._owner.released(answers["release"])
            unwritten.releases = [entry for entry in batch.releases if entry.id not in released]
        if batch.finishes and answers["finish"] != len(batch.finishes):
            unwritten.finishes = batch.finishes
        open_ids = {entry.id for entry in unwritten.settles}
        desk.settled([entry for entry in batch.settles if entry.id not in open_ids])
        if batch.put_backs or batch.deferrals:
            given = [*(Released(job_id, None) for job_id in answers.get("put back", ())), *answers.get("defer", ())]
            self._owner.released(given)  # for this worker what it has put back isn't due at once
            returned = {entry.id for entry in given}
            desk.returned([entry for entry in batch.returns if entry.id in returned])
            if batch.put_backs:
                self._claimer.floors.look_everywhere()  # they are at their old places
                self._looks.after_put_back()
            unwritten.put_backs = [entry for entry in batch.put_backs if entry.id not in returned]
            unwritten.deferrals = [entry for entry in batch.deferrals if entry.id not in returned]
        return unwritten

    def _take_claims(self, worker_id: UUID, want: int, claims: Claims) -> None:
        self._claimer.claimed(want, len(claims.jobs), pokes=self._pokes_at_claim)
        self._floors.claimed(claims.jobs)
        if self._looks_everywhere and len(claims.jobs) < want and not (claims.left_out or claims.other_bands):
            self._floors.took_all(claims.asked_at_seconds)
        self._claimer.bands_told(claims)
        if claims.jobs:
            self._owner.take_claimed(claims.jobs, worker_id)
        self._looks.after_left_out(self._floors, left_out=claims.left_out)
        if len(claims.jobs) < want and not self._looks_everywhere:
            self._looks.everywhere(self._floors)
