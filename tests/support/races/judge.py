"""What must hold once all actors of a race have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.states import OPERATOR_TRANSITIONS, TRANSITIONS, JobState

if TYPE_CHECKING:
    from tests.support.races.actors import Log
    from tests.support.races.explorer import Order
    from tests.support.races.stage import Stage

__all__ = ["Wrong", "judge"]

PENDING, RUNNING, RETRYING, SUSPENDED, PROCEEDED, COMPLETED, FAILED, CANCELLED = 0, 2, 3, 4, 5, 6, 7, 8
_ENDS_IN = {"complete": COMPLETED, "raise": RETRYING, "fail for good": FAILED, "stop": PENDING, "lapse": PENDING}
_ROW = """
    select state, claim, attempt, checkpoint, retry_number, scheduler_retries, lapses, proceed_requested,
        cancel_requested, asleep, worker_id is not null, scheduled_at <= clock_timestamp() from background_tasks.jobs
    union all
    select state, claim, attempt, checkpoint, retry_number, 0, 0, false, false, false, false, null
    from background_tasks.finished_jobs"""


class Wrong(AssertionError):
    """An invariant doesn't hold."""


class _Row:
    def __init__(self, row: tuple[Any, ...]) -> None:
        self.state, self.claim, self.attempt, self.checkpoint, self.retry_number, self.scheduler_retries = row[:6]
        self.lapses, self.proceed_requested, self.cancel_requested, self.asleep, self.is_held, self.is_due = row[6:]
        self.is_final = self.state >= COMPLETED


async def judge(stage: Stage, scene: str, log: Log, order: Order) -> None:
    """Look at the rows, and at what was acknowledged."""
    rows = [_Row(row) for row in await stage.ask(_ROW)]
    moves = await stage.ask("select operation, source, before, after from moves order by id")
    events = await stage.ask("select woke from background_tasks.events")
    history = await stage.ask("select ending from background_tasks.attempts")
    _demand(len(rows) == 1, f"I1: {len(rows)} rows of one job: {log}, {order.steps}")
    (row,) = rows
    try:
        _check_moves(moves, log, row, was_final=scene == "ended")
        _check_wake_ups(row, log, [woke for (woke,) in events])
        _check_settles(row, log, scene)
        _demand(len(events) == len(log.sent), f"I10: {len(log.sent)} events sent, {len(events)} stored")
        released = [word for word in log.settled if word.split(",")[0] not in {"complete", "fail for good"}]
        released = [word for word in released if "cancelled" not in word]
        _demand(
            len(history) == len(released) + len(log.retried), f"I9: {len(history)} attempts in the history, of {log}"
        )
    except Wrong as error:
        error.add_note(f"{log}; row {vars(row)}; moves {moves}; order {order.steps}")
        raise


def _demand(holds: bool, complaint: str) -> None:  # noqa: FBT001 - what is demanded
    if not holds:
        raise Wrong(complaint)


def _check_moves(moves: list[tuple[Any, ...]], log: Log, row: _Row, *, was_final: bool) -> None:
    """I3: only moves of the table, and one final transition (and one more for each operator's retry)."""
    finals = 0
    last: int | None = None
    for operation, source, before, after in moves:
        if operation == "UPDATE":
            if before != after:
                allowed = TRANSITIONS[JobState.from_code(before)]
                _demand(JobState.from_code(after) in allowed, f"I3: a move from {before} to {after}")
        elif operation == "DELETE":
            last = before
        elif source == "finished_jobs":
            finals += 1
            _demand(last is not None, "I3: a final row of no live one")
            allowed = TRANSITIONS[JobState.from_code(last or 0)]
            _demand(JobState.from_code(after) in allowed, f"I3: an end in {after} from {last}")
        else:
            allowed = OPERATOR_TRANSITIONS[JobState.from_code(last or 0)]
            _demand(JobState.from_code(after) in allowed, f"I3: a retry from {last} to {after}")
    _demand(finals + was_final == len(log.retried) + row.is_final, f"I3: {finals} final transitions")


def _check_wake_ups(row: _Row, log: Log, woke: list[bool]) -> None:
    """I8, I10: nothing that was acknowledged is forgotten, and nobody sleeps who was woken."""
    if row.state == SUSPENDED:
        _demand(not row.proceed_requested, "I10: a remembered proceed, and the job sleeps")
        _demand(all(woke), "I10: an event that has woken nobody, and the job sleeps")
        _demand(not any(log.proceeds), "I10: an acknowledged proceed, and the job sleeps")
        _demand(not log.sent, "I10: an event, and the job sleeps")
    if any(log.proceeds) and not row.is_final and not log.retried and not log.claimed:
        goes_on = row.state == PROCEEDED or row.proceed_requested
        _demand(goes_on, "I10: an acknowledged proceed has left no trace")
    if row.state == PROCEEDED:
        _demand(bool(row.is_due), "I8: a job that goes on isn't due")
    if log.cancelled and not log.retried:
        ends = row.is_final or (row.state == RUNNING and row.cancel_requested)
        _demand(ends, "I3: an acknowledged cancel has left no trace")
        _demand(not row.is_final or row.state in {CANCELLED, COMPLETED}, f"I3: a cancelled job ends in {row.state}")


def _check_settles(row: _Row, log: Log, scene: str) -> None:
    """I4, I9: one attempt is settled once, and counted right."""
    _demand(len(log.settled) <= 1, f"I4: one attempt is settled {len(log.settled)} times")
    _demand(row.claim == 1 + log.claimed, f"I4: claim {row.claim} after {log.claimed} more claims")
    _demand(row.attempt == 1 + log.claimed, f"I9: attempt {row.attempt} after {log.claimed} more claims")
    _demand(row.is_held == (row.state == RUNNING), "I4: held, and not running")
    if scene == "running" and not log.settled and not log.retried:
        _demand(row.state == RUNNING, f"I4: nobody has settled the attempt, and the job is in state {row.state}")
    if not log.settled or log.retried:
        return
    (kind,) = log.settled
    writes = kind.split(",")[0] not in {"raise", "lapse"}
    _demand(row.checkpoint == 1 + writes, f"I5: checkpoint {row.checkpoint} after {kind}")
    if log.claimed or log.cancelled:
        return
    counters = row.scheduler_retries, row.lapses
    _demand(counters == (int(kind == "raise"), int(kind == "lapse")), f"I9: {counters} retries and lapses after {kind}")
    expected = _ENDS_IN.get(kind)
    if expected is not None:
        _demand(row.state == expected, f"I9: {kind} ends in state {row.state}")
