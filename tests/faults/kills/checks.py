"""What must be true of the jobs of a workshop once all is at rest, whatever its workers have died of.

I1: nothing is lost. I3: one end. I4: attempts grow, and don't overlap. I5: effects of a transaction come about exactly
once. I6: others at least once, at most once an attempt. I8: nothing is stuck. I9: all is counted right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.core.history import AttemptEnding
from perdure.core.states import JobState
from tests.faults.kills.counts import miscounted
from tests.faults.kills.tasks import KINDS, TOTAL
from tests.support.history import CHECKS
from tests.support.history.checks.writes import checkpoints_go_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from tests.faults.kills.workshop import Workshop

__all__ = ["assert_all_is_well", "everything_stored"]

# Those that ask the transition log: what was written to each job, and by whom. The others ask for lines of handlers.
_OF_HISTORY = (*CHECKS["I3"], *CHECKS["I4"], checkpoints_go_on)
_EXACTLY_ONCE = ("transaction", "thread", "suspend")
_AT_LEAST_ONCE = ("persist", "steps")


class Attempt(NamedTuple):
    """One that has ended, and not its job."""

    number: int
    ending: AttemptEnding
    started_at: datetime
    ended_at: datetime
    lease_until: datetime | None  # of its worker, if that has lost it


class Story(NamedTuple):
    """All that is known of a job in the end."""

    id: int
    kind: str
    state: JobState
    attempt: int
    retry_number: int
    started_at: datetime
    metadata: Any
    execution_metadata: Any
    error: Any
    attempts: list[Attempt]
    effects: list[tuple[int, int]]  # attempt and number, in their order
    cancelled_in: int | None  # the attempt in which it was when its cancel was answered

    def count(self, ending: AttemptEnding) -> int:
        """How many of the attempts before the last have ended so."""
        return sum(attempt.ending is ending for attempt in self.attempts)


async def assert_all_is_well(workshop: Workshop) -> None:
    """Check every job, and that nothing is left of the workers."""
    history, gone = workshop.history(), await workshop.gone()
    wrong = [wrong for check in _OF_HISTORY for wrong in check(history)]
    wrong += [wrong for moves in history.moves.values() for wrong in miscounted(moves, gone)]  # I9
    assert not wrong, "\n".join(wrong)
    stories = await _stories(workshop)
    assert {kind: sorted(s.id for s in stories if s.kind == kind) for kind in KINDS} == workshop.started  # I1, I3
    for story in stories:
        _check_attempts(story)
        _CHECKS[story.kind](story)
    assert await workshop.rows("select * from jobs") == []
    assert await workshop.rows("select * from events") == []
    # I8: nobody renews a lease any more.
    await workshop.until("not exists (select from workers where lapsed_at is null and lease_until > clock_timestamp())")
    await workshop.until_no_transaction_is_open()


async def everything_stored(workshop: Workshop, ids: Iterable[int]) -> dict[str, list[tuple[Any, ...]]]:
    """Read all of these jobs that no zombie may change."""
    of = f"= any('{{{','.join(map(str, ids))}}}'::bigint[])"
    return {
        "finished": await workshop.rows(f"select * from finished_jobs where id {of} order by id"),
        # But for what is forgiven when a worker that was taken for lost comes back.
        "live": await workshop.rows(
            f"select to_jsonb(jobs) - 'lapses' - 'lapsed_worker_id' - 'suspect' from jobs where id {of} order by id"
        ),
        "attempts": await workshop.rows(f"select * from attempts where job_id {of} order by job_id, attempt"),
        "events": await workshop.rows(f"select * from events where job_id {of} order by job_id, id"),
        "steps": await workshop.rows(f"select * from steps where job_id {of} order by job_id, key"),
        "effects": await workshop.rows(
            f"select * from effects where kind = any(array{list(_EXACTLY_ONCE)}) and job {of} order by job, n, attempt"
        ),
    }


def _check_attempts(story: Story) -> None:
    # I4: every number is there once; an attempt begins after the one before has ended. One that is cancelled while it
    # waits has no attempt that ended it.
    last = story.attempt + (story.kind == "cancels" and len(story.attempts) == story.attempt)
    assert [attempt.number for attempt in story.attempts] == list(range(1, last)), story
    for before, after in pairwise(story.attempts):
        assert before.ended_at <= after.started_at, story
    if story.attempts and last == story.attempt:
        assert story.attempts[-1].ended_at <= story.started_at, story
    # I9: only what lost its worker has lapsed, and not before its lease had ended.
    for attempt in story.attempts:
        if attempt.ending is AttemptEnding.LAPSED:
            assert attempt.lease_until is not None, story
            assert attempt.ended_at >= attempt.lease_until, story
    allowed = {AttemptEnding.LAPSED, AttemptEnding.STOPPED, *_ENDINGS.get(story.kind, ())}
    assert {attempt.ending for attempt in story.attempts} <= allowed, story
    # I6: at most once an attempt.
    assert max(Counter(story.effects).values(), default=1) == 1, story


_ENDINGS = {
    "events": (AttemptEnding.SUSPENDED,),
    "suspend": (AttemptEnding.SUSPENDED,),
    "retries": (AttemptEnding.RAISED,),
    "fails": (AttemptEnding.FAILED,),
}


def _check_exactly_once(story: Story) -> None:
    assert (story.state, story.execution_metadata["done"], story.retry_number) == (JobState.COMPLETED, TOTAL, 0), story
    assert [n for _, n in story.effects] == list(range(TOTAL)), story  # I5


def _check_suspend(story: Story) -> None:
    _check_exactly_once(story)
    # What is stored with a suspension is stored if and only if the suspension is.
    assert len(story.execution_metadata["seen"]) == story.count(AttemptEnding.SUSPENDED), story


def _check_persist(story: Story) -> None:
    assert (story.state, story.execution_metadata["done"], story.retry_number) == (JobState.COMPLETED, TOTAL, 0), story
    _check_at_least_once(story)


def _check_steps(story: Story) -> None:
    assert (story.state, story.retry_number) == (JobState.COMPLETED, 0), story
    assert set(zip(story.execution_metadata["seen"], range(TOTAL), strict=True)) <= set(story.effects), story
    _check_at_least_once(story)


def _check_at_least_once(story: Story) -> None:
    assert {n for _, n in story.effects} == set(range(TOTAL)), story  # I6
    _check_it_goes_on(story)


def _check_it_goes_on(story: Story) -> None:
    # I5: an attempt goes on from what was stored, so it repeats what the one before had last begun, or comes after it.
    numbers = defaultdict[int, list[int]](list)
    for attempt, n in story.effects:
        numbers[attempt].append(n)
    for before, after in pairwise(sorted(numbers)):
        assert numbers[after][0] in {numbers[before][-1], numbers[before][-1] + 1}, story


def _check_events(story: Story) -> None:
    assert (story.state, story.retry_number) == (JobState.COMPLETED, 0), story
    assert story.execution_metadata["seen"] == list(range(TOTAL)), story  # each once, in their order


def _check_retries(story: Story) -> None:
    raised = story.count(AttemptEnding.RAISED)
    broken_off = story.count(AttemptEnding.LAPSED) + story.count(
        AttemptEnding.STOPPED
    )  # behind what they had persisted
    assert (story.state, story.execution_metadata["done"]) == (JobState.COMPLETED, TOTAL), story
    assert raised <= TOTAL <= raised + broken_off, story
    assert story.retry_number == raised // 2, (
        story
    )  # I9: one retry of the scheduler's, then one of these; lapses spend none


def _check_fails(story: Story) -> None:
    assert (story.state, story.retry_number, story.count(AttemptEnding.FAILED)) == (JobState.FAILED, 2, 2), story
    assert story.error == {"error": {"why": "3 times"}}, story


def _check_cancels(story: Story) -> None:
    # I3: it ends cancelled, or with the value that its handler returned all the same; and is never begun again.
    allowed = {JobState.CANCELLED, *([JobState.COMPLETED] if story.metadata else [])}
    assert story.state in allowed, story
    assert story.cancelled_in == story.attempt or (story.cancelled_in is None and story.metadata), story
    assert story.retry_number == 0, story
    _check_it_goes_on(story)


def _check_plain(story: Story) -> None:
    assert (story.state, story.retry_number) == (JobState.COMPLETED, 0), story


_CHECKS: dict[str, Callable[[Story], None]] = {
    "persist": _check_persist,
    "transaction": _check_exactly_once,
    "thread": _check_exactly_once,
    "steps": _check_steps,
    "events": _check_events,
    "suspend": _check_suspend,
    "retries": _check_retries,
    "fails": _check_fails,
    "cancels": _check_cancels,
    "plain": _check_plain,
    "newcomer": _check_plain,
}


async def _stories(workshop: Workshop) -> list[Story]:
    attempts = _by_job(
        (job, Attempt(number, AttemptEnding.from_code(ending), started_at, ended_at, lease_until))
        for job, number, ending, started_at, ended_at, lease_until in await workshop.rows(
            "select job_id, attempt, ending, attempts.started_at, ended_at, lease_until from attempts left join ("
            "select id, lease_until from workers where lapsed_at is not null union select * from lost_leases"
            ") as lost on lost.id = worker_id order by job_id, attempt"
        )
    )
    effects = _by_job(
        (job, (attempt, n))
        for job, attempt, n in await workshop.rows("select job, attempt, n from effects order by at")
    )
    return [
        Story(
            job_id,
            kind,
            JobState.from_code(state),
            *rest,
            attempts[job_id],
            effects[job_id],
            workshop.cancelled.get(job_id),
        )
        for job_id, kind, state, *rest in await workshop.rows(
            "select id, task, state, attempt, retry_number, started_at, metadata, execution_metadata, error"
            " from finished_jobs order by id"
        )
    ]


def _by_job(rows: Iterable[tuple[int, Any]]) -> defaultdict[int, list[Any]]:
    found = defaultdict[int, list[Any]](list)
    for job, row in rows:
        found[job].append(row)
    return found
