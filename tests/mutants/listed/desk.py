"""What waits at the desk: how much of it goes into one exchange, what goes first, what is lost with a lease."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["DESK"]

_DESK = "tests/worker/test_desk.py::"
_REPORTING = "tests/worker/test_reporting.py::"
_LARGE = "tests/worker/test_large_results.py::"
_HELD = "test_a_worker_claims_nothing_while_more_outcomes_wait_than_the_next_exchange_can_write"
_PILE = "test_large_results_hold_up_no_checkpoint_and_do_not_pile_up"

DESK = (
    Mutant(
        "errors that take no room in a batch",
        "a batch of large ones is more than PostgreSQL takes for a message, and breaks its connection each time",
        "worker/batch.py",
        "            if entry.error is not None:\n                size += len(entry.error)\n",
        "",
        (f"{_DESK}test_a_batch_is_as_large_as_all_that_its_outcomes_carry",),
    ),
    Mutant(
        "outcomes leave no room for checkpoints",
        "large results of others hold up persist() for longer than a lease",
        "worker/desk.py",
        "        if self._persists:  # first: somebody waits for them\n",
        "        if self._persists and not self.waiting_outcomes:\n",
        (f"{_DESK}test_every_kind_has_a_share_of_a_batch_however_large_the_others_are", f"{_LARGE}{_PILE}"),
    ),
    Mutant(
        "checkpoints leave no room for outcomes",
        "jobs that store large checkpoints all the time hold up what others have done",
        "worker/desk.py",
        "            share = room // (1 + bool(self.releases) + bool(self.finishes))\n",
        "            share = room\n",
        (f"{_DESK}test_every_kind_has_a_share_of_a_batch_however_large_the_others_are",),
    ),
    Mutant(
        "claims while large outcomes wait",
        "the desk grows as long as there are due jobs, and the process with it",
        "worker/claimer.py",
        " or unwritten * self._outcome_bytes > BATCH_BYTES:",
        ":",
        (f"{_LARGE}{_HELD}",),
    ),
    Mutant(
        "the claimer doesn't know of outcomes that wait",
        "the same",
        "worker/lane.py",
        "claimer.want(owner.in_hand, unwritten=desk.waiting_outcomes)",
        "claimer.want(owner.in_hand)",
        (f"{_LARGE}{_PILE}",),
    ),
    Mutant(
        "jobs with large results are claimed ahead as others are",
        "a thousand of them end at once, and wait in memory",
        "worker/claimer.py",
        "min(self._batch_size, BATCH_BYTES / max(self._outcome_bytes, 1.0))",
        "self._batch_size",
        (f"{_LARGE}{_HELD}",),
    ),
    Mutant(
        "outcomes that wait take no slots",
        "claims that are larger than an exchange fill the desk without end",
        "worker/claimer.py",
        "self._room(in_hand + unwritten)",
        "self._room(in_hand)",
        (f"{_LARGE}test_outcomes_that_wait_take_slots_when_they_are_small",),
    ),
    Mutant(
        "jobs' questions go before looks",
        "as long as handlers ask, no worker's loss is found, no stray and no queue",
        "worker/desk.py",
        "not self.is_looking and not (self._errands and self._looked_last)",
        "not self.is_looking and not self._errands",
        (
            "tests/worker/test_questions.py::test_questions_that_never_end_hold_up_no_rescue",
            f"{_DESK}test_of_looks_that_may_take_long_one_is_under_way_at_a_time",
        ),
    ),
    Mutant(
        "looks go before jobs' questions, always",
        "while they are refused, and made again, nobody is answered",
        "worker/desk.py",
        "not self.is_looking and not (self._errands and self._looked_last)",
        "not self.is_looking",
        (f"{_DESK}test_looks_and_questions_go_by_turns",),
    ),
    Mutant(
        "jobs whose outcome was on its way aren't among what was lost with a lease",
        "the lapse of a worker that is back is counted against them",
        "worker/worker.py",
        "[*unwritten, *self.executor.lose_lease(worker_id)]",
        "self.executor.lose_lease(worker_id)",
        (f"{_REPORTING}test_a_worker_that_is_back_takes_back_what_was_counted_for_jobs_whose_outcome_was_on_its_way",),
    ),
)
