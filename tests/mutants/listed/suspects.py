"""What a refused commit, a lapse and a refusal of the server's say of a job: not more than they know."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["SUSPECTS"]

_RACES = "tests/worker/test_races.py::"

SUSPECTS = (
    Mutant(
        "an old snapshot's refusal gives the job back",
        "a block that outlasts its lease in another isolation is done again for ever, at once, and no retry is spent",
        "store/migrations/001_jobs.sql",
        "case when current_setting('transaction_isolation') like 'read %' then 'PD001' else 'PD002' end",
        "'PD001'",
        (f"{_RACES}test_a_commit_whose_isolation_sees_an_old_lease_is_a_raise_like_any_other",),
    ),
    Mutant(
        "whatever comes after a refused commit gives the job back",
        "a handler that catches LeaseLost and fails is run again for ever, at once, and no retry is spent",
        "worker/endings.py",
        "    return attempt.refused is not None and any(leaf is attempt.refused for leaf in _leaves(error))",
        "    return attempt.refused is not None",
        (f"{_RACES}test_an_attempt_is_given_back_by_what_its_refused_commit_has_raised_and_by_nothing_else",),
    ),
    Mutant(
        "a refused commit in a task group is a raise",
        "a job fails, without any fault of its own",
        "worker/endings.py",
        "any(leaf is attempt.refused for leaf in _leaves(error))",
        "error is attempt.refused",
        (f"{_RACES}test_an_attempt_is_given_back_by_what_its_refused_commit_has_raised_and_by_nothing_else",),
    ),
)
