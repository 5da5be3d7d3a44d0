"""The table of moves: what it has, what it refuses, and what is stored of it."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from perdure.core.states import OPERATOR_TRANSITIONS, TRANSITIONS, JobState, WokenBy, check
from perdure.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping

# The table once more: each state, and where to it is left. By `failed` a waiting job leaves at its deadline.
LEAVES = """
    pending     enqueued running cancelled failed
    enqueued    running pending cancelled failed
    running     completed suspended proceeded retrying failed cancelled pending
    retrying    enqueued running cancelled failed
    suspended   enqueued running proceeded cancelled failed
    proceeded   enqueued running cancelled failed
    completed
    failed
    cancelled
"""
EXPECTED = {words[0]: set(words[1:]) for line in LEAVES.strip().splitlines() if (words := line.split())}
FINAL = {"completed", "failed", "cancelled"}


def reachable(start: JobState, table: Mapping[JobState, frozenset[JobState]]) -> set[JobState]:
    seen: set[JobState] = set()
    front = {start}
    while front:
        front = {after for before in front for after in table[before]} - seen
        seen |= front
    return seen


def test_the_table_is_the_specification_s() -> None:
    assert {str(before): {str(after) for after in targets} for before, targets in TRANSITIONS.items()} == EXPECTED


@pytest.mark.parametrize(("before", "after"), list(product(JobState, JobState)))
def test_a_move_that_the_table_lacks_raises_and_no_other(before: JobState, after: JobState) -> None:
    if after in EXPECTED[before]:
        check(before, after)
    else:
        with pytest.raises(IllegalTransition, match=rf"^a job can't go from {before} to {after};"):
            check(before, after)


@pytest.mark.parametrize(("before", "after"), list(product(JobState, JobState)))
def test_an_operator_s_retry_takes_any_final_state_to_pending_and_no_other(before: JobState, after: JobState) -> None:
    if before in FINAL and after == "pending":
        check(before, after, by_operator=True)
    else:
        with pytest.raises(IllegalTransition, match=rf"^an operator's retry can't go from {before} to {after};"):
            check(before, after, by_operator=True)


def test_the_message_lists_the_moves_there_are() -> None:
    with pytest.raises(IllegalTransition) as caught:
        check(JobState.RETRYING, JobState.COMPLETED)
    assert str(caught.value) == (
        "a job can't go from retrying to completed; from retrying it can go to: enqueued, running, failed, cancelled"
    )


def test_the_message_for_a_job_that_has_ended_says_what_takes_it_back() -> None:
    with pytest.raises(IllegalTransition) as caught:
        check(JobState.COMPLETED, JobState.PENDING)
    assert str(caught.value) == (
        "a job can't go from completed to pending; from completed it can go to: nowhere "
        "(it has ended: only an operator's retry takes it back)"
    )


@pytest.mark.parametrize("state", JobState)
def test_final_is_absorbing(state: JobState) -> None:
    assert state.is_final == (str(state) in FINAL)
    assert state.is_final == (not TRANSITIONS[state])
    assert (state in OPERATOR_TRANSITIONS) == state.is_final


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_every_state_that_is_not_final_can_be_reached_and_cancelled_and_can_still_complete(state: JobState) -> None:
    assert state in reachable(JobState.PENDING, TRANSITIONS)
    assert JobState.CANCELLED in TRANSITIONS[state]
    assert JobState.COMPLETED in reachable(state, TRANSITIONS)


@pytest.mark.parametrize("table", [TRANSITIONS, OPERATOR_TRANSITIONS])
def test_nobody_can_add_a_move(table: dict[JobState, frozenset[JobState]]) -> None:
    with pytest.raises(TypeError):
        table[JobState.COMPLETED] = frozenset({JobState.RUNNING})


def test_the_codes_are_those_that_databases_hold() -> None:
    assert {str(state): state.code for state in JobState} == {
        "pending": 0,
        "enqueued": 1,
        "running": 2,
        "retrying": 3,
        "suspended": 4,
        "proceeded": 5,
        "completed": 6,
        "failed": 7,
        "cancelled": 8,
    }


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_found_by_its_code_and_by_its_word(state: JobState) -> None:
    assert JobState.from_code(state.code) is state
    assert JobState(str(state)) is state
    assert JobState(state.value) is state


@pytest.mark.parametrize("code", [-1, 9, 32767])
def test_an_unknown_code_is_refused_by_name(code: int) -> None:
    with pytest.raises(
        ValueError, match=rf"no JobState has the code {code}; the codes are 0 \(pending\) to 8 \(cancelled\)"
    ):
        JobState.from_code(code)


def test_a_state_is_its_lower_case_word_wherever_it_is_shown() -> None:
    assert [f"{state}" for state in JobState] == [state.name.lower() for state in JobState]
    assert [state for state in JobState if state in {"pending", "failed"}] == [JobState.PENDING, JobState.FAILED]


def test_what_wakes_a_job_has_a_word_and_the_code_that_is_stored() -> None:
    assert {str(woken_by): woken_by.code for woken_by in WokenBy} == {"start": 0, "proceed": 1, "event": 2, "time": 3}
    assert [WokenBy.from_code(woken_by.code) for woken_by in WokenBy] == list(WokenBy)
    assert WokenBy("event") is WokenBy.EVENT


@pytest.mark.parametrize("code", [-1, 4])
def test_a_code_that_nothing_has_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=rf"no WokenBy has the code {code}; the codes are 0 \(start\) to 3 \(time\)"):
        WokenBy.from_code(code)
