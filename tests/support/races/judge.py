"""What must hold once all actors of a race have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.history import AttemptEnding
from perdure.core.states import JobState
from tests.support.races.moves import (
    Wrong,
    check_cancels,
    check_retries,
    check_transitions,
    demand,
    moves_of,
    proceeds_of,
)

if TYPE_CHECKING:
    from tests.support.races.actors import Log
    from tests.support.races.explorer import Order
    from tests.support.races.moves import Move
    from tests.support.races.stage import Stage

__all__ = ["Wrong", "judge"]

PENDING, RUNNING, RETRYING, SUSPENDED, PROCEEDED, COMPLETED, FAILED, CANCELLED = (
    state.code for state in JobState if state is not JobState.ENQUEUED
)
_ENDS_IN = {"complete": COMPLETED, "raise": RETRYING, "fail for good": FAILED, "stop": PENDING, "lapse": PENDING}
_ENDINGS = {
    "raise": AttemptEnding.RAISED,
    "suspend": AttemptEnding.SUSPENDED,
    "stop": AttemptEnding.STOPPED,
    "lapse": AttemptEnding.LAPSED,
    "complete": AttemptEnding.COMPLETED,
    "fail for good": AttemptEnding.JOB_FAILED,
}
_ROW = """
    select state, claim, attempt, checkpoint, retry_number, scheduler_retries, lapses, proceed_requested,
        cancel_requested, asleep, worker_id is not null, scheduled_at <= clock_timestamp() from background_tasks.jobs
    union all
    select state, claim, attempt, checkpoint, retry_number, 0, 0, false, false, false, false, null
    from background_tasks.finished_jobs"""


class _Row:
    def __init__(self, row: tuple[Any, ...]) -> None:
        self.state, self.claim, self.attempt, self.checkpoint, self.retry_number, self.scheduler_retries = row[:6]
        self.lapses, self.proceed_requested, self.cancel_requested, self.asleep, self.is_held, self.is_due = row[6:]
        self.is_final = self.state >= COMPLETED


async def judge(stage: Stage, scene: str, log: Log, order: Order) -> None:
    """Look at the rows, and at what was acknowledged."""
    rows = [_Row(row) for row in await stage.ask(_ROW)]
    moves = moves_of(await stage.ask("select operation, before, after from moves order by id"))
    events = await stage.ask("select woke from background_tasks.events")
    history = await stage.ask("select attempt, ending from background_tasks.attempts order by attempt")
    demand(len(rows) == 1, f"I1: {len(rows)} rows of one job: {log}, {order.steps}")
    (row,) = rows
    try:
        finals = check_transitions(moves)
        was_final = scene == "ended"
        demand(finals + was_final == len(log.retried) + row.is_final, f"I3: {finals} final transitions")
        check_cancels(moves, log.cancelled)
        check_retries(moves, len(log.retried))
        _check_proceeds(moves, log, scene)
        _check_wake_ups(row, log, [woke for (woke,) in events])
        _check_settles(row, log, scene)
        _check_taken_back(row, log)
        demand(len(events) == len(log.sent), f"I10: {len(log.sent)} events sent, {len(events)} stored")
        _check_history(history, log, scene)
    except Wrong as error:
        error.add_note(f"{log}; row {vars(row)}; moves {[str(move) for move in moves]}; order {order.steps}")
        raise


def _check_proceeds(moves: list[Move], log: Log, scene: str) -> None:
    """I10: each acknowledged proceed has done what it was acknowledged for; one suspension has one."""
    acknowledged = log.proceeds.count(True)
    done = proceeds_of(moves)
    demand(acknowledged <= done, f"I10: {acknowledged} proceeds acknowledged, of which the row has seen {done}")
    if scene in {"suspended", "due"} and not log.claimed:
        demand(acknowledged <= 1, f"I10: one suspension, and {acknowledged} proceeds that ended it")
        if log.proceeds and not (log.cancelled or log.sent):
            demand(acknowledged == 1, "I10: one suspension, and none of its proceeds has ended it")


def _check_wake_ups(row: _Row, log: Log, woke: list[bool]) -> None:
    """I8, I10: nothing that was acknowledged is forgotten, and nobody sleeps who was woken."""
    if row.state == SUSPENDED:
        demand(not row.proceed_requested, "I10: a remembered proceed, and the job sleeps")
        demand(all(woke), "I10: an event that has woken nobody, and the job sleeps")
        demand(not any(log.proceeds), "I10: an acknowledged proceed, and the job sleeps")
        demand(not log.sent, "I10: an event, and the job sleeps")
    if any(log.proceeds) and not row.is_final and not log.retried and not log.claimed:
        goes_on = row.state == PROCEEDED or row.proceed_requested
        demand(goes_on, "I10: an acknowledged proceed has left no trace")
    if row.state in {PENDING, PROCEEDED}:
        demand(bool(row.is_due), f"I8: a job in state {row.state} isn't due")
    if log.cancelled and not log.retried:
        ends = row.is_final or (row.state == RUNNING and row.cancel_requested)
        demand(ends, "I3: an acknowledged cancel has left no trace")
        demand(not row.is_final or row.state in {CANCELLED, COMPLETED}, f"I3: a cancelled job ends in {row.state}")


def _check_settles(row: _Row, log: Log, scene: str) -> None:
    """I4, I9: one attempt is settled once, and counted right."""
    demand(len(log.settled) <= 1, f"I4: one attempt is settled {len(log.settled)} times")
    demand(row.claim == 1 + log.claimed, f"I4: claim {row.claim} after {log.claimed} more claims")
    demand(row.attempt == 1 + log.claimed, f"I9: attempt {row.attempt} after {log.claimed} more claims")
    demand(row.is_held == (row.state == RUNNING), "I4: held, and not running")
    if scene == "running" and not log.settled:
        demand(row.state == RUNNING, f"I4: nobody has settled the attempt, and the job is in state {row.state}")
    kind = log.settled[0] if log.settled else None
    writes = kind is not None and kind.split(",")[0] not in {"raise", "lapse"}
    demand(row.checkpoint == 1 + writes, f"I5: checkpoint {row.checkpoint} after {kind}")
    if kind is None or log.claimed or log.cancelled or log.retried:
        return
    counters = row.scheduler_retries, row.lapses
    demand(counters == (int(kind == "raise"), int(kind == "lapse")), f"I9: {counters} retries and lapses after {kind}")
    expected = _ENDS_IN.get(kind)
    if expected is not None:
        demand(row.state == expected, f"I9: {kind} ends in state {row.state}")


def _check_taken_back(row: _Row, log: Log) -> None:
    """I3, I4, I9: what an operator has taken back is begun anew, or cancelled; nothing of its old attempt lands."""
    if not log.retried:
        return
    counters = row.retry_number, row.scheduler_retries, row.lapses
    demand(counters == (0, 0, 0), f"I9: {counters} retries and lapses after an operator's retry")
    demand(not row.is_final or log.cancelled > 0, f"I3: taken back, and it has ended in {row.state}")
    allowed = {PENDING, CANCELLED, *([RUNNING] if log.claimed else [])}
    demand(row.state in allowed, f"I4: taken back, and in state {row.state} after {log.claimed} claims")


def _check_history(history: list[tuple[int, int]], log: Log, scene: str) -> None:
    """I9: the attempt that doesn't hold the job, and hasn't ended it, is there as it ended."""
    (kind,) = log.settled or ["fail for good" if scene == "ended" else ""]
    how, _, cancelled = kind.partition(",")
    goes_on = how in {"raise", "suspend", "stop", "lapse"} and not cancelled
    ending = AttemptEnding.JOB_CANCELLED if cancelled else _ENDINGS.get(how)
    expected = [(1, ending.code)] if ending is not None and (goes_on or log.retried) else []
    demand(history == expected, f"I9: the history is {history}, which should be {expected}")
