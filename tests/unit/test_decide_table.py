"""The rules of decisions as a table, and what holds for all of them.

`RULES` states the rules a second time, in another form than `perdure.core.decide` has them: rows, of which the first
that applies counts. A grid and hypothesis compare both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product, starmap
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.core.decide import (
    FRESH,
    KEEP_PLACE,
    NEVER,
    NOW,
    After,
    At,
    Cancel,
    Deadline,
    Decision,
    Due,
    Ending,
    Fail,
    Lapse,
    Limits,
    Raise,
    Returned,
    Shutdown,
    Snapshot,
    Suspend,
    UserCancel,
    decide,
)
from perdure.core.retry import Backoff, RetryPolicy
from perdure.core.states import TRANSITIONS, JobState, WokenBy
from perdure.errors import IllegalTransition
from tests.unit.decide_life import LIMITS, LOST, Life, limits_of

if TYPE_CHECKING:
    from collections.abc import Callable

TOMORROW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
USED = Snapshot(retry_number=1, scheduler_retries=2, lapses=2, cancel_requested=False, proceed_requested=False)


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One question to `decide`."""

    snapshot: Snapshot
    ending: Ending
    limits: Limits

    @property
    def kind(self) -> str:
        return type(self.ending).__name__

    @property
    def until(self) -> datetime | timedelta | None:
        return self.ending.until if isinstance(self.ending, Suspend) else None

    @property
    def wait_seconds(self) -> float:
        return self.until.total_seconds() if isinstance(self.until, timedelta) else 0

    @property
    def asleep(self) -> bool:
        return isinstance(self.ending, Suspend) and self.ending.asleep

    @property
    def progressed(self) -> bool:
        return self.snapshot.progressed

    @property
    def level_1_spent(self) -> int:
        return 0 if self.progressed and self.limits.progress_resets_retries else self.snapshot.scheduler_retries

    @property
    def level_1_left(self) -> bool:
        return self.level_1_spent < self.limits.policy.scheduler_retry_count

    @property
    def level_2_left(self) -> bool:
        return self.snapshot.retry_number < self.limits.policy.max_retry_count

    @property
    def lapse_is_last(self) -> bool:
        return self.snapshot.lapses + 1 >= self.limits.max_lapses

    def decide(self) -> Decision:
        return decide(self.snapshot, self.ending, self.limits)


def kept(case: Case) -> tuple[int, int]:
    return case.snapshot.retry_number, case.snapshot.scheduler_retries


def kept_but_for_progress(case: Case) -> tuple[int, int]:
    return case.snapshot.retry_number, case.level_1_spent


def afresh(_case: Case) -> tuple[int, int]:
    return 0, 0


def one_of_level_1(case: Case) -> tuple[int, int]:
    return case.snapshot.retry_number, case.level_1_spent + 1


def one_of_level_2(case: Case) -> tuple[int, int]:
    return case.snapshot.retry_number + 1, 0


def seconds(wait: float) -> Due:
    return After(wait) if wait > 0 else NOW


def delay(case: Case) -> Due:
    assert isinstance(case.ending, Raise)
    delays = case.limits.policy.scheduler_retry_delays
    if isinstance(delays, Backoff):
        grown = delays.first_seconds * delays.factor**case.level_1_spent
        return seconds(case.ending.chance * min(grown, delays.cap_seconds))
    listed = [*delays] or [0.0]
    return seconds((listed + listed[-1:] * 100)[case.level_1_spent])


def own_delay(case: Case) -> Due:
    assert isinstance(case.ending, Raise)
    assert case.ending.delay_seconds is not None
    return seconds(case.ending.delay_seconds)


def wish(case: Case) -> Due:
    assert isinstance(case.ending, Fail)
    return seconds(case.ending.retry_after_seconds)


def point_in_time(case: Case) -> Due:
    assert isinstance(case.until, datetime)
    return At(case.until)


@dataclass(frozen=True)
class Rule:
    """A row: when it applies, and what `decide` is to answer then."""

    name: str
    applies: Callable[[Case], bool]
    state: str
    counters: Callable[[Case], tuple[int, int]] = kept
    due: Callable[[Case], Due] = lambda _case: KEEP_PLACE
    lapses: Callable[[Case], int] = lambda _case: 0
    suspect: Callable[[Case], bool] = lambda _case: False
    write_checkpoint: bool = True
    use_proceed: bool = False
    asleep: Callable[[Case], bool] = lambda _case: False
    woken_by: WokenBy | None = None

    def answer(self, case: Case) -> Decision:
        retry_number, scheduler_retries = self.counters(case)
        return Decision(
            state=JobState(self.state),
            due=self.due(case),
            retry_number=retry_number,
            scheduler_retries=scheduler_retries,
            lapses=self.lapses(case),
            suspect=self.suspect(case),
            write_checkpoint=self.write_checkpoint,
            use_proceed=self.use_proceed,
            asleep=self.asleep(case),
            woken_by=self.woken_by,
        )


def suspended(name: str, applies: Callable[[Case], bool], due: Callable[[Case], Due]) -> Rule:
    return Rule(name, applies, "suspended", afresh, due, woken_by=WokenBy.TIME)


def asleep(name: str, applies: Callable[[Case], bool], due: Callable[[Case], Due]) -> Rule:
    return Rule(name, lambda c: c.asleep and applies(c), "suspended", afresh, due, asleep=lambda _c: True)


# fmt: off
RULES = (
    Rule("a value, even after a cancel request",
         lambda c: c.kind == "Returned", "completed"),
    Rule("a cancel request, and the attempt broke off or was lost",
         lambda c: c.snapshot.cancel_requested and c.kind in {"Raise", "Deadline", "Lapse"}, "cancelled",
         write_checkpoint=False),
    Rule("a cancel request, and any other end",
         lambda c: c.snapshot.cancel_requested, "cancelled"),
    Rule("cancelled by its handler or a user",
         lambda c: c.kind in {"Cancel", "UserCancel"}, "cancelled"),
    asleep("asleep for ever",
           lambda c: c.until is None, lambda _c: NEVER),
    asleep("asleep until a time",
           lambda c: isinstance(c.until, datetime), point_in_time),
    asleep("asleep for a while",
           lambda c: c.wait_seconds > 0, lambda c: After(c.wait_seconds)),
    asleep("asleep for no time",
           lambda _c: True, lambda _c: NOW),
    Rule("suspended, and let go on before",
         lambda c: c.kind == "Suspend" and c.snapshot.proceed_requested, "proceeded",
         afresh, lambda _c: NOW, use_proceed=True, woken_by=WokenBy.PROCEED),
    suspended("suspended for ever",
              lambda c: c.kind == "Suspend" and c.until is None, lambda _c: NEVER),
    suspended("suspended until a time",
              lambda c: c.kind == "Suspend" and isinstance(c.until, datetime), point_in_time),
    suspended("suspended for a while",
              lambda c: c.kind == "Suspend" and c.wait_seconds > 0, lambda c: After(c.wait_seconds)),
    suspended("suspended for no time",
              lambda c: c.kind == "Suspend", lambda _c: NOW),
    Rule("shutdown",
         lambda c: c.kind == "Shutdown", "pending", kept_but_for_progress),
    Rule("past its deadline",
         lambda c: c.kind == "Deadline", "failed", write_checkpoint=False),
    Rule("failed, not to be retried",
         lambda c: isinstance(c.ending, Fail) and not c.ending.retry, "failed"),
    Rule("failed, with a retry left",
         lambda c: c.kind == "Fail" and c.level_2_left, "retrying", one_of_level_2, wish),
    Rule("failed, with none left",
         lambda c: c.kind == "Fail", "failed"),
    Rule("raised what is never retried",
         lambda c: isinstance(c.ending, Raise) and not c.ending.retry, "failed", write_checkpoint=False),
    Rule("raised, and the task's own function says when to try again",
         lambda c: isinstance(c.ending, Raise) and c.ending.delay_seconds is not None, "retrying", one_of_level_1,
         own_delay, write_checkpoint=False),
    Rule("raised, with a scheduler retry left",
         lambda c: c.kind == "Raise" and c.level_1_left, "retrying", one_of_level_1, delay, write_checkpoint=False),
    Rule("raised, with only an enqueueing retry left",
         lambda c: c.kind == "Raise" and c.level_2_left, "retrying", one_of_level_2, lambda _c: NOW,
         write_checkpoint=False),
    Rule("raised, with none left",
         lambda c: c.kind == "Raise", "failed", write_checkpoint=False),
    Rule("lost after it persisted",
         lambda c: c.kind == "Lapse" and getattr(c.ending, "persisted", False), "pending",
         kept_but_for_progress, write_checkpoint=False),
    Rule("lost by a worker that came back",
         lambda c: c.kind == "Lapse" and getattr(c.ending, "ever_reported", False), "pending", kept_but_for_progress,
         lapses=lambda c: c.snapshot.lapses,
         suspect=lambda c: c.snapshot.lapses > 0 and c.lapse_is_last, write_checkpoint=False),
    Rule("lost once too often",
         lambda c: c.kind == "Lapse" and c.lapse_is_last, "failed", kept_but_for_progress,
         lapses=lambda c: c.snapshot.lapses + 1, write_checkpoint=False),
    Rule("lost",
         lambda c: c.kind == "Lapse", "pending", kept_but_for_progress, lapses=lambda c: c.snapshot.lapses + 1,
         suspect=lambda c: c.snapshot.lapses + 2 == c.limits.max_lapses, write_checkpoint=False),
)
# fmt: on


def rule_for(case: Case) -> Rule:
    return next(rule for rule in RULES if rule.applies(case))


durations = st.timedeltas(min_value=timedelta(days=-1000), max_value=timedelta(days=100_000))
endings: st.SearchStrategy[Ending] = st.one_of(
    st.just(Returned()),
    st.builds(Suspend, until=st.none() | durations | st.datetimes(timezones=st.just(UTC)), asleep=st.booleans()),
    st.builds(Fail, retry=st.booleans(), retry_after_seconds=st.floats(0, 1e6)),
    st.just(Cancel()),
    st.just(Deadline()),
    st.builds(Raise, retry=st.booleans(), delay_seconds=st.none() | st.floats(0, 1e6), chance=st.floats(0, 1)),
    st.just(Shutdown()),
    st.just(UserCancel()),
    st.builds(Lapse, persisted=st.booleans(), ever_reported=st.booleans()),
)
snapshots = st.builds(
    Snapshot,
    retry_number=st.integers(0, 5),
    scheduler_retries=st.integers(0, 8),
    lapses=st.integers(0, 5),
    cancel_requested=st.sampled_from([False, False, True]),
    proceed_requested=st.booleans(),
    progressed=st.booleans(),
)
policies = st.builds(
    RetryPolicy,
    scheduler_retry_count=st.integers(0, 8),
    scheduler_retry_delays=st.one_of(
        st.lists(st.floats(0, 1e6), max_size=5).map(tuple),
        st.builds(Backoff, st.floats(0, 1e3), st.floats(1, 10), st.floats(0, 1e6)),
    ),
    max_retry_count=st.integers(0, 5),
)
all_limits = st.builds(Limits, policy=policies, max_lapses=st.integers(1, 5), progress_resets_retries=st.booleans())
cases = st.builds(Case, snapshots, endings, all_limits)


@settings(max_examples=1000)
@given(cases)
@example(Case(FRESH, Suspend(timedelta(0)), LIMITS))
@example(Case(FRESH, LOST, limits_of(max_lapses=1)))
@example(Case(FRESH, Lapse(persisted=False, ever_reported=True), limits_of(max_lapses=1)))
@example(Case(USED, Lapse(persisted=False, ever_reported=True), limits_of(max_lapses=1)))
def test_decide_says_what_the_table_says(case: Case) -> None:
    assert case.decide() == rule_for(case).answer(case), rule_for(case).name


def test_every_row_of_the_table_is_met_by_a_small_grid_of_all_there_is() -> None:
    flags = (False, True)
    endings = (
        *(Returned(), Cancel(), Shutdown(), UserCancel(), Deadline()),
        *(Raise(), Raise(retry=False), Raise(delay_seconds=0.0), Raise(delay_seconds=3.0)),
        *(Fail(), Fail(retry_after_seconds=3.0), Fail(retry=False)),
        *starmap(Suspend, product((None, TOMORROW, HOUR, timedelta(0), -HOUR), flags)),
        *(Lapse(persisted, ever_reported) for persisted, ever_reported in product(flags, flags)),
    )
    snapshots = starmap(Snapshot, product((0, 1), (0, 1), (0, 1, 2), flags, flags, flags))
    limits = [
        Limits(RetryPolicy(scheduler_retry_count, (7,), max_retry_count), max_lapses, resets)
        for scheduler_retry_count, max_retry_count, max_lapses, resets in product((0, 1), (0, 1), (1, 2, 3), flags)
    ]
    met: Counter[str] = Counter()
    for case in starmap(Case, product(snapshots, endings, limits)):
        rule = rule_for(case)
        assert case.decide() == rule.answer(case), (rule.name, case)
        met[rule.name] += 1
    assert set(met) == {rule.name for rule in RULES}


@given(cases)
def test_every_decision_is_a_move_that_a_running_job_has(case: Case) -> None:
    assert case.decide().state in TRANSITIONS[JobState.RUNNING]


@pytest.mark.parametrize("state", [state for state in JobState if state not in TRANSITIONS[JobState.RUNNING]])
def test_a_decision_can_t_even_be_made_of_a_move_that_the_table_lacks(state: JobState) -> None:
    with pytest.raises(IllegalTransition, match=f"from running to {state}"):
        Decision(state, NOW, retry_number=0, scheduler_retries=0)


# --- Whole lives ------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(all_limits, st.lists(st.tuples(endings, st.booleans(), st.sampled_from([False] * 9 + [True])), max_size=40))
def test_whatever_happens_to_a_job_no_limit_is_exceeded_and_no_wish_is_forgotten(
    limits: Limits, script: list[tuple[Ending, bool, bool]]
) -> None:
    life = Life(limits)
    for ending, proceed, cancel in script:
        if life.state.is_final:
            break
        if isinstance(ending, Raise) and ending.delay_seconds is not None:
            continue  # a task's own function knows no limit
        proceed_requested = life.row.proceed_requested or proceed
        life.row = replace(life.row, proceed_requested=proceed_requested, cancel_requested=cancel)
        decision = life.attempt(ending)

        assert decision.retry_number <= limits.policy.max_retry_count
        assert decision.scheduler_retries <= limits.policy.scheduler_retry_count
        assert decision.lapses <= limits.max_lapses
        assert decision.state.is_final or decision.lapses < limits.max_lapses
        assert not decision.suspect or not decision.state.is_final
        if cancel:
            assert decision.state == (JobState.COMPLETED if ending == Returned() else JobState.CANCELLED)
        elif proceed_requested:
            assert decision.state is not JobState.SUSPENDED or decision.asleep
            assert decision.use_proceed == (decision.state is JobState.PROCEEDED)
        else:
            assert decision.state is not JobState.PROCEEDED


# --- The happy path ---------------------------------------------------------------------------------------------------


@given(snapshots)
def test_completing_a_job_without_retries_makes_nothing_new(snapshot: Snapshot) -> None:
    first = decide(FRESH, Returned(), LIMITS)
    unretried = replace(snapshot, retry_number=0, scheduler_retries=0)
    assert decide(unretried, Returned(), LIMITS) is first
