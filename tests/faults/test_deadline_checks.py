"""The check of deadlines itself: it accepts what may be, and names what may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure import JobState
from tests.support.history.lines import Began
from tests.support.history.story import completed, running, started
from tests.support.scenario.deadlines import Deadlines, deadlines_hold, ways_to_fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.history.story import Story

FAILED, SUSPENDED, CANCELLED = JobState.FAILED, JobState.SUSPENDED, JobState.CANCELLED
# The journal of these stories counts a second a write, so that what comes first is at 0.
EARLY, NEVER_LATE = -1000.0, 5000.0


def raised(kind: str) -> dict[str, Any]:
    return {"raised": {"type": f"perdure.errors.{kind}", "message": "", "traceback": ""}}


EXCEEDED = raised("DeadlineExceeded")


def given(at: float | None, *overdue: int) -> Deadlines:
    """The job's deadline; `overdue`: the attempts that it was claimed for after that."""
    return Deadlines({} if at is None else {1: at}, {(1, attempt): 0.01 for attempt in overdue})


def violations(story: Story, at: float | None, *overdue: int, within_seconds: float = 60.0) -> list[str]:
    return list(deadlines_hold(story.history(), given(at, *overdue), within_seconds=within_seconds))


def ended_by(error: dict[str, Any] | None, *, how: str = "stopped", state: JobState = FAILED, **before: Any) -> Story:
    """A running job whose attempt ends so; `before`: what its row has by then."""
    story = running()
    if before:
        story.write(JobState.RUNNING, **before)
    story.ends(how, state, error=error)
    return story


def waiting(error: dict[str, Any] | None = EXCEEDED) -> Story:
    """A job that has failed while it was suspended."""
    story = running()
    story.ends("suspends", SUSPENDED, due=None)
    story.write(FAILED, moved=True, error=error)
    return story


def taken_back() -> Story:
    """A job that failed by its deadline, which an operator has taken back: it has none any more."""
    story = waiting()
    story.write(JobState.PENDING, moved=True, error=None, outcome=None)
    story.claim()
    story.ends("returns", JobState.COMPLETED)
    return story


def ended_twice() -> Story:
    story = waiting()
    story.write(FAILED)
    return story


GOOD: dict[str, tuple[Callable[[], Story], float | None]] = {
    "none": (completed, None),
    "done before it": (completed, NEVER_LATE),
    "a value, just after it": (completed, 0.5),
    "ended while it ran": (lambda: ended_by(EXCEEDED), 0.5),
    "ended while it waited": (waiting, 0.5),
    "it raised, just after it": (lambda: ended_by(raised("JobTimeout"), how="raises"), 0.5),
    "its worker was lost, just after it": (lambda: ended_by(raised("WorkerLost"), how="stopped"), 0.5),
    "cancelled, just after it": (lambda: ended_by(None, state=CANCELLED, cancel_requested=True), 0.5),
    "cancelled, by an attempt that it ended": (lambda: ended_by(EXCEEDED, state=CANCELLED, cancel_requested=True), 0.5),
    "taken back after it": (taken_back, 0.5),
}
BAD: dict[str, tuple[Callable[[], Story], float | None, str]] = {
    "nobody ends it": (running, EARLY, "lives on"),
    "nobody ends it while it is pending": (started, EARLY, "lives on"),
    "ended far too late": (waiting, EARLY, "after its deadline"),
    "a value, far too late": (completed, EARLY, "became completed"),
    "ended too early": (waiting, NEVER_LATE, "before it"),
    "ended without one": (waiting, None, "no deadline"),
    "ended by another error while it waited": (lambda: waiting(raised("JobTimeout")), 0.5, "JobTimeout"),
    "ended without an error": (lambda: waiting(None), 0.5, "with None"),
    "stopped, and failed by another error": (lambda: ended_by(raised("JobTimeout")), 0.5, "JobTimeout"),
    "ended against a cancel": (lambda: ended_by(EXCEEDED, cancel_requested=True), 0.5, "was to be cancelled"),
    "ended twice": (ended_twice, 0.5, "ended 2 times"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_may_be_is_no_violation(name: str) -> None:
    story, at = GOOD[name]
    assert violations(story(), at) == []


@pytest.mark.parametrize("name", BAD)
def test_what_may_not_be_is_named(name: str) -> None:
    story, at, words = BAD[name]
    found = violations(story(), at)
    assert [wrong for wrong in found if words in wrong], found


# --- a claim after the deadline ---


def claimed(*, begins: bool) -> Story:
    """Its lost worker's lease ends after its deadline; it is claimed again before a sweep ends it."""
    story = running()
    story.write(JobState.PENDING, worker=None, lapses=1, rescued=True)
    story.write(JobState.RUNNING, worker="w2", claim=2, attempt=2)
    if begins:
        story.handler.append(Began(1, 2, 20))
    return story


def ended_unbegun() -> Story:
    story = claimed(begins=False)
    story.write(FAILED, moved=True, error=EXCEEDED)
    return story


def begun_and(how: str, state: JobState, **changes: Any) -> Story:
    story = claimed(begins=True)
    story.ends(how, state, **changes)
    return story


BEGUN: dict[str, Callable[[], Story]] = {
    "it returns a value": lambda: begun_and("returns", JobState.COMPLETED),
    "it raises, and is ended": lambda: begun_and("raises", FAILED, error=raised("JobTimeout")),
    "it raises, and is to run again": lambda: begun_and("raises", JobState.RETRYING, scheduler_retries=1),
    "it is stopped at once": lambda: begun_and("stopped", FAILED, error=EXCEEDED),
    "it still runs": lambda: claimed(begins=True),
}


@pytest.mark.parametrize("name", BEGUN)
def test_what_begins_after_its_deadline_is_named_whatever_comes_of_it(name: str) -> None:
    [wrong] = violations(BEGUN[name](), 1.5, 2, within_seconds=NEVER_LATE)
    assert "attempt 2, begun" in wrong


def test_a_claim_after_the_deadline_that_begins_nothing_is_no_violation() -> None:
    assert violations(ended_unbegun(), 1.5, 2) == []


# --- for how long, where somebody could end it ---


def stays(*, until: float, held: bool, worker: str = "w1", served_until: int = 1000) -> Story:
    """Its deadline is at 2; by then a worker has it, or none. `worker` serves."""
    story = running()
    if not held:
        story.ends("suspends", SUSPENDED, due=None)
    story.lease(worker, until=served_until)
    if held:
        story.ends("returns", JobState.COMPLETED, at=until)
    else:
        story.write(FAILED, moved=True, error=EXCEEDED, at=until)
    return story


def frozen_meanwhile() -> Story:
    story = stays(until=50.0, held=True)
    story.suffers("SIGSTOP", 10, at=1.5)
    story.suffers("SIGCONT", 10, at=49.0)
    return story


def handed_from_one_to_another() -> Story:
    """Each had it for a moment only."""
    story = running()
    for number in range(2, 30):
        story.lease(f"w{number}")
        story.write(JobState.RUNNING, worker=f"w{number}", at=number)
    story.ends("stopped", FAILED, error=EXCEEDED, at=30.0)
    return story


STAYS_TOO_LONG: dict[str, tuple[Callable[[], Story], str]] = {
    "with its worker": (lambda: stays(until=20.0, held=True), "stayed with w1"),
    "with nobody": (lambda: stays(until=20.0, held=False, worker="w2"), "stayed with no worker"),
}
STAYS_NO_LONGER: dict[str, Callable[[], Story]] = {
    "than it takes to stop it": lambda: stays(until=5.0, held=True),
    "than it takes to find it": lambda: stays(until=7.0, held=False),
    "than its worker lives": lambda: stays(until=50.0, held=True, served_until=3),
    "than its worker lives, though another does": lambda: stays(until=50.0, held=True, worker="w2"),
    "than nobody lives": lambda: stays(until=50.0, held=False, served_until=3),
    "than its worker is frozen": frozen_meanwhile,
    "with each of its workers": handed_from_one_to_another,
}


@pytest.mark.parametrize("name", STAYS_TOO_LONG)
def test_a_stay_after_the_deadline_that_somebody_could_end_is_named(name: str) -> None:
    story, words = STAYS_TOO_LONG[name]
    [wrong] = violations(story(), 2.0)
    assert words in wrong


@pytest.mark.parametrize("name", STAYS_NO_LONGER)
def test_a_stay_after_the_deadline_that_nobody_could_end_sooner_is_no_violation(name: str) -> None:
    assert violations(STAYS_NO_LONGER[name](), 2.0) == []


def test_an_operators_retry_lifts_the_deadline_for_as_long_as_it_takes() -> None:
    story = waiting()
    story.lease("w1")
    story.write(JobState.PENDING, moved=True, error=None, outcome=None)
    story.claim(at=500.0)
    story.ends("returns", JobState.COMPLETED, at=900.0)
    assert violations(story, 2.0) == []


# --- the ways in which jobs fail by it ---


WAYS: dict[str, tuple[Callable[[], Story], set[str]]] = {
    "suspended": (waiting, {"waited"}),
    "suspended, and taken back": (taken_back, {"waited"}),
    "stopped": (lambda: ended_by(EXCEEDED), {"ran"}),
    "claimed, and not begun": (ended_unbegun, set()),
    "stopped, and cancelled": (lambda: ended_by(EXCEEDED, state=CANCELLED, cancel_requested=True), set()),
    "by another error": (lambda: ended_by(raised("JobTimeout"), how="raises"), set()),
    "by another error, while it waited": (lambda: waiting(raised("JobTimeout")), set()),
    "completed": (completed, set()),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_way_to_fail_by_a_deadline_counts_when_it_has_come_about(name: str) -> None:
    story, ways = WAYS[name]
    assert ways_to_fail(story().history(), given(0.5)) == ways
    assert ways_to_fail(story().history(), given(None)) == set()
