"""Scenarios: workers and clients under a load that uses all that perdure has, with something done to them.

A test says: this scenario, with this fault, must hold.

    async def test_it_survives_random_kills(new_scenario, seed):
        await new_scenario(seed).must_hold(faults.kill_workers)

`Scenario.must_hold` starts workers, lets clients ask for things while the fault is done, waits until all jobs have
ended, stops the workers, collects the history (`tests.support.history`) and checks every invariant. A fault is an async
function of the scenario: it may use `scenario.crew` (processes, signals), `scenario.observer` (the database), and
`scenario.random`. Workers and clients may be given another way to the database, workers more environment.
"""

from __future__ import annotations

from tests.support.scenario import faults
from tests.support.scenario.scenario import Scenario

__all__ = ["Scenario", "faults"]
