"""What a worker reports that lost its lease: no lapse counts for it, and nothing else is taken for lost."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

__all__ = ["REPORTS"]

_REPORTING = "tests/worker/test_reporting.py::"

REPORTS = (
    Mutant(
        "an outcome that came too late is forgotten",
        "its lapse stays counted, though the worker is alive",
        "worker/inquiry.py",
        "        desk.settled([entry])\n        _see_to_blame(desk, worker_id, row)\n",
        "        desk.settled([entry])\n",
        (f"{_REPORTING}test_a_worker_that_is_back_takes_back_what_was_counted_for_an_outcome_that_came_too_late",),
    ),
    Mutant(
        "what was given back too late is forgotten",
        "its lapse stays counted, though the worker is alive",
        "worker/inquiry.py",
        "        desk.returned([entry])\n        _see_to_blame(desk, worker_id, row)\n",
        "        desk.returned([entry])\n",
        (f"{_REPORTING}test_a_job_that_was_given_back_too_late_is_remembered_for_the_report",),
    ),
    Mutant(
        "all that came too late is remembered",
        "a worker whose connections break grows, as long as it keeps its lease",
        "worker/inquiry.py",
        "    if row is not None and row.lapsed_worker_id == worker_id:",
        "    if row is not None:",
        (f"{_REPORTING}test_what_came_too_late_and_is_blamed_on_nobody_is_forgotten",),
    ),
    Mutant(
        "a report ends the present lease",
        "what its worker runs is begun elsewhere",
        "worker/reporting.py",
        "for lost in worker.lost if lost != worker_id)",
        "for lost in worker.lost)",
        (f"{_REPORTING}test_an_attempt_that_takes_a_lease_for_lost_that_is_kept_has_no_report_end_it",),
    ),
    Mutant(
        "an attempt that knows of a loss first and isn't reported",
        "its lapse counts, though its worker is alive",
        "worker/executor.py",
        "                self._owner.lost[attempt.worker_id].append(attempt.job.id)",
        "                pass",
        (
            f"{_REPORTING}test_a_worker_that_is_back_takes_back_what_was_counted_for_an_attempt_that_knew_of_the_loss_before_it",
        ),
    ),
    Mutant(
        "a claim that is read too late and isn't reported",
        "its lapse counts, though its worker is alive",
        "worker/worker.py",
        "            self.lost[worker_id] += [job.id for job in jobs]\n",
        "",
        (f"{_REPORTING}test_a_worker_that_is_back_takes_back_what_was_counted_for_a_claim_whose_answer_came_too_late",),
    ),
    Mutant(
        "a worker that reports again counts its own lapse",
        "a network that was away for a minute fails jobs",
        "worker/reporting.py",
        "functools.partial(rescue_own, ever_reported=True, seldom=Seldom())",
        "functools.partial(rescue_own, ever_reported=False, seldom=Seldom())",
        (f"{_REPORTING}test_a_worker_that_is_back_blames_none_of_the_jobs_that_it_had_lost",),
        # Either does: its row says that it has left, too.
        more=(
            Edit(
                "worker/reporting.py",
                "        await _on_lane(worker, functools.partial(calls.run, call=leases.remove(names, lost)))\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a worker that reports again forgives nothing",
        "lapses that others counted meanwhile stay, though it is alive",
        "worker/reporting.py",
        "        if ids:\n",
        "        if ids and not ids:\n",
        (f"{_REPORTING}test_a_worker_that_is_back_takes_back_what_others_have_counted_meanwhile",),
    ),
    Mutant(
        "a job that is locked isn't forgiven",
        "a lapse stays counted that was none, since the worker's own next claim locks the job for a moment",
        "worker/reporting.py",
        "        if not await _on_lane(worker, functools.partial(calls.run, call=forgive)):\n            return\n",
        "        await _on_lane(worker, functools.partial(calls.run, call=forgive))\n        return\n",
        (f"{_REPORTING}test_a_job_that_is_locked_when_its_worker_reports_again_is_forgiven",),
    ),
)
