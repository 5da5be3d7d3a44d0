"""The checker of I9 finds attempts that were taken for those of lost workers, and weren't, or had got on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.history import violations
from tests.support.history.lines import Pulsed
from tests.support.history.story import Story, running

if TYPE_CHECKING:
    from collections.abc import Callable

P, C, F = JobState.PENDING, JobState.COMPLETED, JobState.FAILED
WORKER_LOST = {"raised": {"type": "perdure.errors.WorkerLost"}}


def _fails_for_good(story: Story, *, persists: bool = False) -> None:
    """Two workers are lost; of the third attempt it is said that its worker was, too."""
    for lapses in (1, 2):
        story.suffers("SIGKILL")
        story.write(P, worker=None, lapses=lapses, rescued=True)
        story.claim(worker=f"w{lapses}")
    if persists:
        story.persist()
    story.write(F, moved=True, error=WORKER_LOST)


def _lost_after_progress(story: Story) -> None:
    story.suffers("SIGKILL", 20, at=4.5)
    _fails_for_good(story, persists=True)


def _lost_after_progress_and_back(story: Story) -> None:
    story.suffers("SIGSTOP", 20, at=4.5)
    story.suffers("SIGCONT", 20, at=50.0)
    _fails_for_good(story, persists=True)


def _lost_for_good_by_nothing(story: Story) -> None:
    _fails_for_good(story)


def _rescued_from_one_that_lived(story: Story) -> None:
    story.write(P, worker=None, lapses=0, rescued=True)
    story.claim()
    story.ends("returns", C)


def _rescued_before_anything_was_done(story: Story) -> None:
    _rescued_from_one_that_lived(story)
    story.suffers("SIGKILL")


def _rescued_under_its_lease(story: Story) -> None:
    story.lease("w1", until=0)  # it ends at 3
    story.suffers("SIGKILL")
    story.write(P, worker=None, lapses=1, rescued=True)
    story.claim(worker="w2")
    story.ends("returns", C)


BROKEN: list[tuple[Callable[[Story], None], str]] = [
    (_lost_after_progress, "though this attempt had persisted something"),
    (_lost_after_progress_and_back, "though this attempt had persisted something"),
    (_lost_for_good_by_nothing, "attempt 3, taken from worker w2 as lost: nothing was done to it"),
    (_rescued_from_one_that_lived, "attempt 1, taken from worker w1 as lost: nothing was done to it"),
    (_rescued_before_anything_was_done, "attempt 1, taken from worker w1 as lost: nothing was done to it"),
    (_rescued_under_its_lease, "as lost: its lease lasted 1.0 s longer"),
]


@pytest.mark.parametrize(("breach", "words"), BROKEN)
def test_who_was_not_lost_is_found(breach: Callable[[Story], None], words: str) -> None:
    story = running()
    breach(story)
    story.assert_breaks("I9", words)


def _lost_for_good(story: Story) -> None:
    story.suffers("SIGSTOP", 20, at=4.5)  # it comes back, too late for this
    story.suffers("SIGCONT", 20, at=50.0)
    _fails_for_good(story)


def _starved(story: Story) -> None:
    """On a machine that is slow enough nothing has to be done to a worker."""
    story.faults += [Pulsed(float(at), 20.0, at=float(at)) for at in range(10)]
    story.write(P, worker=None, lapses=1, rescued=True)
    story.claim()
    story.ends("returns", C)


def _starved_and_killed_later(story: Story) -> None:
    """It has reported in between, so that its lapse doesn't count."""
    story.faults += [Pulsed(float(at), 20.0, at=float(at)) for at in range(10)]
    story.write(P, worker=None, lapses=0, rescued=True)
    story.claim(worker="w2")
    story.ends("returns", C)
    story.suffers("SIGKILL", at=50.0)


@pytest.mark.parametrize("build", [_lost_for_good, _starved, _starved_and_killed_later])
def test_who_was_lost_is_all_right(build: Callable[[Story], None]) -> None:
    story = running()
    build(story)
    assert violations(story.history()) == []
