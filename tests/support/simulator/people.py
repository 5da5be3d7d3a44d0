"""Clients and operators: what they ask of jobs, as perdure's verbs do; and who kills, freezes and stops workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.simulator.model import RUNNING, Tx
from tests.support.simulator.process import LEASE_SECONDS, Process
from tests.support.simulator.scheduler import Until

if TYPE_CHECKING:
    from tests.support.simulator.ledger import Ledger
    from tests.support.simulator.scheduler import Script, World

__all__ = ["VERBS", "client", "mishaps"]

_SHARES = (
    ("proceed", 0.25),
    ("proceed later", 0.1),
    ("send", 0.3),
    ("send in a transaction", 0.15),
    ("cancel", 0.1),
    ("retry", 0.1),
)


def client(world: World, ledger: Ledger, job_id: int, count: int) -> Script:
    """Ask for a few things."""
    chance = world.chance
    for _ in range(count):
        yield Until(at=world.now + chance.random() * 2) if chance.random() < 0.3 else None
        drawn = chance.random()
        for word, share in _SHARES:  # noqa: B007 - the last, if none before
            drawn -= share
            if drawn < 0:
                break
        yield from VERBS[word](world, ledger, job_id)


def _proceed(world: World, ledger: Ledger, job_id: int, after: float | None = None) -> Script:
    def proceed() -> bool | None:
        job = world.model.jobs.get(job_id)
        has_to = job is not None and job.state == RUNNING
        goes_on = world.model.proceed(job_id, after=after)
        if goes_on or has_to:
            ledger.check_proceeded(job_id)
        return goes_on

    yield proceed


def _proceed_later(world: World, ledger: Ledger, job_id: int) -> Script:
    yield from _proceed(world, ledger, job_id, after=2.0)


def _send(world: World, ledger: Ledger, job_id: int) -> Script:
    def send() -> int | None:
        state = world.model.send(job_id, ledger.next_event())
        if state is not None:
            ledger.sent[job_id] = ledger.sent.get(job_id, 0) + 1
        return state

    yield send


def _send_in_transaction(world: World, ledger: Ledger, job_id: int) -> Script:
    model, tx = world.model, Tx(world.model)

    def send() -> int | None:
        return model.send(job_id, ledger.next_event(), tx=tx)

    state = yield send
    yield None
    if world.chance.random() < 0.7:
        if state is not None:
            ledger.sent[job_id] = ledger.sent.get(job_id, 0) + 1
        yield tx.commit
    else:
        yield tx.roll_back


def _cancel(world: World, ledger: Ledger, job_id: int) -> Script:
    model = world.model

    def cancel() -> bool:
        if model.cancel(job_id):
            ledger.cancelled.add(job_id)
            return True
        return False

    def request() -> bool:
        if model.request_cancel(job_id):
            ledger.cancelled.add(job_id)
            return True
        return False

    while True:
        if (yield cancel) or (yield request) or job_id in model.ended:
            return


def _retry(world: World, ledger: Ledger, job_id: int) -> Script:
    def retry() -> bool:
        ended = world.model.ended.get(job_id)
        if ended is None or ended.tx is not None:
            return False
        ledger.retried[job_id] = ledger.retried.get(job_id, 0) + 1
        ledger.cancelled.discard(job_id)
        return world.model.retry(job_id)

    yield retry


VERBS: dict[str, Any] = {
    "proceed": _proceed,
    "proceed later": _proceed_later,
    "send": _send,
    "send in a transaction": _send_in_transaction,
    "cancel": _cancel,
    "retry": _retry,
}


def mishaps(world: World, ledger: Ledger, count: int) -> Script:
    """Kill, freeze and stop workers; let time pass."""
    chance = world.chance
    for number in range(count):
        for _ in range(int(chance.random() * 12)):
            yield None
        alive = [process for process in world.processes if process.is_alive and process.frozen_until is None]
        drawn = chance.random()
        if not alive or drawn < 0.3:
            world.pass_time(chance.random() * LEASE_SECONDS)
            continue
        process = alive[int(chance.random() * len(alive))]
        if drawn < 0.55:
            process.freeze(LEASE_SECONDS * (0.5 + chance.random()))
            if chance.random() < 0.7:
                world.pass_time(LEASE_SECONDS * chance.random())
        elif drawn < 0.8:
            process.kill()
            Process(world, ledger, f"{process.name}/{number}")
        else:
            process.stop()
            Process(world, ledger, f"{process.name}/{number}")
