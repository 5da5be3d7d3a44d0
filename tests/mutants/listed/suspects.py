"""What a refused commit, a lapse and a refusal of the server's say of a job: not more than they know."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["SUSPECTS"]

_RACES = "tests/worker/test_races.py::"
_REFUSED = "tests/worker/test_refused_commits.py::"
_SLOTS = "tests/worker/test_slots.py::"

SUSPECTS = (
    Mutant(
        "an old snapshot's refusal gives the job back",
        "a block that outlasts its lease in another isolation is done again for ever, at once, and no retry is spent",
        "store/migrations/001_jobs.sql",
        "case when current_setting('transaction_isolation') like 'read %' then 'PD001' else 'PD002' end",
        "'PD001'",
        (f"{_REFUSED}test_a_commit_whose_isolation_sees_an_old_lease_is_a_raise_like_any_other",),
    ),
    Mutant(
        "whatever comes after a refused commit gives the job back",
        "a handler that catches LeaseLost and fails is run again for ever, at once, and no retry is spent",
        "worker/endings.py",
        "    return attempt.refused is not None and any(leaf is attempt.refused for leaf in _leaves(error))",
        "    return attempt.refused is not None",
        (f"{_REFUSED}test_an_attempt_is_given_back_by_what_its_refused_commit_has_raised_and_by_nothing_else",),
    ),
    Mutant(
        "a refused commit in a task group is a raise",
        "a job fails, without any fault of its own",
        "worker/endings.py",
        "any(leaf is attempt.refused for leaf in _leaves(error))",
        "error is attempt.refused",
        (f"{_REFUSED}test_an_attempt_is_given_back_by_what_its_refused_commit_has_raised_and_by_nothing_else",),
    ),
    Mutant(
        "a full queue of notifications is a refusal",
        "completed jobs fail, or are run again, since some listener doesn't come out of its transaction",
        "store/refusals.py",
        " and not is_full_queue(error)",
        "",
        ("tests/worker/test_refusals.py::test_a_full_queue_of_notifications_fails_no_job",),
    ),
    Mutant(
        "no room is made in the queue of notifications",
        "it stays full when everybody has read it, and no outcome that is waited for is stored any more",
        "worker/poison.py",
        "    if connection is not None and is_full_queue(error):",
        "    if False:",
        ("tests/worker/test_refusals.py::test_a_full_queue_of_notifications_fails_no_job",),
    ),
    Mutant(
        "a refusal of an exchange's end is left on the connection",
        "the next exchange is given the answers of this one",
        "store/direct.py",
        "        refused = yield from _fetch_end(pgconn)",
        "        yield from generators.fetch_many(pgconn)",
        ("tests/store/test_direct.py::test_a_refusal_of_the_transactions_end_is_raised_and_nothing_is_left_of_it",),
    ),
    Mutant(
        "a modification of a sleeping job",
        "its sleep isn't known again: each attempt raises, until the job has failed",
        "store/queries/lock.sql",
        "state = 4 and not asleep or",
        "state = 4 or",
        (
            "tests/acceptance/test_client_proceed.py::test_a_modification_of_a_sleeping_job_is_not_suspended_and_changes_nothing",
        ),
    ),
    Mutant(
        "proceed that modifies a sleeping job",
        "its sleep isn't known again: each attempt raises, until the job has failed",
        "store/queries/proceed.sql",
        "found.state = 4 and not found.asleep\n",
        "found.state = 4\n",
        ("tests/store/test_guards.py::test_a_write_is_guarded[proceed: a modification of a sleeping job]",),
    ),
    Mutant(
        "a suspect that waits for a slot isn't counted",
        "suspects are hoarded, behind whatever this worker is busy with",
        "worker/slots.py",
        "return self._suspect is not None or any(self._is_suspect(job) for job in ahead)",
        "return self._suspect is not None",
        (f"{_SLOTS}test_a_suspect_that_waits_for_a_slot_leaves_no_room_for_another",),
    ),
    Mutant(
        "suspects that have waited begin together",
        "a poison job takes another suspect along",
        "worker/slots.py",
        "        if self._suspect is not None and job.lapses and self._is_suspect(job):",
        "        if False:",
        (
            f"{_SLOTS}test_suspects_begin_one_by_one_and_nothing_else_waits_for_them",
            f"{_RACES}test_suspects_for_which_no_thread_is_free_run_one_at_a_time_when_one_is",
        ),
    ),
    Mutant(
        "the end of a suspect isn't noticed",
        "no other suspect ever runs in this process",
        "worker/slots.py",
        "        if self._suspect is attempt:\n            self._suspect = None",
        "        pass",
        (f"{_SLOTS}test_suspects_begin_one_by_one_and_nothing_else_waits_for_them",),
    ),
)
