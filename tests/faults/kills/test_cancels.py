"""A cancel that was answered holds, whatever becomes of the worker that has the job, and of the one that rescues it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.faults.kills.checks import assert_all_is_well, everything_stored
from tests.faults.kills.tasks import TOLD
from tests.faults.kills.workshop import Workshop
from tests.support.tiers import drawn, seeds

if TYPE_CHECKING:
    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)
_JOBS = [False, True] * 3
# Where it stands still when the cancels come: it has claimed, and doesn't know it; before, in and after a checkpoint.
_BEFORE = ("claim.committed", "body of cancels", "persist.unsent", "persist.committed")
# Where it stands still on the cancel's way: the handler has been told; the end is unsent, or done and not known of.
_AFTER = (f"body of {TOLD}", "finish.unsent", "finish.uncommitted", "finish.committed")
_RESCUERS = ("", "sweep.committed", "rescue.uncommitted", "rescue.committed")


def _cases() -> list[Any]:
    found = [
        case
        for when, points in (("before", _BEFORE), ("after", _AFTER))
        for case in drawn(f"cancels, {when}", [*itertools.product(points, ("killed", "frozen"), _RESCUERS)], push=1)
    ]
    return [(*case, seed) for case in found for seed in seeds("cancels", push=1, nightly=1)]


@pytest.mark.parametrize(("point", "fate", "rescuer", "seed"), _cases())
async def test_what_was_cancelled_ends_and_is_never_begun_again(
    migrated_database: str,
    processes: Processes,
    point: str,
    fate: Literal["killed", "frozen"],
    rescuer: str,
    seed: int,
) -> None:
    async with Workshop(migrated_database, processes, seed) as workshop:
        workshop.cancels_by_itself = point in _AFTER
        await workshop.start("cancels", _JOBS)
        victim = workshop.victim(point, "stop", nth=1)
        await workshop.until_hit([victim], ["cancels"])
        workshop.cancels_by_itself = False
        held = await workshop.rows("select id from jobs where state = 2 order by id")
        for (job_id,) in held:
            await workshop.cancel(job_id)
        # The point of it: they are still running, for all that the database knows, when their cancels are answered.
        noted = await workshop.rows("select id from jobs where state = 2 and cancel_requested order by id")
        assert noted == held or point in _AFTER  # where ends may be on their way
        assert noted or point == "finish.committed"
        if fate == "killed":
            victim.process.kill()
        if rescuer:
            await workshop.until_hit([workshop.victim(rescuer, "kill")], ["cancels"])
        workshop.cancels_by_itself = True  # what was started beside them
        await workshop.finish()
        await assert_all_is_well(workshop)
        if fate == "frozen":
            before = await everything_stored(workshop, workshop.ids)
            await workshop.remember_leases()
            victim.process.thaw()
            await workshop.leave(victim)
            assert await everything_stored(workshop, workshop.ids) == before
