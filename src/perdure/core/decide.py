"""What becomes of a job when its attempt has ended: every rule of it in one place.

`decide` takes what the job's row said (`Snapshot`), how the attempt ended (an `Ending` of `perdure.core.ending`) and
what the settings allow (`Limits`), and returns a `Decision`, which the store then writes, guarded by the same snapshot.
The rules as a table: `docs/design/decisions.md`.

Not here: clocks (a due time is relative, or the caller's own), chance, I/O, the payloads (the caller stores result and
error), events (the store looks for them once a job is suspended), the number of the attempt and what a claim does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, assert_never

from perdure.core.ending import (
    Cancel,
    Deadline,
    Ending,
    Fail,
    Lapse,
    Raise,
    Returned,
    Shutdown,
    Suspend,
    UserCancel,
)
from perdure.core.retry import Retry, enqueueing_retry, retry_after_raise
from perdure.core.states import JobState, WokenBy, check

if TYPE_CHECKING:
    from typing import Self

    from perdure.core.retry import RetryPolicy

__all__ = [
    "FRESH",
    "KEEP_PLACE",
    "NEVER",
    "NOW",
    "After",
    "At",
    "Cancel",
    "Deadline",
    "Decision",
    "Due",
    "Ending",
    "Fail",
    "KeepPlace",
    "Lapse",
    "Limits",
    "Never",
    "Now",
    "Raise",
    "Returned",
    "Shutdown",
    "Snapshot",
    "Suspend",
    "UserCancel",
    "decide",
    "scheduler_retries_spent",
]

# --- When a job is due ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeepPlace:
    """As it was: the stored time stays, so the job keeps its place ahead of newer ones."""


@dataclass(frozen=True, slots=True)
class Never:
    """At no time: the job waits until somebody lets it go on."""


@dataclass(frozen=True, slots=True)
class Now:
    """At once, by the database's clock."""


@dataclass(frozen=True, slots=True)
class After:
    """A while from now, by the database's clock.

    Attributes:
        seconds: How long, greater than 0.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class At:
    """At a given time; one that is past by the database's clock means now.

    Attributes:
        time_at: The time, aware.
    """

    time_at: datetime


Due = KeepPlace | Never | Now | After | At
"""When a job is due."""

KEEP_PLACE: Final = KeepPlace()
NEVER: Final = Never()
NOW: Final = Now()

# --- What is known, and what is decided -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the row of a running job says.

    Attributes:
        retry_number: Enqueueing retries spent.
        scheduler_retries: Scheduler retries spent since the last enqueueing retry.
        lapses: Workers lost in a row with this job in hand, none of which reported again.
        cancel_requested: Whether somebody has asked for the job's cancellation since it was claimed.
        proceed_requested: Whether somebody has let the job go on while it was running.
        progressed: Whether this attempt has stored a new checkpoint, or does so with its end.
    """

    retry_number: int
    scheduler_retries: int
    lapses: int
    cancel_requested: bool
    proceed_requested: bool
    progressed: bool = False

    @classmethod
    def of_counts(
        cls,
        retry_number: int,
        scheduler_retries: int,
        lapses: int,
        *,
        cancel_requested: bool = False,
        proceed_requested: bool = False,
        progressed: bool = False,
    ) -> Self:
        """Return what a row says whose counts may have been written by hand: below 0 nothing can be spent."""
        return cls(
            max(0, retry_number),
            max(0, scheduler_retries),
            max(0, lapses),
            cancel_requested,
            proceed_requested,
            progressed,
        )


FRESH: Final = Snapshot(retry_number=0, scheduler_retries=0, lapses=0, cancel_requested=False, proceed_requested=False)
"""The row of a job to which nothing has happened yet: that of almost every job."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow a job.

    Attributes:
        policy: Both levels of retry.
        max_lapses: The lapse in a row that fails the job, 1 or more.
        progress_resets_retries: Whether scheduler retries start afresh once an attempt has progressed.
    """

    policy: RetryPolicy
    max_lapses: int
    progress_resets_retries: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a running job.

    Attributes:
        state: The state that it is in now.
        due: When it is due. A final state keeps the time that is stored.
        retry_number: Enqueueing retries spent.
        scheduler_retries: Scheduler retries spent since the last enqueueing retry.
        lapses: Workers lost in a row.
        suspect: Whether one more lapse would fail it, after at least one: a worker runs one such job at a time.
        write_checkpoint: Whether the execution metadata as it stands is persisted with the move, or stays as stored.
        use_proceed: Whether the remembered proceed is used up. If not, it stays, until a final state drops it.
        asleep: Whether it is suspended such that no event wakes it.
        woken_by: What lets it go on from its suspension. None: the row keeps what let it go on from the one before.
    """

    state: JobState
    due: Due
    retry_number: int
    scheduler_retries: int
    lapses: int = 0
    suspect: bool = False
    write_checkpoint: bool = True
    use_proceed: bool = False
    asleep: bool = False
    woken_by: WokenBy | None = None

    def __post_init__(self) -> None:
        """Refuse a move that the table of states lacks: no decision can carry one.

        Raises:
            IllegalTransition: A running job can't come into this state.
        """
        check(JobState.RUNNING, self.state)


# --- The rules --------------------------------------------------------------------------------------------------------

# Almost every attempt ends with this: it costs nothing to decide.
_COMPLETED_AT_FIRST: Final = Decision(JobState.COMPLETED, KEEP_PLACE, retry_number=0, scheduler_retries=0)

# A wait past the end of Python's or PostgreSQL's calendar would spoil the statement that writes it, and with it the
# outcomes of other jobs. Nobody will see the difference.
_LONGEST_WAIT_SECONDS: Final = 1000 * 365.25 * 24 * 60 * 60
# A count past the end of its column would do the same.
_MOST_RETRIES: Final = 2**31 - 1


def decide(snapshot: Snapshot, ending: Ending, limits: Limits) -> Decision:
    """Return what becomes of a running job whose attempt has ended.

    Args:
        snapshot: What its row says. The write of the decision must fail when the row says something else by then.
        ending: How the attempt ended.
        limits: What the settings allow.
    """
    if isinstance(ending, Returned):
        # Even when its cancellation was requested: the work is done, and its result is worth more.
        return _completed(snapshot)
    if snapshot.cancel_requested or isinstance(ending, Cancel | UserCancel):
        return _final(snapshot, JobState.CANCELLED, ending)
    match ending:
        case Suspend():
            return _suspended(snapshot, ending)
        case Shutdown():
            spent = scheduler_retries_spent(snapshot, limits)
            return Decision(JobState.PENDING, KEEP_PLACE, snapshot.retry_number, spent)
        case Fail() | Raise() | Deadline():
            return _retrying_or_failed(snapshot, ending, limits)
        case Lapse():
            return _lapsed(snapshot, ending, limits)
        case _:
            assert_never(ending)


def scheduler_retries_spent(snapshot: Snapshot, limits: Limits) -> int:
    """Return the scheduler retries that count as spent: an attempt that got further may start them afresh."""
    return 0 if limits.progress_resets_retries and snapshot.progressed else snapshot.scheduler_retries


def _completed(snapshot: Snapshot) -> Decision:
    if not snapshot.retry_number and not snapshot.scheduler_retries:
        return _COMPLETED_AT_FIRST
    return Decision(JobState.COMPLETED, KEEP_PLACE, snapshot.retry_number, snapshot.scheduler_retries)


def _final(snapshot: Snapshot, state: JobState, ending: Ending) -> Decision:
    """End the job. Its counters stay as they are, to be read; a remembered proceed goes with the row."""
    return Decision(
        state,
        KEEP_PLACE,
        snapshot.retry_number,
        snapshot.scheduler_retries,
        write_checkpoint=_writes_checkpoint(ending),
    )


def _suspended(snapshot: Snapshot, ending: Suspend) -> Decision:
    """Let the job wait, unless it was let go on before. Its retries start afresh: a long life doesn't use them up."""
    if snapshot.proceed_requested and not ending.asleep:
        return Decision(
            JobState.PROCEEDED, NOW, retry_number=0, scheduler_retries=0, use_proceed=True, woken_by=WokenBy.PROCEED
        )
    match ending.until:
        case None:
            due: Due = NEVER
        case timedelta() as duration:
            due = _after(duration.total_seconds())
        case moment:
            due = At(moment)
    # Who lets it go on sooner writes so; the time, which writes nothing, is what it is unless somebody does. A sleep
    # leaves it: behind it, a handler goes on as before it.
    woken_by = None if ending.asleep else WokenBy.TIME
    return Decision(
        JobState.SUSPENDED, due, retry_number=0, scheduler_retries=0, asleep=ending.asleep, woken_by=woken_by
    )


def _retrying_or_failed(snapshot: Snapshot, ending: Fail | Raise | Deadline, limits: Limits) -> Decision:
    retry = _retry(snapshot, ending, limits)
    if retry is None:
        return _final(snapshot, JobState.FAILED, ending)
    return Decision(
        JobState.RETRYING,
        _after(retry.delay_seconds),
        retry.retry_number,
        retry.scheduler_retries,
        write_checkpoint=_writes_checkpoint(ending),
    )


def _retry(snapshot: Snapshot, ending: Fail | Raise | Deadline, limits: Limits) -> Retry | None:
    """Spend a retry, if the ending allows one and one is left."""
    if isinstance(ending, Deadline) or not ending.retry:
        return None
    if isinstance(ending, Fail):
        return enqueueing_retry(limits.policy, snapshot.retry_number, ending.retry_after_seconds)
    spent = scheduler_retries_spent(snapshot, limits)
    if ending.delay_seconds is not None:  # the task's own function ends it, not a count; but it is told the count
        return Retry(ending.delay_seconds, snapshot.retry_number, min(spent + 1, _MOST_RETRIES))
    return retry_after_raise(limits.policy, snapshot.retry_number, spent, ending.chance)


def _lapsed(snapshot: Snapshot, ending: Lapse, limits: Limits) -> Decision:
    """Return the job to the queue, unless it has taken down too many workers in a row.

    A lapse counts against the job only when it may have been the cause: one that got further may live on for ever, and
    a worker that came back wasn't killed.
    """
    counts = not ending.persisted and not ending.ever_reported
    lapses = 0 if ending.persisted else snapshot.lapses + counts
    failed = counts and lapses >= limits.max_lapses
    return Decision(
        JobState.FAILED if failed else JobState.PENDING,
        KEEP_PLACE,
        snapshot.retry_number,
        scheduler_retries_spent(snapshot, limits),
        lapses=lapses,
        suspect=not failed and lapses >= max(limits.max_lapses - 1, 1),
        write_checkpoint=_writes_checkpoint(ending),
    )


def _writes_checkpoint(ending: Ending) -> bool:
    """Tell whether what the attempt changed since its last persist is kept: not if it broke off or was lost."""
    return not isinstance(ending, Raise | Deadline | Lapse)


def _after(seconds: float) -> Due:
    return After(min(seconds, _LONGEST_WAIT_SECONDS)) if seconds > 0 else NOW
