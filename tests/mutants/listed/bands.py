"""Claims from one band alone: none may hide the jobs of another."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["BANDS"]

_BANDS = "tests/worker/test_bands.py::"
_CLAIM = "tests/store/test_claim_band.py::"
_SQL = "store/queries/claim_band.sql"

BANDS = (
    Mutant(
        "a band is claimed from though there may be others",
        "a job of larger priority is overtaken when it is the first of its band",
        _SQL,
        "        and not exists (\n            select from {schema}.bands",
        "        and not exists (\n            select from (select from {schema}.bands limit 0) as none",
        (f"{_CLAIM}test_it_takes_nothing_and_tells_when_there_is_another_band_of_the_workers_queues",),
    ),
    Mutant(
        "a claim from one band by a worker of another life",
        "it gets jobs, and may hold others of the same numbers",
        _SQL,
        "\n                and timeline = {schema}.timeline()",
        "",
        (f"{_CLAIM}test_a_worker_that_is_not_registered_in_this_life_gets_nothing",),
    ),
    Mutant(
        "a claim from one band doesn't tell of locked rows",
        "a job that was locked for a moment waits for the next poll",
        _SQL,
        "select count(*) > (select count(*) from claimed) from (",
        "select false from (",
        (
            f"{_CLAIM}test_it_says_when_a_due_job_was_left_out_since_its_row_was_locked",
            f"{_BANDS}test_a_job_that_the_only_bands_claim_left_out_runs_as_soon_as_it_is_free",
        ),
    ),
    Mutant(
        "a claim from one band waits for locked rows",
        "one long transaction holds up every job behind it",
        _SQL,
        "for no key update skip locked",
        "for no key update",
        (f"{_CLAIM}test_it_says_when_a_due_job_was_left_out_since_its_row_was_locked",),
    ),
    Mutant(
        "nobody asks about bands that have come",
        "their jobs are never claimed by a worker that knew of one band only",
        "worker/claimer.py",
        "        if claims.other_bands:",
        "        if False:",
        (f"{_BANDS}test_the_first_job_of_another_band_runs_at_once",),
    ),
    Mutant(
        "bands of queues that aren't served count",
        "a worker claims from a queue of others",
        "worker/claimer.py",
        "if self._queues is None or band.queue in self._queues}",
        "}",
        (f"{_BANDS}test_only_a_band_that_is_served_alone_is_claimed_from_alone",),
    ),
)
