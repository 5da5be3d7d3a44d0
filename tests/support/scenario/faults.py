"""What is done to a scenario at random, until it is cancelled."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from tests.support.history.lines import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.scenario.scenario import Scenario

__all__ = [
    "CLIENTS",
    "WORKERS",
    "do_anything",
    "freeze_workers",
    "kill_workers",
    "roll",
    "stop_workers",
    "terminate_backends",
]

WORKERS = ("perdure worker", "perdure heartbeat", "perdure listener", "perdure")
"""The names of the connections of workers; the last of their pools, and of clients."""

CLIENTS = ("perdure",)


async def kill_workers(scenario: Scenario) -> None:
    """SIGKILL to one worker after the other."""
    while True:
        await _pause(scenario, 0.1, 1.0)
        _send(scenario, signal.SIGKILL)


async def stop_workers(scenario: Scenario) -> None:
    """SIGTERM to one worker after the other, and sometimes again, which skips its grace."""
    while True:
        await _pause(scenario, 0.1, 1.5)
        await _stop_one(scenario)


async def freeze_workers(scenario: Scenario) -> None:
    """SIGSTOP to one worker after the other, for less or more than its lease."""
    while True:
        await _pause(scenario, 0.1, 1.0)
        await _freeze_one(scenario)


async def roll(scenario: Scenario) -> None:
    """Replace all workers, one after the other, over and over."""
    while True:
        for worker in scenario.crew.workers:
            await _pause(scenario, 0.1, 0.5)
            scenario.crew.send(worker, signal.SIGTERM)
            await worker.end(within_seconds=60)


async def terminate_backends(scenario: Scenario) -> None:
    """Terminate some of the backends of workers and clients, over and over."""
    while True:
        await _pause(scenario, 0.05, 0.8)
        await _terminate(scenario)


async def do_anything(scenario: Scenario) -> None:
    """All of these, at random."""
    kinds: list[Callable[[Scenario], Awaitable[None]]] = [_kill_one, _stop_one, _freeze_one, _terminate]
    while True:
        await _pause(scenario, 0.05, 0.8)
        await scenario.random.choice(kinds)(scenario)


async def _kill_one(scenario: Scenario) -> None:
    _send(scenario, signal.SIGKILL)


async def _stop_one(scenario: Scenario) -> None:
    worker = scenario.crew.pick(scenario.random)
    if worker is not None:
        scenario.crew.send(worker, signal.SIGTERM)
        if scenario.random.random() < 0.3:
            await _pause(scenario, 0.0, 0.2)
            scenario.crew.send(worker, signal.SIGTERM)


async def _freeze_one(scenario: Scenario) -> None:
    worker = scenario.crew.pick(scenario.random)
    if worker is not None:
        scenario.crew.send(worker, signal.SIGSTOP)
        await _pause(scenario, 0.1, 1.7 * scenario.lease_seconds)
        scenario.crew.send(worker, signal.SIGCONT)


async def _terminate(scenario: Scenario) -> None:
    chance = scenario.random.choice([0.1, 0.3, 1.0])
    names = list(scenario.random.choice([WORKERS, CLIENTS, WORKERS[:3], WORKERS[1:2]]))
    count = await asyncio.to_thread(scenario.observer.terminate, names, chance=chance, random=scenario.random)
    scenario.note(Fault(f"terminated {count} backends of {', '.join(names)}"))


def _send(scenario: Scenario, number: signal.Signals) -> None:
    worker = scenario.crew.pick(scenario.random)
    if worker is not None:
        scenario.crew.send(worker, number)


async def _pause(scenario: Scenario, least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(scenario.random.uniform(least_seconds, most_seconds))
