"""Every statement that writes is tried without each of its conditions, or it says which other tests hold these."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from tests.store.guard_cases import WRITES
from tests.store.guard_checks import CHECKS

_COMMENT = re.compile(r"--.*")
# A function of the schema's own may write, but for the one that tells the time line.
_WRITING = re.compile(r"\b(?:insert into|update|delete from) \{schema\}|\{schema\}\.(?!timeline\()\w+\(")
_HELD_ELSEWHERE = {
    "claim": """what is taken, and what is said to be left out: test_claim.py: test_what_is_not_due_is_not_claimed,
        test_larger_priorities_run_first_then_due_time_then_id, test_queues_restrict_a_claim,
        test_a_job_that_changed_between_the_snapshot_and_the_lock_is_not_claimed,
        test_a_claim_says_when_a_due_job_was_left_out_since_its_row_was_locked,
        test_a_claim_begins_at_its_bands_floor; and, with claim_band: test_claim_band.py:
        test_what_it_is_not_to_take_it_neither_takes_nor_says_to_be_left_out,
        test_a_worker_that_is_not_registered_in_this_life_gets_nothing; test_claim_leases.py:
        test_nothing_is_claimed_under_a_lease_that""",
    "claim_band": """as claim: test_claim_band.py: test_it_takes_due_jobs_of_its_band_in_their_order,
        test_it_takes_nothing_and_tells_when_there_is_another_band_of_the_workers_queues,
        test_what_it_is_not_to_take_it_neither_takes_nor_says_to_be_left_out, test_it_begins_at_its_bands_floor,
        test_a_worker_that_is_not_registered_in_this_life_gets_nothing; test_claim_leases.py:
        test_nothing_is_claimed_under_a_lease_that""",
    "forget_workers": "test_leases.py: test_workers_are_listed_and_those_lapsed_long_ago_forgotten",
    "register_worker": """it has no condition; what it adds: test_leases.py:
        test_a_lease_lasts_from_its_registration_and_from_each_renewal""",
    "remove_worker": """test_leases.py:
        test_a_worker_that_leaves_is_forgotten_when_it_holds_nothing_and_else_kept_as_one_that_left,
        test_a_sweep_finds_every_holder_without_a_lease""",
    "send": """its conditions are its function's: test_send.py:
        test_an_event_reaches_its_job_alone_and_wakes_it_if_it_waits; what it locks: test_wake_ups.py:
        test_a_suspension_steps_over_the_job_of_an_open_sender_and_comes_again; whom it notifies:
        test_start_notifies.py: test_what_lets_a_job_go_on_notifies_as_a_start_does""",
    "start": """whether it adds a band, and whom it notifies: test_claim.py:
        test_each_queue_and_priority_gets_its_band_with_its_first_job; test_start_notifies.py:
        test_nobody_is_notified_while_only_workers_of_other_queues_sleep""",
    "sweep": """what it marks and cuts, and what it answers: test_leases.py:
        test_a_sweep_marks_only_leases_that_have_run_out,
        test_a_renewal_that_came_between_a_sweeps_snapshot_and_its_lock_keeps_its_lease,
        test_a_lease_that_lies_too_far_ahead_is_cut, test_a_sweep_finds_every_holder_without_a_lease,
        test_a_sweep_says_when_the_first_lease_of_another_ends, test_a_sweep_says_whether_a_suspect_is_due;
        test_deadlines.py: test_a_sweep_tells_of_deadlines_of_jobs_that_nobody_holds""",
}


def _writes() -> set[str]:
    files = resources.files("perdure.store").joinpath("queries").iterdir()
    return {
        file.name.removesuffix(".sql") for file in files if _WRITING.search(_COMMENT.sub("", file.read_text("utf-8")))
    }


def test_every_write_is_tried_without_its_conditions_or_excused() -> None:
    tried = {*WRITES, *CHECKS}
    assert sorted(tried & set(_HELD_ELSEWHERE)) == []  # no excuse for what is tried
    assert sorted(tried | set(_HELD_ELSEWHERE)) == sorted(_writes())


@pytest.mark.parametrize("write", _HELD_ELSEWHERE)
def test_what_an_excuse_names_is_there(write: str) -> None:
    files = re.findall(r"\btest_\w+\.py", _HELD_ELSEWHERE[write])
    code = "\n".join((Path(__file__).parent / file).read_text("utf-8") for file in files)
    named = re.findall(r"\btest_\w+\b(?!\.py)", _HELD_ELSEWHERE[write])
    assert named
    assert [name for name in named if f"\ndef {name}(" not in code] == []
