"""The checkers of I8 find what went on too late, and nothing in what nobody could have done sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.history import Rules, violations
from tests.support.history.lines import Asked, Calmed, Pulsed
from tests.support.history.story import RULES, Story, running, started

if TYPE_CHECKING:
    from collections.abc import Callable

P, R, T, S, G, C = (
    JobState.PENDING, JobState.RUNNING, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED, JobState.COMPLETED,
)  # fmt: skip
LATE = "stayed with a lost worker for"
WAITED = "while a worker had room for it for"


def looks(story: Story, *, slowness: float = 1.0, until: int = 1000) -> None:
    """The machine is looked at all the time."""
    story.faults += [Pulsed(float(at), slowness, at=float(at)) for at in range(until)]


def lost(story: Story, *, after: float, kind: str = "SIGKILL") -> Story:
    """Its worker is lost, whose lease ends at 4; it is rescued so long after that, and runs elsewhere.

    The other worker, who lives all the time, has one thing to do: to see to that.
    """
    looks(story)
    if kind:
        story.suffers(kind, at=1.5)
    story.lease("w1", until=1)
    story.lease("w2")
    story.write(P, worker=None, lapses=1, rescued=True, at=4.0 + after)
    story.claim(worker="w2", at=4.1 + after)
    story.ends("returns", C, at=4.2 + after)
    return story


def waited(story: Story, *, after: float, concurrency: int = 10) -> Story:
    """It was due at 5, and is claimed so long after that, by one of two workers."""
    looks(story)
    story.lease("w1", concurrency=concurrency)
    story.claim(at=5.0 + after)
    story.ends("returns", C, at=5.1 + after)
    return story


def _rescued_after_a_minute(story: Story) -> None:
    lost(story, after=58.0)


def _rescued_after_a_few_sweeps(story: Story) -> None:
    """As with a sweep that sleeps for some seconds more than it may."""
    lost(story, after=5.0)


def _rescued_late_from_one_that_froze(story: Story) -> None:
    lost(story, after=300.0, kind="SIGSTOP")


def _rescued_late_from_one_that_was_cut_off(story: Story) -> None:
    """Nobody has noted what has befallen it: its lease tells that it is lost."""
    lost(story, after=20.0, kind="terminated 3 backends")


def _never_rescued(story: Story) -> None:
    looks(story)
    story.suffers("SIGKILL")
    story.lease("w1", until=1)
    story.lease("w2")


def _failed_late(story: Story) -> None:
    """The last lapse ends it; that has its time, too."""
    looks(story)
    for lapses in (1, 2):
        story.suffers("SIGKILL")
        story.write(P, worker=None, lapses=lapses, rescued=True)
        story.claim()
    story.lease("w1", until=1)
    story.lease("w2")
    story.write(JobState.FAILED, moved=True, at=60.0, error={"raised": {"type": "perdure.errors.WorkerLost"}})


def _claimed_after_a_minute(story: Story) -> None:
    waited(story, after=60.0)


def _claimed_after_some_seconds(story: Story) -> None:
    waited(story, after=2.0)


def _retried_late(story: Story) -> None:
    story.claim()
    story.ends("raises", T, scheduler_retries=1, due=6.0)
    waited(story, after=30.0)


def _proceeded_late(story: Story) -> None:
    story.claim()
    story.ends("suspends", S, due=None)
    story.asks("proceed", "Proceeded")
    story.write(G, woken_by=1, due=6.0)
    waited(story, after=30.0)


def _put_back_and_found_late(story: Story) -> None:
    """Behind where claims begin to look: it is found by the next look everywhere."""
    story.write(R, claim=1, attempt=1, worker="w1", at=5.0)
    story.write(P, attempt=0, worker=None, at=5.1)
    waited(story, after=50.0)


BROKEN: list[tuple[Callable[[], Story], Callable[[Story], None], str]] = [
    (running, _rescued_after_a_minute, LATE),
    (running, _rescued_after_a_few_sweeps, LATE),
    (running, _rescued_late_from_one_that_froze, LATE),
    (running, _rescued_late_from_one_that_was_cut_off, LATE),
    (running, _never_rescued, LATE),
    (running, _failed_late, LATE),
    (started, _claimed_after_a_minute, WAITED),
    (started, _claimed_after_some_seconds, WAITED),
    (started, _retried_late, WAITED),
    (started, _proceeded_late, WAITED),
    (started, _put_back_and_found_late, WAITED),
]


@pytest.mark.parametrize(("build", "breach", "words"), BROKEN)
def test_what_comes_late_is_found(build: Callable[[], Story], breach: Callable[[Story], None], words: str) -> None:
    story = build()
    breach(story)
    story.assert_breaks("I8", words)


# --- what isn't late ---


def _in_time() -> Story:
    return lost(running(), after=1.0)


def _due_in_time() -> Story:
    return waited(started(), after=1.0)


def _on_a_slow_machine() -> Story:
    story = lost(running(), after=20.0)
    story.faults = [line for line in story.faults if not isinstance(line, Pulsed)]
    looks(story, slowness=40.0)
    return story


def _while_nobody_lived() -> Story:
    """The other one came just before."""
    story = lost(running(), after=60.0)
    story.leases = []
    story.lease("w1", until=1)
    story.lease("w2", since=62)
    return story


def _while_the_other_one_was_frozen() -> Story:
    """It can do nothing, and may hold the row locked."""
    story = lost(running(), after=60.0)
    story.suffers("SIGSTOP", 20, at=3.0)
    story.suffers("SIGCONT", 20, at=62.0)
    return story


def _while_connections_broke() -> Story:
    story = lost(running(), after=10.0)
    story.suffers("terminated 9 backends", None, at=8.0)
    return story


def _while_the_database_was_away() -> Story:
    """Nobody could look at it, so it isn't known when it came back."""
    story = lost(running(), after=60.0)
    story.faults = [line for line in story.faults if not (isinstance(line, Pulsed) and 3.0 < line.at < 63.0)]
    return story


def _while_calls_failed() -> Story:
    story = lost(running(), after=6.0)
    story.client.append(Asked(9, "send", ("e",), (1,), at=8.0))
    return story


def _by_a_clock_that_was_set() -> Story:
    story = lost(running(), after=3600.0)
    story.faults += [Pulsed(3700.0, 1.0, at=100.0)]
    return story


def _while_the_worker_was_full() -> Story:
    """Of two places it keeps one free where a suspect waits."""
    return waited(started(), after=60.0, concurrency=1)


def _a_suspect() -> Story:
    """Of these a worker runs one at a time."""
    story = running()
    for lapses in (1, 2):
        story.suffers("SIGKILL")
        story.write(P, worker=None, lapses=lapses, rescued=True)
        if lapses == 1:
            story.claim()
    waited(story, after=60.0)
    story.leases = [lease._replace(worker="w2") for lease in story.leases]
    return story


IN_TIME = [
    _in_time, _due_in_time, _on_a_slow_machine, _while_nobody_lived, _while_the_other_one_was_frozen,
    _while_connections_broke, _while_the_database_was_away, _while_calls_failed,
    _by_a_clock_that_was_set, _while_the_worker_was_full, _a_suspect,
]  # fmt: skip


@pytest.mark.parametrize("build", IN_TIME)
def test_what_nobody_could_do_sooner_isnt_late(build: Callable[[], Story]) -> None:
    assert violations(build().history()) == []


def test_nothing_is_timed_where_the_rules_name_no_time() -> None:
    story = lost(running(), after=4000.0)
    assert violations(story.history(Rules())) == []


def test_a_machine_that_nobody_has_looked_at_may_be_ten_times_slower() -> None:
    story = lost(running(), after=8.0)
    assert any(LATE in wrong for wrong in violations(story.history()))
    story.faults = [line for line in story.faults if not isinstance(line, Pulsed)]
    assert violations(story.history()) == []
    story = lost(running(), after=26.0)
    story.faults = [line for line in story.faults if not isinstance(line, Pulsed)]
    assert any(LATE in wrong for wrong in violations(story.history()))


def test_where_connections_suffer_a_worker_is_given_time_to_notice_and_is_timed_when_it_is_calm() -> None:
    rules = Rules(RULES.scheduler_retry_count, RULES.max_retry_count, RULES.max_lapses, is_weathered=True).timed(0.1)
    assert violations(lost(running(), after=12.0, kind="").history(rules)) == []
    assert any(LATE in wrong for wrong in violations(lost(running(), after=30.0, kind="").history(rules)))
    story = lost(running(), after=30.0, kind="")
    story.faults.append(Calmed(at=20.0))
    assert violations(story.history(rules)) == []
