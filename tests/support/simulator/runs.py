"""One run of the simulator: who is there, drawn from the seed; then faults; then rest, and what must hold by then."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.support.simulator.ledger import Broken, Ledger
from tests.support.simulator.people import client, mishaps
from tests.support.simulator.process import Process
from tests.support.simulator.scheduler import Stuck, World

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NOTHING", "find", "rest", "run"]

NOTHING = b"0,0,0"
"""The first execution metadata of a job."""

_MOST_STEPS = 120
_MOST_FAULTS = 0.15


def run(seed: int, *, broken: Iterable[str] = (), traces: bool = False) -> World:
    """Run once.

    Raises:
        Broken: An invariant is broken.
        Stuck: It doesn't come to rest.
    """
    world = World(random.Random(seed), broken=broken, traces=traces)
    chance, ledger = world.chance, Ledger(world)
    jobs = range(1, 2 + (chance.random() < 0.2))
    for job_id in jobs:
        world.model.start(job_id, data=NOTHING)
    for number in range(1 + int(chance.random() * 2)):
        Process(world, ledger, f"w{number}")
    for number in range(int(chance.random() * 4)):
        job_id = jobs[int(chance.random() * len(jobs))]
        world.add(f"client {number}", client(world, ledger, job_id, 1 + int(chance.random() * 2)))
    world.faults = chance.random() * _MOST_FAULTS
    world.add("mishaps", mishaps(world, ledger, int(chance.random() * 4)))
    try:
        while world.count < _MOST_STEPS and not ledger.is_at_rest():
            if not world.step():
                world.skip_to_next(ledger.due_times())
        rest(world, ledger)
    except (Broken, Stuck) as error:
        error.add_note(
            f"again: tests.support.simulator.runs.run({seed}, broken={sorted(world.model.broken)}, traces=True)"
        )
        if world.steps is not None:
            error.add_note("\n".join(world.steps))
        raise
    return world


def rest(world: World, ledger: Ledger) -> None:
    """Let no more faults happen, and somebody be there to work; then all must come to rest, and be right.

    Raises:
        Broken: An invariant is broken.
        Stuck: It doesn't come to rest.
    """
    for process in world.processes:
        if process.frozen_until is not None:
            process.thaw()
    if not any(process.is_alive and not process.is_stopping for process in world.processes):
        Process(world, ledger, "last")
    world.come_to_rest(ledger.is_at_rest, ledger.due_times)
    ledger.check_at_rest()


def find(runs: int, *, first: int = 0, broken: Iterable[str] = ()) -> tuple[int, str] | None:
    """Run with one seed after another until an invariant breaks; the seed, and what broke. None: nothing did."""
    broken = frozenset(broken)
    for seed in range(first, first + runs):
        try:
            run(seed, broken=broken)
        except (Broken, Stuck) as error:
            return seed, str(error)
    return None
