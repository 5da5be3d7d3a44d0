"""I8, I10, I12, I13: all comes to its end, nobody waits in vain or for another's sake, nothing is left over.

Of what takes time, and of proceeds: beside this.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from perdure import JobState
from tests.support.history.checks.lives import lives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.values import History

__all__ = [
    "events_are_used_once",
    "events_keep_their_order",
    "neighbours_are_unharmed",
    "nothing_is_left",
    "nothing_is_stuck",
    "results_come",
]

_SUSPENDED, _RUNNING = JobState.SUSPENDED, JobState.RUNNING


def nothing_is_stuck(history: History) -> Iterator[str]:
    """I8: at rest no job is due, runs, or has been told to go on; it has ended, or waits for what hasn't come."""
    spoilt = _spoilt(history)
    unread = defaultdict(list)
    for event in history.unread:
        unread[event.job].append(event)
    for row in history.rows:
        if not row.live or row.job in spoilt:
            continue
        if row.state is not _SUSPENDED:
            yield f"job {row.job} is still {row.state}: {row.last_error}"
        elif row.due is not None and row.due <= history.ended_at:
            yield f"job {row.job} is suspended and was due {history.ended_at - row.due:.1f} s ago"
        elif not row.asleep and row.proceed_requested:
            yield f"job {row.job} is suspended with a remembered proceed"
        elif not row.asleep and any(not event.woke for event in unread[row.job]):
            yield f"job {row.job} is suspended with an event that hasn't woken it"


def results_come(history: History) -> Iterator[str]:
    """I8: who waits for a result is told of an end that the job has had."""
    for call in history.calls:
        if call.verb != "await" or call.answer is None:
            continue
        ends = {after.state.value for _, after in history.moves.get(call.jobs[0], []) if after is not None}
        if call.answer not in ends:
            yield f"job {call.jobs[0]}: its result was awaited, and {call.answer} came"


def events_are_used_once(history: History) -> Iterator[str]:
    """I10: an event that was acknowledged is in the checkpoints once, or unread; one that was refused is nowhere."""
    used: Counter[tuple[int, str]] = Counter()
    afresh: set[int] = set()
    for job, moves in history.moves.items():
        found = lives(moves)
        if len(found) > 1:
            afresh.add(job)
        for life in found:
            used.update((job, key) for key in (life.last.place.get("seen", []) if life.last else []))
    unread = Counter((event.job, event.key) for event in history.unread)
    sent: set[tuple[int, str]] = set()
    for call in history.calls:
        if call.verb != "send":
            continue
        job, key = call.jobs[0], call.keys[0]
        sent.add((job, key))
        times = used[job, key] + unread[job, key]
        if times > 1:
            yield f"job {job}: event {key} was used {used[job, key]} times, and is unread {unread[job, key]} times"
        if call.answer == "Sent" and not times and job not in afresh:
            yield f"job {job}: event {key} was acknowledged, and is lost"
        if call.answer not in {None, "Sent"} and times:
            yield f"job {job}: event {key} was refused ({call.answer}), and is there"
    yield from (
        f"job {job}: event {key} was used, and nobody has sent it" for job, key in used if (job, key) not in sent
    )


def events_keep_their_order(history: History) -> Iterator[str]:
    """I10: a client's events to a job are used in the order in which it has sent them."""
    order: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for call in history.calls:
        if call.verb == "send" and call.answer == "Sent":
            place = order[call.client, call.jobs[0]]
            place[call.keys[0]] = len(place)
    for (client, job), place in order.items():
        for life in lives(history.moves.get(job, [])):
            seen = life.last.place.get("seen", []) if life.last else []
            places = [place[key] for key in seen if key in place]
            if places != sorted(places):
                yield f"job {job} has used the events of {client} in the order {[key for key in seen if key in place]}"


def neighbours_are_unharmed(history: History) -> Iterator[str]:
    """I12: a row that can't be read waits, says why, and costs nothing. (That its neighbours end is I8.)"""
    rows = {row.job: row for row in history.rows}
    for job in _spoilt(history):
        row = rows.get(job)
        if row is None:
            yield f"job {job}, which can't be read, is gone"
        elif not row.live or row.state not in {JobState.PENDING, _RUNNING}:
            yield f"job {job}, which can't be read, is {row.state}"
        elif (row.retry_number, row.scheduler_retries) != (0, 0) or row.attempt > _lost(history, job) + 1:
            yield f"job {job}, which can't be read, has spent {row.attempt} attempts and {row.retry_number} retries"
        elif not row.last_error:
            yield f"job {job} can't be read, and doesn't say so"


def nothing_is_left(history: History) -> Iterator[str]:
    """I13: when all workers have ended, nothing of them is connected, and no lease is valid."""
    yield from (f"left over: {session.who} ({session.state})" for session in history.sessions)


def _lost(history: History, job: int) -> int:
    """Count the workers that were lost before they could give the job back: that spends an attempt's number."""
    return sum(move.is_rescue for move in history.moves.get(job, []))


def _spoilt(history: History) -> set[int]:
    return {job for call in history.calls if call.verb == "spoil" for job in call.jobs}
