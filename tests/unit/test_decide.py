"""What becomes of a job at an attempt's end, sentence by sentence of the specification.

The rules as a whole are compared with a table in `test_decide_table.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

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
    Raise,
    Returned,
    Shutdown,
    Snapshot,
    Suspend,
    UserCancel,
    decide,
)
from perdure.core.states import JobState, WokenBy
from perdure.errors import MisuseError
from tests.unit.decide_life import LIMITS, LOST, Life, limits_of

TOMORROW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
USED = Snapshot(retry_number=1, scheduler_retries=2, lapses=2, cancel_requested=False, proceed_requested=False)


# --- What a handler can end with --------------------------------------------------------------------------------------


def test_a_value_completes_the_job_and_persists_its_execution_metadata() -> None:
    decision = decide(FRESH, Returned(), LIMITS)
    assert (decision.state, decision.write_checkpoint) == (JobState.COMPLETED, True)


def test_suspended_waits_until_somebody_proceeds_it() -> None:
    assert decide(FRESH, Suspend(), LIMITS) == Decision(JobState.SUSPENDED, NEVER, 0, 0, woken_by=WokenBy.TIME)


@pytest.mark.parametrize(("until", "due"), [(TOMORROW, At(TOMORROW)), (HOUR, After(3600.0)), (-HOUR, NOW)])
def test_suspended_until_goes_on_by_itself_and_is_suspended_till_then(until: datetime | timedelta, due: Due) -> None:
    assert decide(FRESH, Suspend(until), LIMITS) == Decision(JobState.SUSPENDED, due, 0, 0, woken_by=WokenBy.TIME)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(MisuseError, match=r"until 2030-01-02T03:04:05: the time has no zone; give an aware datetime"):
        Suspend(TOMORROW.replace(tzinfo=None))


def test_a_wait_beyond_the_calendar_can_still_be_written() -> None:
    due = decide(FRESH, Suspend(timedelta.max), LIMITS).due
    assert isinstance(due, After)
    assert timedelta(days=365 * 999) < timedelta(seconds=due.seconds)
    assert datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=due.seconds) < datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("delays", [(1e300,), (1.7e308,)])
def test_a_retry_beyond_the_calendar_can_still_be_written(delays: tuple[float, ...]) -> None:
    due = decide(FRESH, Raise(), limits_of(scheduler_retry_count=1, delays=delays)).due
    assert isinstance(due, After)
    assert datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=due.seconds) < datetime.max.replace(tzinfo=UTC)


def test_failed_spends_one_enqueueing_retry_and_no_scheduler_retry() -> None:
    limits = limits_of(scheduler_retry_count=5, max_retry_count=2)
    assert decide(FRESH, Fail(), limits) == Decision(JobState.RETRYING, NOW, retry_number=1, scheduler_retries=0)


def test_failed_ends_the_job_when_no_retry_is_left() -> None:
    life = Life(limits_of(scheduler_retry_count=5, max_retry_count=2)).repeat_until_final(Fail())
    assert (life.state, life.attempts, life.row.retry_number) == (JobState.FAILED, 3, 2)


def test_failed_without_retry_fails_at_once() -> None:
    limits = limits_of(scheduler_retry_count=5, max_retry_count=9)
    assert decide(FRESH, Fail(retry=False), limits).state is JobState.FAILED


def test_cancelled_by_its_handler_is_cancelled_with_its_execution_metadata() -> None:
    decision = decide(FRESH, Cancel(), LIMITS)
    assert (decision.state, decision.write_checkpoint) == (JobState.CANCELLED, True)


def test_a_raise_is_a_scheduler_retry_and_drops_what_was_not_persisted() -> None:
    assert decide(FRESH, Raise(), LIMITS) == Decision(
        JobState.RETRYING, After(60), retry_number=0, scheduler_retries=1, write_checkpoint=False
    )


def test_with_the_default_settings_a_job_that_raises_is_attempted_six_times() -> None:
    life = Life(LIMITS).repeat_until_final(Raise())
    assert (life.state, life.attempts) == (JobState.FAILED, 6)
    assert life.waits == [After(60), After(120), After(300), After(600), After(600), KEEP_PLACE]


def test_shutdown_puts_the_job_back_at_its_old_place_with_its_checkpoint_and_spends_no_retry() -> None:
    decision = decide(USED, Shutdown(), LIMITS)
    assert (decision.state, decision.due, decision.write_checkpoint) == (JobState.PENDING, KEEP_PLACE, True)
    assert (decision.retry_number, decision.scheduler_retries) == (USED.retry_number, USED.scheduler_retries)


def test_any_number_of_shutdowns_never_ends_a_job() -> None:
    life = Life(limits_of(max_lapses=1)).run([Shutdown()] * 100)
    assert (life.state, life.row) == (JobState.PENDING, FRESH)


def test_cancelled_by_a_user_is_cancelled_with_its_execution_metadata() -> None:
    requested = replace(FRESH, cancel_requested=True)
    assert decide(requested, UserCancel(), LIMITS) == Decision(JobState.CANCELLED, KEEP_PLACE, 0, 0)


def test_a_lost_process_returns_the_job_to_its_old_place_and_the_last_persisted_execution_metadata() -> None:
    decision = decide(FRESH, LOST, LIMITS)
    assert (decision.state, decision.due, decision.write_checkpoint) == (JobState.PENDING, KEEP_PLACE, False)


def test_a_lost_process_spends_no_retry() -> None:
    decision = decide(USED, LOST, limits_of(max_lapses=9))
    assert (decision.retry_number, decision.scheduler_retries) == (USED.retry_number, USED.scheduler_retries)


@pytest.mark.parametrize("max_lapses", [1, 2, 3, 7])
def test_after_max_lapses_in_a_row_the_job_fails_so_that_it_cant_take_down_every_worker(max_lapses: int) -> None:
    life = Life(limits_of(scheduler_retry_count=5, max_retry_count=5, max_lapses=max_lapses)).repeat_until_final(LOST)
    assert (life.state, life.attempts, life.row.lapses) == (JobState.FAILED, max_lapses, max_lapses)


def test_at_its_last_allowed_lapse_a_job_is_a_suspect() -> None:
    life = Life(limits_of(max_lapses=4))
    assert [life.attempt(LOST).suspect for _ in range(4)] == [False, False, True, False]


def test_with_one_lapse_allowed_no_job_is_a_suspect_before_it_has_done_anything() -> None:
    """Else every job would be one, and a worker would run one at a time."""
    for ending in (Shutdown(), Raise(), Lapse(persisted=True, ever_reported=False)):
        assert not decide(FRESH, ending, limits_of(scheduler_retry_count=1, max_lapses=1)).suspect


def test_an_attempt_that_persisted_something_starts_the_count_of_lapses_afresh() -> None:
    life = Life(limits_of(max_lapses=2)).run([LOST, Lapse(persisted=True, ever_reported=False)])
    assert (life.state, life.row.lapses, life.suspect) == (JobState.PENDING, 0, False)


def test_a_job_that_gets_further_in_every_attempt_may_lose_any_number_of_workers() -> None:
    life = Life(limits_of(max_lapses=1)).run([Lapse(persisted=True, ever_reported=False)] * 50)
    assert (life.state, life.row.lapses) == (JobState.PENDING, 0)


def test_a_worker_that_reported_again_was_not_killed_by_the_job() -> None:
    came_back = Lapse(persisted=False, ever_reported=True)
    life = Life(limits_of(max_lapses=2)).run([came_back] * 50)
    assert (life.state, life.row.lapses, life.suspect) == (JobState.PENDING, 0, False)
    life.run([LOST, came_back])
    assert (life.state, life.row.lapses, life.suspect) == (JobState.PENDING, 1, True)


@pytest.mark.parametrize("ending", [Suspend(), Suspend(HOUR), Shutdown(), Fail(), Raise()])
def test_any_end_of_an_attempt_that_its_worker_saw_ends_the_row_of_lapses(ending: Ending) -> None:
    life = Life(limits_of(scheduler_retry_count=9, max_retry_count=9, max_lapses=3)).run([LOST, LOST, ending])
    assert (life.row.lapses, life.suspect) == (0, False)


# --- Cancel requests and remembered proceeds --------------------------------------------------------------------------


def test_a_value_returned_after_a_cancel_request_completes_the_job_all_the_same() -> None:
    assert decide(replace(FRESH, cancel_requested=True), Returned(), LIMITS).state is JobState.COMPLETED


@pytest.mark.parametrize(
    ("ending", "write_checkpoint"),
    [
        (Suspend(), True),
        (Suspend(TOMORROW), True),
        (Fail(), True),
        (Fail(retry=False), True),
        (Cancel(), True),
        (Shutdown(), True),
        (UserCancel(), True),
        (Raise(), False),
        (LOST, False),
        (Lapse(persisted=True, ever_reported=False), False),
    ],
)
def test_any_other_end_after_a_cancel_request_cancels_the_job(ending: Ending, *, write_checkpoint: bool) -> None:
    requested = replace(USED, cancel_requested=True, proceed_requested=True)
    decision = decide(requested, ending, limits_of(scheduler_retry_count=9, max_retry_count=9))
    assert (decision.state, decision.write_checkpoint) == (JobState.CANCELLED, write_checkpoint)


@pytest.mark.parametrize("until", [None, TOMORROW, HOUR])
def test_a_remembered_proceed_is_used_up_by_the_next_suspension(until: datetime | timedelta | None) -> None:
    life = Life(LIMITS)
    life.row = replace(life.row, proceed_requested=True)
    assert life.attempt(Suspend(until)) == Decision(
        JobState.PROCEEDED, NOW, 0, 0, use_proceed=True, woken_by=WokenBy.PROCEED
    )
    assert life.attempt(Suspend(until)).state is JobState.SUSPENDED


@pytest.mark.parametrize("ending", [Raise(), Fail(), Shutdown(), LOST, Lapse(persisted=True, ever_reported=True)])
def test_a_remembered_proceed_survives_retries_shutdown_and_lapse(ending: Ending) -> None:
    life = Life(limits_of(scheduler_retry_count=1, max_retry_count=1))
    life.row = replace(life.row, proceed_requested=True)
    assert not life.attempt(ending).use_proceed
    assert life.attempt(Suspend()).state is JobState.PROCEEDED


# --- Two levels of retry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Raise(), Fail()])
def test_with_max_retry_count_2_and_scheduler_retries_off_a_job_is_attempted_exactly_three_times(
    ending: Ending,
) -> None:
    life = Life(limits_of(scheduler_retry_count=0, max_retry_count=2)).repeat_until_final(ending)
    assert (life.state, life.attempts) == (JobState.FAILED, 3)
    assert life.waits == [NOW, NOW, KEEP_PLACE]


def test_level_1_starts_afresh_after_each_enqueueing_retry() -> None:
    life = Life(limits_of(scheduler_retry_count=2, delays=(1, 2), max_retry_count=1)).repeat_until_final(Raise())
    assert life.waits == [After(1), After(2), NOW, After(1), After(2), KEEP_PLACE]


def test_failed_in_the_midst_of_level_1_goes_to_level_2_at_once() -> None:
    life = Life(limits_of(scheduler_retry_count=2, delays=(1, 2), max_retry_count=1)).run([Raise(), Fail()])
    assert (life.state, life.row.retry_number, life.row.scheduler_retries) == (JobState.RETRYING, 1, 0)


@pytest.mark.parametrize("proceed_requested", [False, True])
def test_both_counters_start_afresh_when_the_handler_suspends_the_job(*, proceed_requested: bool) -> None:
    decision = decide(replace(USED, proceed_requested=proceed_requested), Suspend(), LIMITS)
    assert (decision.retry_number, decision.scheduler_retries) == (0, 0)


def test_a_long_life_of_suspensions_does_not_use_up_the_retries() -> None:
    life = Life(limits_of(scheduler_retry_count=1, max_retry_count=1)).run([Raise(), Fail(), Suspend()] * 50)
    assert life.state is JobState.SUSPENDED


@pytest.mark.parametrize("ending", [Returned(), Cancel(), Fail(retry=False), UserCancel()])
def test_the_counters_of_an_ended_job_stay_to_be_read(ending: Ending) -> None:
    decision = decide(USED, ending, LIMITS)
    assert (decision.retry_number, decision.scheduler_retries) == (USED.retry_number, USED.scheduler_retries)


# --- Policies and time limits -----------------------------------------------------------------------------------------

LEFT = limits_of(scheduler_retry_count=9, max_retry_count=9)


def test_an_error_that_is_never_retried_fails_the_job_on_either_level() -> None:
    decision = decide(USED, Raise(retry=False), LEFT)
    assert (decision.state, decision.write_checkpoint) == (JobState.FAILED, False)


def test_a_task_s_own_function_chooses_the_delay_and_has_no_count() -> None:
    life = Life(limits_of(scheduler_retry_count=0)).run([Raise(delay_seconds=3.0), Raise(delay_seconds=0.0)] * 50)
    assert (life.state, life.waits[:2]) == (JobState.RETRYING, [After(3.0), NOW])
    assert (life.row.retry_number, life.row.scheduler_retries) == (0, 100)


def test_when_the_function_has_no_answer_its_retries_count_for_the_configured_policy() -> None:
    life = Life(limits_of(scheduler_retry_count=2, delays=(1, 2))).run([Raise(delay_seconds=9.0), Raise(), Raise()])
    assert (life.state, life.waits) == (JobState.FAILED, [After(9.0), After(2), KEEP_PLACE])


def test_failed_says_when_its_enqueueing_retry_is_due() -> None:
    decision = decide(FRESH, Fail(retry_after_seconds=30.0), LEFT)
    assert decision == Decision(JobState.RETRYING, After(30.0), retry_number=1, scheduler_retries=0)


def test_a_job_past_its_deadline_fails_at_once_whatever_retries_are_left() -> None:
    decision = decide(USED, Deadline(), LEFT)
    assert decision == Decision(
        JobState.FAILED, KEEP_PLACE, USED.retry_number, USED.scheduler_retries, write_checkpoint=False
    )


def test_a_cancel_request_wins_over_the_deadline() -> None:
    assert decide(replace(USED, cancel_requested=True), Deadline(), LEFT).state is JobState.CANCELLED


PROGRESSED = replace(USED, progressed=True)
RESETTING = replace(limits_of(scheduler_retry_count=2, delays=(1, 2), max_retry_count=9), progress_resets_retries=True)


def test_level_1_starts_afresh_once_a_new_checkpoint_was_persisted_since_the_last_raise() -> None:
    decision = decide(PROGRESSED, Raise(), RESETTING)
    assert (decision.due, decision.scheduler_retries, decision.retry_number) == (After(1), 1, USED.retry_number)


@pytest.mark.parametrize("ending", [Shutdown(), Lapse(persisted=True, ever_reported=False)])
def test_progress_of_an_attempt_that_ended_without_a_raise_counts_too(ending: Ending) -> None:
    assert decide(PROGRESSED, ending, RESETTING).scheduler_retries == 0
    assert decide(USED, ending, RESETTING).scheduler_retries == USED.scheduler_retries


@pytest.mark.parametrize("ending", [Raise(), Shutdown()])
def test_progress_resets_nothing_unless_the_task_wants_it(ending: Ending) -> None:
    limits = replace(RESETTING, progress_resets_retries=False)
    assert decide(PROGRESSED, ending, limits) == decide(USED, ending, limits)


# --- What wakes a suspended job ---------------------------------------------------------------------------------------


def test_a_suspended_job_is_woken_by_the_time_unless_somebody_is_first() -> None:
    assert decide(FRESH, Suspend(HOUR), LIMITS).woken_by is WokenBy.TIME
    assert decide(replace(FRESH, proceed_requested=True), Suspend(HOUR), LIMITS).woken_by is WokenBy.PROCEED


def test_a_sleep_uses_up_no_proceed_and_leaves_what_woke_the_job() -> None:
    decision = decide(replace(FRESH, proceed_requested=True), Suspend(HOUR, asleep=True), LIMITS)
    assert (decision.state, decision.use_proceed, decision.woken_by) == (JobState.SUSPENDED, False, None)


@pytest.mark.parametrize("ending", [Returned(), Fail(), Raise(), Shutdown(), LOST, Cancel(), Deadline()])
def test_what_woke_a_job_stays_through_retries_stops_and_lapses(ending: Ending) -> None:
    assert decide(replace(USED, proceed_requested=True), ending, LEFT).woken_by is None


def test_a_job_sleeps_only_while_it_is_suspended() -> None:
    assert decide(FRESH, Suspend(HOUR, asleep=True), LIMITS).asleep
    assert not decide(FRESH, Suspend(HOUR), LIMITS).asleep
