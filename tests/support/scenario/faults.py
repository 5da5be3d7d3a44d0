"""What is done to a scenario at random, until it is cancelled."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from tests.support.history.lines import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.scenario.phases import Struck

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


async def kill_workers(struck: Struck) -> None:
    """SIGKILL to one worker after the other."""
    while True:
        await _pause(struck, 0.1, 1.0)
        _send(struck, signal.SIGKILL)


async def stop_workers(struck: Struck) -> None:
    """SIGTERM to one worker after the other, and sometimes again, which skips its grace."""
    while True:
        await _pause(struck, 0.1, 1.5)
        await _stop_one(struck)


async def freeze_workers(struck: Struck) -> None:
    """SIGSTOP to workers, for less or more than their leases; several at once, now and then all."""

    async def freeze() -> None:
        while True:
            await _pause(struck, 0.1, 1.5)
            await _freeze_one(struck)

    await asyncio.gather(freeze(), freeze(), freeze())


async def roll(struck: Struck) -> None:
    """Replace all workers, one after the other, over and over."""
    while True:
        for worker in struck.crew.workers:
            await _pause(struck, 0.1, 0.5)
            struck.crew.send(worker, signal.SIGTERM)
            await worker.end(within_seconds=60)


async def terminate_backends(struck: Struck) -> None:
    """Terminate some of the backends of workers and clients, over and over."""
    while True:
        await _pause(struck, 0.05, 0.8)
        await _terminate(struck)


async def do_anything(struck: Struck, *, pause_seconds: float = 0.8) -> None:
    """All of these, at random, with a pause between them that is at most so long."""
    kinds: list[Callable[[Struck], Awaitable[None]]] = [_kill_one, _stop_one, _freeze_one, _terminate]
    while True:
        await _pause(struck, 0.05, pause_seconds)
        await struck.random.choice(kinds)(struck)


async def _kill_one(struck: Struck) -> None:
    _send(struck, signal.SIGKILL)


async def _stop_one(struck: Struck) -> None:
    worker = struck.crew.pick(struck.random)
    if worker is not None:
        struck.crew.send(worker, signal.SIGTERM)
        if struck.random.random() < 0.3:
            await _pause(struck, 0.0, 0.2)
            struck.crew.send(worker, signal.SIGTERM)


async def _freeze_one(struck: Struck) -> None:
    worker = struck.crew.pick(struck.random, spared=True)
    if worker is not None:
        struck.crew.send(worker, signal.SIGSTOP)
        least, most = struck.random.choice([(0.1, 0.5), (1.1, 1.8)])
        await _pause(struck, least * struck.lease_seconds, most * struck.lease_seconds)
        struck.crew.send(worker, signal.SIGCONT)


async def _terminate(struck: Struck) -> None:
    chance = struck.random.choice([0.1, 0.3, 1.0])
    names = list(struck.random.choice([WORKERS, CLIENTS, WORKERS[:3], WORKERS[1:2]]))
    count = await asyncio.to_thread(struck.observer.terminate, names, chance=chance, random=struck.random)
    struck.note(Fault(f"terminated {count} backends of {', '.join(names)}"))


def _send(struck: Struck, number: signal.Signals) -> None:
    worker = struck.crew.pick(struck.random)
    if worker is not None:
        struck.crew.send(worker, number)


async def _pause(struck: Struck, least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(struck.random.uniform(least_seconds, most_seconds))
