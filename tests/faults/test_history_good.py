"""The checkers of histories find nothing wrong in a good one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.history import violations
from tests.support.history.lines import Called, Effect, Fault, Stepped
from tests.support.history.story import FIRST, Story, completed, row_of, running, started

if TYPE_CHECKING:
    from collections.abc import Callable

P, R, T, S, G = JobState.PENDING, JobState.RUNNING, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED


def _a_long_life() -> Story:
    """Rows, effects, a step, a retry, a lapse, a stop, events, a proceed, an operator's retry afresh."""
    story = running()
    story.row()
    story.handler += [Effect(1, 1, 0), Called(1, 1, "s"), Stepped(1, 1, "s", 1)]
    story.persist(effects=1)
    story.ends("raises", T, scheduler_retries=1)
    story.claim()
    story.handler += [Stepped(1, 2, "s", 1), Effect(1, 2, 1)]
    story.faults.append(Fault("SIGKILL", 10, at=3.0))
    story.write(P, worker=None, lapses=1, rescued=True)
    story.claim(worker="w2")
    story.handler.append(Effect(1, 3, 1))
    story.persist(effects=2)
    story.faults.append(Fault("SIGTERM", 20))
    story.ends("stopped", P, lapses=0)
    story.asks("send", "Sent", "e1")
    story.asks("send", "Sent", "e2")
    story.asks("send", None, "e3")
    story.claim()
    story.row("e1", seen=["e1"])
    story.ends("suspends", S, scheduler_retries=0, due=None)
    story.write(G, woken_by=2, due=9.0)
    story.claim()
    story.row("e2", seen=["e1", "e2"])
    story.ends("suspends", S, due=None)
    story.asks("proceed", "Proceeded")
    story.write(G, woken_by=1)
    story.asks("cancel", "CancelRequested")
    story.write(X, moved=True)
    story.asks("retry afresh", "Retried")
    last = story.images[-1]
    story.write(P, moved=True, place={}, checkpoint=last.checkpoint + 1)
    story.claim()
    story.row()
    story.handler += [Effect(1, 6, 0), Called(1, 6, "s"), Stepped(1, 6, "s", 6)]
    story.persist(effects=1)
    story.ends("returns", C)
    return story


def _a_failure() -> Story:
    story = running()
    for spent, scheduler in ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2)):
        story.ends("raises", T, retry_number=spent, scheduler_retries=scheduler)
        story.claim()
    story.ends("raises", F)
    return story


def _cancelled_while_running() -> Story:
    story = running()
    story.asks("cancel", "CancelRequested")
    story.write(R, cancel_requested=True)
    story.ends("stopped", X)
    return story


def _a_remembered_proceed() -> Story:
    story = running()
    story.asks("proceed", "Proceeded")
    story.write(R, proceed_requested=True)
    story.ends("suspends", G, proceed_requested=False, woken_by=1)
    story.claim()
    story.ends("returns", C)
    return story


def _put_back() -> Story:
    story = started()
    story.write(R, claim=1, attempt=1, worker="w1")
    story.write(P, attempt=0, worker=None)
    story.claim()
    story.ends("returns", C)
    return story


def _given_back_though_refused() -> Story:
    """By a clock that was ahead for a moment: the lease is valid, so it's its worker that gives it back."""
    story = running()
    story.ends("refused", P)
    story.claim()
    story.ends("returns", C)
    return story


def _a_poisonous_job() -> Story:
    story = running()
    story.faults += [Fault("SIGKILL", 10, at=1.0)]
    for lapses in (1, 2):
        story.write(P, worker=None, lapses=lapses, rescued=True)
        story.claim()
    story.write(F, moved=True, error={"raised": {"type": "perdure.errors.WorkerLost"}})
    return story


def _a_lost_commit() -> Story:
    """Its number is taken, by two; that is no progress, so the lapse after it counts."""
    story = running()
    story.write(R, checkpoint=2)
    story.suffers("SIGKILL", at=1.5)
    story.write(P, worker=None, lapses=1, rescued=True, at=2.0)
    story.claim()
    story.ends("returns", C)
    return story


def _awaited() -> Story:
    story = completed()
    story.asks("await", "completed")
    story.asks("await", None)
    return story


def _with_orders() -> Story:
    story = completed()
    story.asks("start with a row", "Started", "b", jobs=(2,))
    story.asks("start with a row", None, "c")
    story.orders.append("b")
    story.rows.append(row_of(story.images[-1]._replace(job=2), "b"))
    return story


def _with_a_spoilt_row() -> Story:
    story = completed()
    story.asks("spoil", "Spoilt", jobs=(2,))
    story.rows.append(row_of(FIRST._replace(job=2), None)._replace(last_error="it can't be read"))
    return story


GOOD = [
    completed, _a_long_life, _a_failure, _cancelled_while_running, _a_remembered_proceed, _put_back,
    _given_back_though_refused, _a_poisonous_job,
    _a_lost_commit, _awaited, _with_orders, _with_a_spoilt_row,
]  # fmt: skip


@pytest.mark.parametrize("build", GOOD)
def test_a_good_history_breaks_nothing(build: Callable[[], Story]) -> None:
    assert violations(build().history()) == []
