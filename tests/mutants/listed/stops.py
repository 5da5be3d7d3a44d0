"""The order of a stop, and what of it may be skipped."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["STOPS"]

_WORKER = "worker/worker.py"
_OUTCOMES = "tests/worker/test_outcomes.py::"
_PROMISES = "tests/worker/test_promises.py::"
_DEFECTS = "tests/acceptance/original_defects/test_original_defects_attempts.py::"
_PROCESSES = "tests/worker/test_processes.py::"
_EXITS = "tests/faults/operations/test_exits.py::"
_SILENCE = "tests/faults/network/test_silence.py::"

STOPS = (
    Mutant(
        "claims go on during a stop",
        "a stop takes up work, only to put it back",
        _WORKER,
        "        self.stopping = True\n        self.claimer.open = False",
        "        self.stopping = True",
        ("tests/worker/test_stopping.py::test_nothing_is_claimed_during_a_stop",),
    ),
    Mutant(
        "what is claimed during a stop is begun",
        "a stop begins what it has to end",
        _WORKER,
        "        if self.stopping:\n            self.executor.put_back(jobs)",
        "        if self.stopping and not jobs:\n            self.executor.put_back(jobs)",
        ("tests/worker/test_races.py::test_a_suspect_whose_claim_comes_while_the_worker_stops_is_put_back",),
    ),
    Mutant(
        "what was claimed ahead isn't put back by a stop",
        "it waits for the lease to end, or is begun during the stop",
        _WORKER,
        "        self.executor.put_back_stale(everything=True)\n",
        "",
        (f"{_PROMISES}test_what_was_claimed_ahead_goes_back_untouched_when_the_worker_stops",),
    ),
    Mutant(
        "others aren't told of what a stop puts back",
        "it waits for their next poll",
        "worker/lane.py",
        "self._owner.released(given)",
        'self._owner.released(answers.get("defer", []))',
        ("tests/worker/test_given_back.py::test_what_a_stop_puts_back_is_taken_at_once_by_another_worker",),
    ),
    Mutant(
        "handlers aren't stopped after the grace",
        "a stop waits for ever",
        _WORKER,
        "            self.executor.stop_all(StopReason.SHUTDOWN)\n",
        "",
        (f"{_OUTCOMES}test_shutdown_keeps_the_checkpoint_and_spends_nothing",),
    ),
    Mutant(
        "handlers are stopped before the grace",
        "what would have ended in time is begun again elsewhere",
        _WORKER,
        "timeout=self.shutdown_grace_seconds, return_when",
        "timeout=0, return_when",
        (f"{_PROMISES}test_a_handler_sees_that_its_worker_stops_and_may_end_within_the_grace",),
    ),
    Mutant(
        "the last outcomes aren't written",
        "all that ended during a stop is done again",
        _WORKER,
        "        await self._let_end()\n        await self._flush()\n",
        "        await self._let_end()\n",
        ("tests/worker/test_stopping.py::test_a_stop_waits_until_the_last_outcomes_are_written",),
    ),
    Mutant(
        "the last outcomes are written before the handlers have ended",
        "all that ended during a stop is done again",
        _WORKER,
        "        await self._let_end()\n        await self._flush()\n",
        "        await self._flush()\n        await self._let_end()\n",
        (f"{_OUTCOMES}test_shutdown_keeps_the_checkpoint_and_spends_nothing",),
    ),
    Mutant(
        "the lease is given back before the handlers have ended",
        "their outcomes are refused",
        _WORKER,
        "        await self._let_end()\n        await self._flush()\n",
        "        await asyncio.to_thread(self._heartbeat.stop)\n        await self._let_end()\n"
        "        await self._flush()\n",
        (f"{_OUTCOMES}test_shutdown_keeps_the_checkpoint_and_spends_nothing",),
    ),
    Mutant(
        "an exchange on its way isn't waited for",
        "the last outcomes are cut off, and done again",
        _WORKER,
        "        return under_way or bool(self.desk.ids()) or not self.desk.is_empty",
        "        return not self.desk.is_empty",
        (f"{_DEFECTS}test_defect_3_a_shutdown_during_the_final_write_throws_no_success_away",),
    ),
    Mutant(
        "a stop that couldn't write says nothing",
        "nobody knows that jobs go on elsewhere",
        _WORKER,
        "        if unwritten := len(self.desk.ids()) + self._dropped:",
        "        if unwritten := 0:",
        (f"{_PROMISES}test_a_stop_while_the_database_is_away_ends_with_0_and_says_what_could_not_be_written",),
    ),
    Mutant(
        "a stop gives up at the first connection error",
        "what ended while the database was away for a moment is done again",
        "worker/lane.py",
        "                self._lost(error)\n",
        "                self._lost(error)\n                if self._owner.is_draining:\n                    return\n",
        (f"{_EXITS}test_stopped_in_an_outage_that_ends_within_the_lease_it_has_written_all_and_says_nothing_of_it",),
    ),
    Mutant(
        "a hurried stop waits for the grace",
        "a second signal does nothing",
        _WORKER,
        "        self._skip_grace.set()\n",
        "        self._skip_grace.clear()\n",
        ("tests/worker/test_races.py::test_a_cancelled_stop_skips_the_grace_and_leaves_nothing_behind",),
    ),
    Mutant(
        "a cancelled stop leaves the rest of it",
        "a worker goes on in the background",
        _WORKER,
        "        await held(self._ending, on_cancel=self.hurry)",
        "        await asyncio.shield(self._ending)",
        ("tests/worker/test_races.py::test_a_cancelled_stop_skips_the_grace_and_leaves_nothing_behind",),
    ),
    Mutant(
        "a second signal is passed over",
        "it doesn't skip the grace",
        "worker/run.py",
        "            if self._worker is not None:\n                self._worker.hurry()\n",
        "",
        (f"{_PROCESSES}test_a_second_signal_skips_the_grace",),
    ),
    Mutant(
        "a process waits for whom it has left behind",
        "SIGTERM doesn't end it",
        "worker/run.py",
        "        if leaves_behind:\n",
        "        if not app:\n",
        (f"{_PROCESSES}test_a_handler_that_ignores_the_stop_is_left_behind_and_the_exit_is_zero",),
    ),
    Mutant(
        "a stop while the database isn't there yet is passed over",
        "SIGTERM doesn't end a process that is still starting",
        "worker/run.py",
        "        while not self._stop.is_set():",
        "        while self._stop:",
        (f"{_PROCESSES}test_sigterm_while_still_waiting_for_the_database_exits_zero",),
    ),
    Mutant(
        "others aren't told of what was given back",
        "it waits for their next poll",
        _WORKER,
        "        if self._gave_back:\n            await wake_others(self.app)\n",
        "",
        ("tests/worker/test_given_back.py::test_what_a_stop_gives_back_is_taken_at_once_by_another_worker",),
    ),
    Mutant(
        "whoever tells them waits for the answer for ever",
        "a stop hangs on one silent connection",
        "worker/borrowing.py",
        "            with cut_after(connection, _WAKE_SECONDS):",
        "            with contextlib.nullcontext():",
        (f"{_SILENCE}test_a_stop_waits_but_a_moment_for_a_silent_connection_over_which_it_would_wake_others",),
    ),
    Mutant(
        "the check of the schema waits for its answer for ever",
        "a worker's start hangs on one silent connection",
        "worker/borrowing.py",
        "            with cut_after(connection, _CHECK_SECONDS):",
        "            with contextlib.nullcontext():",
        (f"{_SILENCE}test_a_connection_that_is_silent_while_the_schema_is_checked_keeps_no_worker_from_its_start",),
    ),
)
