"""The checkers of I8 to I13 find each rule that is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure import JobState
from tests.support.history import CHECKS
from tests.support.history.lines import Fault
from tests.support.history.story import FIRST, Story, completed, row_of, running, started
from tests.support.history.values import Event, Session

if TYPE_CHECKING:
    from collections.abc import Callable

P, R, T, S, G = JobState.PENDING, JobState.RUNNING, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED


def _stuck(_: Story) -> None: ...


def _overdue(story: Story) -> None:
    story.ends("suspends", S, due=6.0)


def _deaf_to_a_proceed(story: Story) -> None:
    story.ends("suspends", S, due=None, proceed_requested=True)


def _deaf_to_an_event(story: Story) -> None:
    story.ends("suspends", S, due=None)
    story.asks("send", "Sent", "e1")
    story.events.append(Event(1, "e1", woke=False))


def _result_never_came(story: Story) -> None:
    story.asks("await", "nothing")


def _result_of_another(story: Story) -> None:
    story.asks("await", "failed")


def _retry_not_counted(story: Story) -> None:
    story.ends("raises", T)


def _retry_counted_twice(story: Story) -> None:
    story.ends("raises", T, scheduler_retries=2)


def _failed_too_soon(story: Story) -> None:
    story.ends("raises", F)


def _one_retry_too_many(story: Story) -> None:
    story.ends("fails", T, retry_number=1)
    story.claim()
    story.ends("fails", T, retry_number=2)


def _settled_unsaid(story: Story) -> None:
    story.write(C, moved=True, outcome=1)


def _retried_though_it_returned(story: Story) -> None:
    story.ends("returns", T, scheduler_retries=1)


def _lapse_spends_a_retry(story: Story) -> None:
    story.suffers("SIGKILL")
    story.write(P, worker=None, lapses=1, rescued=True, scheduler_retries=1)


def _lapse_not_counted(story: Story) -> None:
    story.suffers("SIGKILL")
    story.write(P, worker=None, lapses=0, rescued=True)


def _lapse_loses_its_place(story: Story) -> None:
    story.suffers("SIGKILL")
    story.write(P, worker=None, lapses=1, rescued=True, due=8.0)


def _outlives_its_lapses(story: Story) -> None:
    story.suffers("SIGKILL")
    for lapses in (1, 2, 3):
        story.write(P, worker=None, lapses=lapses, rescued=True)
        story.claim()


def _innocent_lost(story: Story) -> None:
    story.write(F, moved=True, error={"raised": {"type": "perdure.errors.WorkerLost"}})


def _stop_spends_a_retry(story: Story) -> None:
    story.faults.append(Fault("SIGTERM", 10))
    story.ends("stopped", P, scheduler_retries=1)


def _stopped_by_nobody(story: Story) -> None:
    story.ends("stopped", P)


def _suspension_keeps_retries(story: Story) -> None:
    story.ends("raises", T, scheduler_retries=1)
    story.claim()
    story.ends("suspends", S)


def _claim_counts(story: Story) -> None:
    story.claim(scheduler_retries=1)


def _retry_keeps_counters(story: Story) -> None:
    story.ends("fails", T, retry_number=1)
    story.claim()
    story.ends("fails", F)
    story.asks("retry", "Retried")
    story.write(P, moved=True)


def _event_lost(story: Story) -> None:
    story.asks("send", "Sent", "e1")


def _event_twice(story: Story) -> None:
    story.asks("send", "Sent", "e1")
    story.persist(seen=["e1", "e1"])


def _event_used_and_unread(story: Story) -> None:
    story.asks("send", "Sent", "e1")
    story.persist(seen=["e1"])
    story.events.append(Event(1, "e1", woke=True))


def _event_refused_and_there(story: Story) -> None:
    story.asks("send", "JobEnded", "e1")
    story.events.append(Event(1, "e1", woke=True))


def _event_made_up(story: Story) -> None:
    story.persist(seen=["e9"])


def _events_out_of_order(story: Story) -> None:
    story.asks("send", "Sent", "e1")
    story.asks("send", "Sent", "e2")
    story.persist(seen=["e2", "e1"])


def _proceeded_unasked(story: Story) -> None:
    story.ends("suspends", S)
    story.write(G, woken_by=1)


def _suspended_against_a_proceed(story: Story) -> None:
    story.asks("proceed", "Proceeded")
    story.write(R, proceed_requested=True)
    story.ends("suspends", S, proceed_requested=False)


def _proceed_forgotten(story: Story) -> None:
    story.asks("proceed", "Proceeded")
    story.write(R, proceed_requested=True)
    story.ends("raises", T, scheduler_retries=1, proceed_requested=False)


def _spoilt(**changes: Any) -> Callable[[Story], None]:
    def build(story: Story) -> None:
        story.asks("spoil", "Spoilt", jobs=(2,))
        row = row_of(FIRST._replace(job=2), None)._replace(last_error="it can't be read")
        story.rows.append(row._replace(**changes))

    return build


def _spoilt_is_gone(story: Story) -> None:
    story.asks("spoil", "Spoilt", jobs=(2,))


def _left_over(story: Story) -> None:
    story.sessions.append(Session("perdure worker", "idle in transaction"))


BROKEN: list[tuple[str, Callable[[], Story], Callable[[Story], None], str]] = [
    ("I8", running, _stuck, "job 1 is still running"),
    ("I8", running, _overdue, "was due 994.0 s ago"),
    ("I8", running, _deaf_to_a_proceed, "suspended with a remembered proceed"),
    ("I8", running, _deaf_to_an_event, "an event that hasn't woken it"),
    ("I8", completed, _result_never_came, "its result was awaited, and nothing came"),
    ("I8", completed, _result_of_another, "its result was awaited, and failed came"),
    ("I9", running, _retry_not_counted, "it became retrying (0, 0), which should be retrying (0, 1)"),
    ("I9", running, _retry_counted_twice, "it became retrying (0, 2)"),
    ("I9", running, _failed_too_soon, "it became failed (0)"),
    ("I9", running, _one_retry_too_many, "it became retrying (2, 0), which should be failed (1)"),
    ("I9", running, _settled_unsaid, "no end noted"),
    ("I9", running, _retried_though_it_returned, "which should be completed (0)"),
    ("I9", running, _lapse_spends_a_retry, "retries spent went from (0, 0) to (0, 1)"),
    ("I9", running, _lapse_not_counted, "lapses went from 0 to 0, which can be [1]"),
    ("I9", running, _lapse_loses_its_place, "its place went from 5.0 to 8.0"),
    ("I9", running, _outlives_its_lapses, "it lives on after 3 lapses"),
    ("I9", running, _innocent_lost, "failed as `WorkerLost` after 1 lapses"),
    ("I9", running, _stop_spends_a_retry, "given back: retries spent went from (0, 0) to (0, 1)"),
    ("I9", running, _stopped_by_nobody, "nobody has stopped its worker"),
    ("I9", running, _suspension_keeps_retries, "it became suspended (0, 1)"),
    ("I9", started, _claim_counts, "pending to running: retries spent went from (0, 0) to (0, 1)"),
    ("I9", running, _retry_keeps_counters, "after an operator's retry it has spent (1, 0)"),
    ("I10", completed, _event_lost, "event e1 was acknowledged, and is lost"),
    ("I10", running, _event_twice, "was used 2 times"),
    ("I10", running, _event_used_and_unread, "was used 1 times, and is unread 1 times"),
    ("I10", completed, _event_refused_and_there, "refused (JobEnded), and is there"),
    ("I10", running, _event_made_up, "nobody has sent it"),
    ("I10", running, _events_out_of_order, "in the order ['e2', 'e1']"),
    ("I10", running, _proceeded_unasked, "was proceeded 1 times, of 0"),
    ("I10", running, _suspended_against_a_proceed, "against a remembered proceed"),
    ("I10", running, _proceed_forgotten, "running to retrying: it forgot a proceed"),
    ("I12", completed, _spoilt(state=F, live=False), "can't be read, is failed"),
    ("I12", completed, _spoilt(retry_number=1), "has spent 0 attempts and 1 retries"),
    ("I12", completed, _spoilt(last_error=None), "doesn't say so"),
    ("I12", completed, _spoilt_is_gone, "which can't be read, is gone"),
    ("I13", completed, _left_over, "left over: perdure worker (idle in transaction)"),
]


@pytest.mark.parametrize(("invariant", "build", "breach", "words"), BROKEN)
def test_a_broken_rule_is_found(
    invariant: str, build: Callable[[], Story], breach: Callable[[Story], None], words: str
) -> None:
    story = build()
    breach(story)
    story.assert_breaks(invariant, words)


def test_each_of_the_other_invariants_is_broken_here() -> None:
    assert {invariant for invariant, *_ in BROKEN} == set(CHECKS) - {"I1", "I2", "I3", "I4", "I5", "I6"}
