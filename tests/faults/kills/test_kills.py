"""Workers that are killed at every point where it could matter: nothing is lost, nothing is done twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.kills.checks import assert_all_is_well, everything_stored
from tests.faults.kills.workshop import POINTS, Victim, Workshop
from tests.support.tiers import TIER, seeds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)
_AT_ONCE = 8
_WAKES_BESIDE_THE_NEXT = (
    0.7  # how often a frozen worker wakes up while its jobs' next attempts run; else when all is over
)


def _rounds(action: str) -> list[tuple[int, list[str]]]:
    """Which points are tried together, each by a worker of its own, and with which seed.

    On a push every point is tried by a kill or by a freeze, as the run's seed has it; else by both, often.
    """
    rounds: list[tuple[int, list[str]]] = []
    for seed in seeds("points", push=1, nightly=12):
        points = random.Random(seed).sample(POINTS, len(POINTS))
        if TIER == "push":
            points = points[action == "kill" :: 2]
        rounds += [(seed + first, points[first : first + _AT_ONCE]) for first in range(0, len(points), _AT_ONCE)]
    return rounds


@pytest.mark.parametrize(("seed", "points"), _rounds("kill"))
async def test_workers_are_killed_and_all_goes_on(
    migrated_database: str, processes: Processes, seed: int, points: list[str]
) -> None:
    async with Workshop(migrated_database, processes, seed) as workshop:
        await workshop.feed()
        await workshop.until_hit([workshop.victim(point, "kill") for point in points])
        await workshop.finish()
        await assert_all_is_well(workshop)


@pytest.mark.parametrize(("seed", "points"), _rounds("stop"))
async def test_workers_are_frozen_for_longer_than_their_lease_and_change_nothing_when_they_wake_up(
    migrated_database: str, processes: Processes, tmp_path: Path, seed: int, points: list[str]
) -> None:
    async with Workshop(migrated_database, processes, seed) as workshop:
        await workshop.feed()
        victims = [workshop.victim(point, "stop") for point in points]
        await workshop.until_hit(victims)
        if random.Random(seed).random() < _WAKES_BESIDE_THE_NEXT:
            worker, ids = await workshop.worker_that_waits(tmp_path / "gate")
            await _wake_up(workshop, victims, ids)
            workshop.go_on(tmp_path / "gate")
            await workshop.until_all_have_ended()
            worker.terminate()
            assert await worker.end(within_seconds=90) == 0, worker.output
        else:
            await workshop.finish()
            # Nobody waits for those of workers that held nothing.
            await workshop.until(
                "not exists (select from workers where lapsed_at is null and lease_until > clock_timestamp())"
            )
            await _wake_up(workshop, victims, workshop.ids)
        await assert_all_is_well(workshop)


async def _wake_up(workshop: Workshop, victims: list[Victim], ids: list[int]) -> None:
    """Let those that were frozen go on and notice; nothing of these jobs may be another afterwards."""
    assert ids
    await workshop.remember_leases()
    before = await everything_stored(workshop, ids)
    for victim in victims:
        victim.process.thaw()
    await workshop.until_lapses_are_taken_back()
    for victim in victims:
        await workshop.leave(victim)
    assert await everything_stored(workshop, ids) == before
