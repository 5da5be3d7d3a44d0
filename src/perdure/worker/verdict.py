"""From an attempt's end to the row that settles it: asks `decide`, and again when the job's row knew more.

No I/O: the lanes write the entries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.core.decide import (
    After,
    At,
    Fail,
    KeepPlace,
    Lapse,
    Never,
    Now,
    Raise,
    Shutdown,
    Snapshot,
    Suspend,
    decide,
)
from perdure.core.history import AttemptEnding
from perdure.store.settles import Finish, Release

if TYPE_CHECKING:
    from datetime import datetime

    from perdure.core.decide import Due, Ending, Limits
    from perdure.store.settles import Settlement

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended, with all that is needed to decide it again.

    Attributes:
        id: The job.
        claim: The attempt's fencing token.
        checkpoint: The number of the stored checkpoint.
        snapshot: What is known of the job's row.
        ending: How the attempt ended.
        limits: What the settings allow the job.
        execution_metadata: As it stands, encoded; None when it is as stored, or must not be written.
        result: Encoded; only of a value that was returned.
        error: As the column holds it.
        last_error: One line.
        events: The events that the attempt has used since its last persist.
        took_events: Whether the attempt has used events at all.
        woken_by: What the job had been woken by when the attempt began: a code of `WokenBy`.
        timed_out: Whether a raise is that of a time-out.
    """

    id: int
    claim: int
    checkpoint: int
    snapshot: Snapshot
    ending: Ending
    limits: Limits
    execution_metadata: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    last_error: bytes | None = None
    events: tuple[int, ...] = ()
    took_events: bool = False
    woken_by: int = 0
    timed_out: bool = False

    def informed(self, row: Settlement) -> Verdict:
        """Return the verdict with what the job's row says by now."""
        snapshot = dataclasses.replace(
            self.snapshot, cancel_requested=row.cancel_requested, proceed_requested=row.proceed_requested
        )
        if row.checkpoint == self.checkpoint:
            return dataclasses.replace(self, snapshot=snapshot)
        # A newer checkpoint than this process knew of has landed: nothing older may be put over it. What has been done
        # with events since goes with what isn't written, so they are delivered again.
        snapshot = dataclasses.replace(snapshot, progressed=True)
        return dataclasses.replace(
            self, snapshot=snapshot, checkpoint=row.checkpoint, execution_metadata=None, events=()
        )

    def entry(self) -> Finish | Release:
        """Decide, and return the row that settles the attempt so."""
        decision = decide(self.snapshot, self.ending, self.limits)
        execution_metadata = self.execution_metadata if decision.write_checkpoint else None
        events = self.events if decision.write_checkpoint else ()
        state = decision.state.code
        if decision.state.is_final:
            return Finish(
                self.id,
                self.claim,
                self.checkpoint,
                state,
                execution_metadata,
                self.result,
                self.error,
                self.last_error,
                events,
            )
        due_at, due_seconds = _due(decision.due)
        return Release(
            id=self.id,
            claim=self.claim,
            checkpoint=self.checkpoint,
            state=state,
            execution_metadata=execution_metadata,
            keep_place=isinstance(decision.due, KeepPlace),
            due_at=due_at,
            due_seconds=due_seconds,
            retry_number=decision.retry_number,
            scheduler_retries=decision.scheduler_retries,
            lapses=decision.lapses,
            suspect=decision.suspect,
            use_proceed=decision.use_proceed,
            error=self.error,
            last_error=self.last_error,
            ending=_in_history(self.ending, timed_out=self.timed_out).code,
            attempt_woken_by=self.woken_by,
            asleep=decision.asleep,
            woken_by=None if decision.woken_by is None else decision.woken_by.code,
            events=events,
            took_events=self.took_events,
        )


def _in_history(ending: Ending, *, timed_out: bool) -> AttemptEnding:
    match ending:
        case Raise():
            return AttemptEnding.TIMED_OUT if timed_out else AttemptEnding.RAISED
        case Fail():
            return AttemptEnding.FAILED
        case Suspend():
            return AttemptEnding.SUSPENDED
        case Shutdown():
            return AttemptEnding.STOPPED
        case Lapse():
            return AttemptEnding.LAPSED
        case _:
            return AttemptEnding.COMPLETED  # it ends the job, whose own row says how: this isn't written


def _due(due: Due) -> tuple[datetime | None, float | None]:
    match due:
        case KeepPlace() | Never():
            return None, None
        case Now():
            return None, 0.0
        case After(seconds):
            return None, seconds
        case At(time_at):
            return time_at, None
