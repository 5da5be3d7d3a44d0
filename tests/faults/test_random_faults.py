"""Faults at random under load: workers killed, frozen, stopped, replaced; backends terminated; all of it mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perdure import JobState
from tests.support.scenario import faults
from tests.support.tiers import seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.history import History
    from tests.support.history.values import Move
    from tests.support.scenario import Scenario

pytestmark = pytest.mark.timeout(300)


def _unanswered(history: History) -> list[str]:
    """Find calls without an answer: where only workers suffer, clients must notice nothing at all."""
    return [f"{call.verb} of {call.keys or call.jobs}" for call in history.calls if call.answer is None]


def _rescues(history: History) -> int:
    return sum(move.is_rescue for moves in history.moves.values() for move in moves)


def _given_back(history: History) -> int:
    """Count the attempts that a stopped worker has stopped, and whose jobs wait for another one since."""
    return sum(_is_given_back(history, move) for moves in history.moves.values() for move in moves)


def _is_given_back(history: History, move: Move) -> bool:
    before, after = move
    if before is None or after is None or move.states != (JobState.RUNNING, JobState.PENDING) or move.is_rescue:
        return False
    ended = history.ended.get((before.job, before.attempt), [])
    was_stopped = bool(ended) and ended[-1].how == "stopped"
    return was_stopped and "SIGTERM" in history.suffered(history.pid_of.get(before.worker or ""), after.at)


def _count(history: History, kind: str) -> int:
    """Count what was done; at its end a scenario sends SIGTERM to its three workers."""
    return sum(fault.kind == kind for fault in history.faults)


async def _stop_one_at_work(struck: Scenario) -> None:
    """Stop a worker that has jobs; some outlast every grace."""
    await struck.clients[0].start(8, acts=["work"] * 15, threaded=False)
    await faults.stop_a_holder(struck)


async def test_nothing_is_broken_where_nothing_is_done(new_scenario: Callable[..., Scenario]) -> None:
    """What the others show is the faults' doing, not the load's."""
    history = await new_scenario(1).must_hold()
    states = {state for moves in history.moves.values() for move in moves for state in move.states}
    assert _unanswered(history) == []
    assert states >= set(JobState) - {JobState.ENQUEUED}  # the load leads into all that there are


@pytest.mark.parametrize("seed", seeds("random kills", push=1, nightly=40))
async def test_random_kills_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    history = await new_scenario(seed).must_hold(faults.kill_workers, first=faults.kill_a_holder)
    assert _count(history, "SIGKILL") > 0
    assert _rescues(history) > 0
    assert _unanswered(history) == []


@pytest.mark.parametrize("seed", seeds("terminated backends", push=1, nightly=30))
async def test_terminated_backends_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    """Of each kind, once for certain: a name that nobody has any more would make this a test of nothing."""
    history = await new_scenario(seed).must_hold(faults.terminate_backends, first=faults.terminate_each)
    assert faults.terminated(history.faults) >= len(faults.WORKERS)


@pytest.mark.parametrize("seed", seeds("frozen workers", push=1, nightly=15))
async def test_frozen_workers_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    history = await new_scenario(seed).must_hold(faults.freeze_workers, first=faults.outlast_a_lease)
    assert _rescues(history) > 0
    assert _unanswered(history) == []


@pytest.mark.parametrize("seed", seeds("stops", push=1, nightly=10))
async def test_stops_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    history = await new_scenario(seed).must_hold(faults.stop_workers, first=_stop_one_at_work)
    assert _count(history, "SIGTERM") > 3
    assert _given_back(history) > 0
    assert _unanswered(history) == []


@pytest.mark.parametrize("seed", seeds("rolling restarts", push=1, nightly=10))
async def test_rolling_restarts_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    history = await new_scenario(seed).must_hold(faults.roll, first=_stop_one_at_work)
    assert _count(history, "SIGTERM") > 3
    assert _given_back(history) > 0
    assert _unanswered(history) == []


@pytest.mark.parametrize("seed", seeds("mixtures", push=1, nightly=45))
async def test_mixtures_break_nothing(new_scenario: Callable[..., Scenario], seed: int) -> None:
    history = await new_scenario(seed).must_hold(faults.do_anything, first=faults.do_each)
    assert _count(history, "SIGKILL") > 0
    assert _count(history, "SIGTERM") > 3
    assert _given_back(history) > 0
    assert _rescues(history) > 0
    assert faults.terminated(history.faults) >= len(faults.WORKERS)
