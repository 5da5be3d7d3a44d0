"""The rules at an attempt's end: which state, which counter, which place in the line."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["RULES"]

_DECIDE = "tests/unit/test_decide.py::"
_FILE = "core/decide.py"
_RETRY = "core/retry.py"

RULES = (
    Mutant(
        "a cancel request beats a value",
        "work that is done is thrown away",
        _FILE,
        "    if isinstance(ending, Returned):",
        "    if isinstance(ending, Returned) and not snapshot.cancel_requested:",
        (f"{_DECIDE}test_a_value_returned_after_a_cancel_request_completes_the_job_all_the_same",),
    ),
    Mutant(
        "a cancel request is forgotten",
        "a cancelled job is begun again",
        _FILE,
        "    if snapshot.cancel_requested or isinstance(ending, Cancel | UserCancel):",
        "    if isinstance(ending, Cancel | UserCancel):",
        (f"{_DECIDE}test_any_other_end_after_a_cancel_request_cancels_the_job",),
    ),
    Mutant(
        "one scheduler retry more",
        "a job is attempted once more than allowed",
        _RETRY,
        "    if scheduler_retries >= policy.scheduler_retry_count:",
        "    if scheduler_retries > policy.scheduler_retry_count:",
        (f"{_DECIDE}test_with_the_default_settings_a_job_that_raises_is_attempted_six_times",),
    ),
    Mutant(
        "one enqueueing retry more",
        "a job is attempted once more than allowed",
        _RETRY,
        "    if retry_number >= policy.max_retry_count:",
        "    if retry_number > policy.max_retry_count:",
        (f"{_DECIDE}test_with_max_retry_count_2_and_scheduler_retries_off_a_job_is_attempted_exactly_three_times",),
    ),
    Mutant(
        "level 1 goes on after an enqueueing retry",
        "a job has fewer attempts than allowed",
        _RETRY,
        "    return Retry(delay_seconds, retry_number + 1, 0)",
        "    return Retry(delay_seconds, retry_number + 1, 1)",
        (f"{_DECIDE}test_level_1_starts_afresh_after_each_enqueueing_retry",),
    ),
    Mutant(
        "retries that never start afresh",
        "a long life of suspensions uses them up",
        _FILE,
        "        JobState.SUSPENDED, due, retry_number=0, scheduler_retries=0,",
        "        JobState.SUSPENDED, due, snapshot.retry_number, snapshot.scheduler_retries,",
        (f"{_DECIDE}test_both_counters_start_afresh_when_the_handler_suspends_the_job",),
    ),
    Mutant(
        "a shutdown loses its place",
        "a job that deploys interrupt is overtaken by all newer ones",
        _FILE,
        "            return Decision(JobState.PENDING, KEEP_PLACE, snapshot.retry_number, spent)",
        "            return Decision(JobState.PENDING, NOW, snapshot.retry_number, spent)",
        (f"{_DECIDE}test_shutdown_puts_the_job_back_at_its_old_place_with_its_checkpoint_and_spends_no_retry",),
    ),
    Mutant(
        "a lapse persists",
        "what the lost attempt had in memory, of which nobody knows",
        _FILE,
        "    return not isinstance(ending, Raise | Deadline | Lapse)",
        "    return not isinstance(ending, Raise | Deadline)",
        (f"{_DECIDE}test_a_lost_process_returns_the_job_to_its_old_place_and_the_last_persisted_execution_metadata",),
    ),
    Mutant(
        "a raise persists",
        "a retry goes on from what broke off in the middle",
        _FILE,
        "    return not isinstance(ending, Raise | Deadline | Lapse)",
        "    return not isinstance(ending, Deadline | Lapse)",
        (f"{_DECIDE}test_a_raise_is_a_scheduler_retry_and_drops_what_was_not_persisted",),
    ),
    Mutant(
        "a proceed that is never used up",
        "a job that was let go on once never waits again",
        _FILE,
        "JobState.PROCEEDED, NOW, retry_number=0, scheduler_retries=0, use_proceed=True,",
        "JobState.PROCEEDED, NOW, retry_number=0, scheduler_retries=0, use_proceed=False,",
        (
            "tests/worker/test_promises.py::test_a_remembered_proceed_survives_retries_and_is_used_up_by_the_next_suspension",
        ),
    ),
    Mutant(
        "a move that there isn't",
        "a final state isn't final",
        "core/states.py",
        "        JobState.FAILED: _NOWHERE,",
        "        JobState.FAILED: _CLAIMED,",
        ("tests/unit/test_states.py::test_a_move_that_the_table_lacks_raises_and_no_other",),
    ),
    Mutant(
        "what can't be read is tried at once",
        "jobs that wait for code hold up all others",
        "store/queries/defer.sql",
        "scheduled_at = clock_timestamp() + least(60, power(2, least(greatest(unreadable, 0), 6))) * interval '1 s',",
        "scheduled_at = clock_timestamp(),",
        ("tests/store/test_release.py::test_deferred_jobs_wait_at_growing_delays_of_a_minute_at_most",),
    ),
    Mutant(
        "a suspension that lasts by the worker's clock",
        "what is to go on in a moment waits for a day",
        _FILE,
        "            due = _after(duration.total_seconds())\n        case moment",
        "            due = At(datetime.now().astimezone() + duration)\n        case moment",
        ("tests/faults/test_clocks.py::test_workers_whose_clocks_are_days_off_do_all_in_time",),
        timeout_seconds=400.0,
    ),
    Mutant(
        "a duration that is added to the client's clock",
        "a job is due when its starter's wrong clock says so",
        "due.py",
        "            return None, value\n        case timedelta():",
        "            return datetime.now().astimezone() + value, None\n        case timedelta():",
        ("tests/faults/test_clocks.py::test_a_duration_is_added_to_the_databases_clock",),
    ),
    Mutant(
        "a sender that locks nothing where snapshots are kept",
        "its event wakes nobody: the job that was suspended since sleeps for ever",
        "store/migrations/001_jobs.sql",
        "        from jobs where id = target and task = task_name for no key update;",
        "        from jobs where id = target and task = task_name;",
        ("tests/store/test_wake_ups.py::test_a_sender_with_an_old_snapshot_is_refused_and_has_sent_nothing",),
    ),
)
