"""The check of deadlines itself: it accepts what may be, and names what may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from perdure import JobState
from tests.support.history.story import completed, running, started
from tests.support.scenario.deadlines import deadlines_hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.history.story import Story

FAILED, SUSPENDED, CANCELLED = JobState.FAILED, JobState.SUSPENDED, JobState.CANCELLED
# The journal of these stories counts a second a write, so that what comes first is at 0.
EARLY, NEVER_LATE = -1000.0, 5000.0


def raised(kind: str) -> dict[str, Any]:
    return {"raised": {"type": f"perdure.errors.{kind}", "message": "", "traceback": ""}}


EXCEEDED = raised("DeadlineExceeded")


def violations(story: Story, at: float | None, *, within_seconds: float = 60.0) -> list[str]:
    return list(deadlines_hold(story.history(), {} if at is None else {1: at}, within_seconds=within_seconds))


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
