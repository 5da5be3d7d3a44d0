"""Looks everywhere: as often as is needed, no oftener, and none that was asked for is lost."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

__all__ = ["LOOKS"]

_FLOORS = "tests/unit/test_floors.py::"
_LOOKS = "tests/worker/test_looks_everywhere.py::"
_REPORTING = "tests/worker/test_reporting.py::"
_TOOK_ALL = (
    "        if self._looks_everywhere and len(claims.jobs) < want and not (claims.left_out or claims.other_bands):"
)

LOOKS = (
    Mutant(
        "after a lost answer a dear look is the only one",
        "what lands after it is stuck for minutes",
        "worker/strays.py",
        "most=suspicious_seconds, share",
        "most=_LONGEST_SLEEP_SECONDS, share",
        (
            "tests/worker/test_strays.py::test_when_a_lost_answer_cant_land_any_more_it_is_looked_once_again_whatever_that_costs",
        ),
    ),
    Mutant(
        "a look that has found nothing due tells nothing",
        "each poll of an idle worker steps over all that is dead in its bands, on both lanes",
        "worker/lane.py",
        _TOOK_ALL,
        _TOOK_ALL.replace("if ", "if claims.jobs and "),
        (f"{_LOOKS}test_a_worker_that_has_claimed_nothing_begins_at_the_front_only_when_it_looks_everywhere",),
    ),
    Mutant(
        "a claim that took nothing since there is another band is taken for one that found nothing",
        "that band's jobs are passed by",
        "worker/lane.py",
        _TOOK_ALL,
        _TOOK_ALL.replace("(claims.left_out or claims.other_bands)", "claims.left_out"),
        (f"{_LOOKS}test_a_claim_that_took_nothing_since_there_is_another_band_has_not_brought_all_that_was_due",),
    ),
    Mutant(
        "no allowance for commits that were on their way when all was looked at",
        "the first job of a band waits for the next look everywhere",
        "worker/floors.py",
        "asked_at_seconds - _BACK_SECONDS",
        "asked_at_seconds",
        (f"{_FLOORS}test_bands_of_which_nothing_was_claimed_begin_where_all_was_taken_by_then",),
    ),
    Mutant(
        "a claim doesn't tell when it was made",
        "a worker that has claimed nothing looks at the end of time, or fails",
        "store/sql.py",
        "extract(epoch from statement_timestamp())::float8",
        "extract(epoch from statement_timestamp() + interval '1 d')::float8",
        ("tests/store/test_claim.py::test_a_claim_tells_when_it_was_made_by_the_databases_clock",),
    ),
    Mutant(
        "what is asked for while it looks everywhere",
        "what was put back behind a look under way waits for a minute",
        "worker/floors.py",
        "        if self._is_asked_for:\n            return\n",
        "",
        (
            f"{_FLOORS}test_what_is_put_back_while_it_looks_everywhere_is_looked_for_as_soon_as_that_is_over",
            f"{_LOOKS}test_what_is_put_back_behind_a_look_everywhere_under_way_is_found_at_once",
        ),
    ),
    Mutant(
        "looks of a lost lease count under the new one",
        "its first look comes a minute late",
        "worker/lane.py",
        "            self._floors.looked_everywhere(",
        "            self._claimer.floors.looked_everywhere(",
        (f"{_LOOKS}test_what_a_lost_lease_has_looked_at_tells_nothing_under_the_new_one",),
    ),
    Mutant(
        "what a worker that is back has rescued isn't looked for",
        "its own jobs wait for a minute, behind where its claims begin",
        "worker/reporting.py",
        "        worker.claimer.look_everywhere()  # they are",
        "        # they are",
        (
            f"{_REPORTING}test_what_a_worker_that_is_back_has_rescued_is_found_though_its_claims_have_passed_its_place_by",
        ),
    ),
    Mutant(
        "each claim that leaves a locked job out orders a look of its own",
        "an idle worker claims a hundred times a second for as long as the row is locked",
        "worker/looks.py",
        "_sooner(self._left_out, due",
        "_sooner(None, due",
        ("tests/worker/test_looks.py::test_claims_that_leave_a_locked_job_out_order_one_look_however_many_they_are",),
    ),
)
