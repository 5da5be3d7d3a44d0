"""A handler that is stopped and raises something else as it unwinds."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["UNWINDING"]

_UNWINDING = "tests/worker/test_unwinding.py::"

UNWINDING = (
    Mutant(
        "an error in a stop's unwinding is a raise",
        "a deploy spends a retry, or fails the job",
        "worker/executor.py",
        "_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.TIMEOUT, StopReason.DEADLINE})",
        "_DECIDES = frozenset({StopReason.TIMEOUT, StopReason.DEADLINE})",
        (f"{_UNWINDING}test_a_stop_spends_no_retry_and_keeps_what_was_persisted",),
    ),
    Mutant(
        "an error in a time-out's unwinding is a raise",
        "no_retry_on=JobTimeout has no effect",
        "worker/executor.py",
        "_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.TIMEOUT, StopReason.DEADLINE})",
        "_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.DEADLINE})",
        (f"{_UNWINDING}test_a_time_out_stays_one",),
    ),
    Mutant(
        "an error in a deadline's unwinding is a raise",
        "a job past its deadline fails with something else",
        "worker/executor.py",
        "_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.TIMEOUT, StopReason.DEADLINE})",
        "_DECIDES = frozenset({StopReason.SHUTDOWN, StopReason.TIMEOUT})",
        (f"{_UNWINDING}test_a_deadline_stays_one",),
    ),
    Mutant(
        "what a handler held when it failed to unwind is its checkpoint",
        "a half-changed execution metadata is what the job goes on from",
        "worker/executor.py",
        "verdict = rules.stopped(attempt, reason, error, keep_checkpoint=False)",
        "verdict = rules.stopped(attempt, reason, error, keep_checkpoint=True)",
        (f"{_UNWINDING}test_a_stop_spends_no_retry_and_keeps_what_was_persisted",),
    ),
    Mutant(
        "a group of cancellations is no cancellation",
        "a stopped task group loses what it has done",
        "worker/endings.py",
        "return all(isinstance(leaf, asyncio.CancelledError) for leaf in _leaves(error))",
        "return isinstance(error, asyncio.CancelledError)",
        (f"{_UNWINDING}test_a_group_of_nothing_but_cancellations_is_one",),
    ),
    Mutant(
        "a worker works twice",
        "it looks ready, takes nothing, and leaves its lease behind",
        "worker/worker.py",
        "        if self._begun:\n",
        "        if False:\n",
        ("tests/worker/test_stopping.py::test_a_worker_works_once",),
    ),
    Mutant(
        "what has ended by what is known isn't looked at",
        "who waits for a job that was retried is given its old end",
        "job.py",
        "            row = await self._source.read_ended(self.id, seconds, may_appear=not self._is_certain)\n",
        "            row = await self._source.read_ended(self.id, seconds, may_appear=not self._is_certain) "
        "if not self.state.is_final else self._row\n",
        ("tests/acceptance/test_client_retry.py::test_who_waits_for_a_job_that_was_retried_waits_for_its_new_end",),
    ),
)
