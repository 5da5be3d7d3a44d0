"""A job's life as `decide` sees it, for the tests of decisions: no database, only the counters of its row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from perdure.core.decide import (
    FRESH,
    Decision,
    Due,
    Ending,
    Lapse,
    Limits,
    decide,
)
from perdure.core.retry import RetryPolicy
from perdure.core.states import JobState, check

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = Limits(RetryPolicy(5, (60, 120, 300, 600), 0), max_lapses=3)
LOST = Lapse(persisted=False, ever_reported=False)


def limits_of(
    *,
    scheduler_retry_count: int = 0,
    delays: tuple[float, ...] = (60,),
    max_retry_count: int = 0,
    max_lapses: int = 3,
) -> Limits:
    return Limits(RetryPolicy(scheduler_retry_count, delays, max_retry_count), max_lapses)


class Life:
    """A job's row, as far as decisions see it, and what has happened to it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = JobState.PENDING
        self.row = FRESH
        self.suspect = False
        self.attempts = 0
        self.waits: list[Due] = []

    def attempt(self, ending: Ending) -> Decision:
        """Claim the job, end its attempt like this, and write down what was decided."""
        check(self.state, JobState.RUNNING)
        self.attempts += 1
        decision = decide(self.row, ending, self.limits)
        self.state = decision.state
        self.suspect = decision.suspect
        self.waits.append(decision.due)
        self.row = replace(
            self.row,
            retry_number=decision.retry_number,
            scheduler_retries=decision.scheduler_retries,
            lapses=decision.lapses,
            proceed_requested=self.row.proceed_requested and not decision.use_proceed,
        )
        return decision

    def run(self, script: Iterable[Ending]) -> Life:
        for ending in script:
            self.attempt(ending)
        return self

    def repeat_until_final(self, ending: Ending, *, at_most: int = 1000) -> Life:
        while not self.state.is_final:
            assert self.attempts < at_most, "the job never ends"
            self.attempt(ending)
        return self
