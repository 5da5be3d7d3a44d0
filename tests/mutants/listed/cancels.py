"""Cancel requests: the rows say which jobs are meant, and each is told soon."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["CANCELS"]

_CANCELS = "worker/cancels.py"
_TESTS = "tests/worker/test_cancels.py::"

CANCELS = (
    Mutant(
        "a rescue that forgets a cancel",
        "a job whose cancel was answered is begun again",
        "core/decide.py",
        "    if snapshot.cancel_requested or isinstance(",
        "    if snapshot.cancel_requested and not isinstance(ending, Lapse) or isinstance(",
        ("tests/faults/kills/test_cancels.py::test_what_was_cancelled_ends_and_is_never_begun_again",),
        more=(Edit("store/queries/release.sql", "        and not cancel_requested\n", ""),),
    ),
    Mutant(
        "a notification of a cancel is believed",
        "whoever may connect can cancel jobs",
        "worker/worker.py",
        "        self._cancels.poke()  # whatever it says: anybody may notify anything\n",
        "        for attempt in [found for found in self.executor.running.values() if str(found.job.id) == _payload]:\n"
        "            self.executor.cancel(attempt.job.id, attempt.job.claim)\n",
        (f"{_TESTS}test_whoever_has_no_rights_cancels_nothing_by_a_notification",),
    ),
    Mutant(
        "a notification of a cancel isn't heeded",
        "a cancel is told up to a second later",
        "worker/worker.py",
        "        self._cancels.poke()  # whatever it says: anybody may notify anything\n",
        "        return\n",
        (f"{_TESTS}test_a_cancel_that_is_notified_waits_for_no_look_of_its_own_time",),
    ),
    Mutant(
        "a cancel of an earlier claim",
        "it cancels an attempt of which nobody has asked it",
        "worker/executor.py",
        "        if attempt is not None and attempt.job.claim == claim:\n",
        "        if attempt is not None:\n",
        (f"{_TESTS}test_a_cancel_of_an_earlier_claim_cancels_no_later_one",),
    ),
    Mutant(
        "a cancel of an earlier claim takes what was claimed ahead",
        "it cancels a job of which nobody has asked it",
        "worker/ahead.py",
        "(waiting.job.id, waiting.job.claim, waiting.worker_id) == (job_id, claim, worker_id)",
        "(waiting.job.id, waiting.worker_id) == (job_id, worker_id)",
        (f"{_TESTS}test_a_cancel_of_an_earlier_claim_takes_no_later_one_from_what_was_claimed_ahead",),
    ),
    Mutant(
        "looks for cancels without a rest",
        "who floods a worker with notifications floods the database with its looks",
        _CANCELS,
        "        await asyncio.sleep(_REST_SECONDS)\n",
        "",
        (f"{_TESTS}test_a_flood_of_false_notifications_shares_a_few_looks",),
    ),
    Mutant(
        "a cancel whose notification was lost",
        "it is never noticed",
        _CANCELS,
        "_EVERY_SECONDS = 0.8 ",
        "_EVERY_SECONDS = 3600.0 ",
        ("tests/worker/test_stopping.py::test_a_cancel_is_noticed_without_notifications_too",),
    ),
    Mutant(
        "looks for cancels now and then",
        "without notifications a cancel takes longer than a second",
        _CANCELS,
        "_EVERY_SECONDS = 0.8 ",
        "_EVERY_SECONDS = 1.5 ",
        (f"{_TESTS}test_without_notifications_cancels_are_told_within_a_second",),
    ),
    Mutant(
        "an idle worker looks for cancels",
        "who has nothing to do asks the database more often than anybody else",
        _CANCELS,
        "not (self._owner.may_hold_jobs or self._is_due)",
        "not self._owner.names",
        (f"{_TESTS}test_who_has_nothing_in_hand_doesnt_look",),
    ),
    Mutant(
        "a look for cancels that fails isn't made again",
        "a worker that is idle by then tells for a minute that the database refuses to work",
        _CANCELS,
        "        self._is_due = True  # one",
        "        self._is_due = False  # one",
        (f"{_TESTS}test_a_look_that_fails_is_made_again_though_nothing_is_in_hand_any_more",),
    ),
    Mutant(
        "a cancel that came before its claim's answer",
        "it is told much later",
        _CANCELS,
        "_AGAIN_SECONDS if self._awaits_any_of(found) else _EVERY_SECONDS",
        "_EVERY_SECONDS if self._awaits_any_of(found) else _EVERY_SECONDS",
        (f"{_TESTS}test_a_cancel_that_comes_before_the_claims_answer_is_told_soon_after_it[running]",),
    ),
    Mutant(
        "a job that never comes is looked for without end",
        "ten statements a second, for as long as a stray isn't let go",
        _CANCELS,
        "any(times <= _MOST_TIMES_AGAIN for times",
        "any(times > 0 for times",
        (f"{_TESTS}test_a_job_that_never_comes_isnt_looked_for_all_the_time",),
    ),
)
