"""The checkers of I3 and I10 find cancels and proceeds that got lost behind others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.history import violations
from tests.support.history.story import Story, completed, running

if TYPE_CHECKING:
    from collections.abc import Callable

P, R, S, G = JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED, JobState.PROCEEDED
C, X = JobState.COMPLETED, JobState.CANCELLED


def _proceed_without_trace(story: Story) -> None:
    story.asks("proceed", "Proceeded")


def _proceeds_lost_behind_a_remembered_one(story: Story) -> None:
    """The flag stays through the checkpoints of its attempt: these excuse no other proceed."""
    story.asks("proceed", "Proceeded")
    story.write(R, proceed_requested=True)
    story.persist()
    story.persist()
    story.persist()
    story.ends("suspends", G, proceed_requested=False, woken_by=1)
    story.claim()
    story.ends("suspends", S)
    story.asks("proceed", "Proceeded")  # and nothing is written
    story.write(S, due=None)
    story.asks("proceed", "Proceeded")
    story.write(G, woken_by=1)
    story.claim()
    story.ends("returns", C)


def _proceed_lost_before_the_next(story: Story) -> None:
    """Who rests proceeds what waits: that isn't the effect of what was acknowledged before."""
    story.ends("suspends", S)
    story.asks("proceed", "Proceeded")
    story.write(S)
    story.write(S)
    story.asks("proceed", None)
    story.write(G, woken_by=1)
    story.claim()
    story.ends("returns", C)


def _two_proceeds_for_one(story: Story) -> None:
    story.ends("suspends", S)
    story.asks("proceed", "Proceeded")
    story.asks("proceed", "Proceeded")
    story.write(G, woken_by=1)
    story.claim()
    story.ends("returns", C)


def _cancel_without_trace(story: Story) -> None:
    story.asks("cancel", "CancelRequested")


def _cancel_lost_in_a_job_that_was_cancelled_before(story: Story) -> None:
    story.asks("cancel", "CancelRequested")
    story.write(R, cancel_requested=True)
    story.persist()
    story.ends("stopped", X, cancel_requested=False)
    story.asks("retry", "Retried")
    story.write(P, moved=True)
    story.claim()
    story.asks("cancel", "CancelRequested")  # and nothing is written
    story.persist()
    story.ends("returns", C)


BROKEN: list[tuple[str, Callable[[], Story], Callable[[Story], None], str]] = [
    (
        "I10",
        completed,
        _proceed_without_trace,
        "the proceed that client asked for at 3.500 was acknowledged, and neither",
    ),
    ("I10", running, _proceeds_lost_behind_a_remembered_one, "the proceed that client asked for at 8.500"),
    ("I10", running, _proceed_lost_before_the_next, "the proceed that client asked for at 2.500"),
    ("I10", running, _two_proceeds_for_one, "the proceed that client asked for at 2.500"),
    ("I3", completed, _cancel_without_trace, "the cancel that client asked for at 3.500 was acknowledged, and its row"),
    ("I3", running, _cancel_lost_in_a_job_that_was_cancelled_before, "the cancel that client asked for at 8.500"),
]


@pytest.mark.parametrize(("invariant", "build", "breach", "words"), BROKEN)
def test_what_got_lost_is_found(
    invariant: str, build: Callable[[], Story], breach: Callable[[Story], None], words: str
) -> None:
    story = build()
    breach(story)
    story.assert_breaks(invariant, words)


# --- what is as it should be ---


def _several_that_count_as_one(story: Story) -> None:
    story.asks("proceed", "Proceeded")
    story.write(R, proceed_requested=True)
    story.asks("proceed", "Proceeded")
    story.write(R)
    story.ends("suspends", G, proceed_requested=False, woken_by=1)
    story.claim()
    story.ends("returns", C)


def _brought_forward(story: Story) -> None:
    story.ends("suspends", S)
    story.asks("proceed", "Proceeded")
    story.write(G, woken_by=1, due=900.0)
    story.asks("proceed", "Proceeded")
    story.write(G, due=4.0)
    story.claim()
    story.ends("returns", C)


def _several_cancels(story: Story) -> None:
    story.asks("cancel", "CancelRequested")
    story.write(R, cancel_requested=True)
    story.asks("cancel", "CancelRequested")
    story.write(R)
    story.ends("stopped", X, cancel_requested=False)


GOOD = [_several_that_count_as_one, _brought_forward, _several_cancels]


@pytest.mark.parametrize("build", GOOD)
def test_what_was_heard_is_all_right(build: Callable[[Story], None]) -> None:
    story = running()
    build(story)
    assert violations(story.history()) == []
