"""What is done to a scenario at random, until it is cancelled."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from tests.support.history.lines import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tests.support.processes import Process
    from tests.support.scenario.phases import Struck

__all__ = [
    "CLIENTS",
    "WORKERS",
    "do_anything",
    "do_each",
    "freeze_workers",
    "kill_a_holder",
    "kill_workers",
    "outlast_a_lease",
    "roll",
    "stop_a_holder",
    "stop_workers",
    "terminate_backends",
    "terminate_each",
    "terminated",
]

WORKERS = ("perdure worker", "perdure heartbeat", "perdure listener", "perdure")
"""The names of the connections of workers; the last of their pools, and of clients."""

CLIENTS = ("perdure",)

_EFFECT_SECONDS = 120.0
_LOOK_SECONDS = 0.1


async def kill_a_holder(struck: Struck) -> None:
    """SIGKILL to a worker that has jobs, until some were rescued.

    Raises:
        TimeoutError: None was, whoever was killed.
    """
    async with asyncio.timeout(_EFFECT_SECONDS):
        while not await _costs_its_lease(struck, signal.SIGKILL):
            pass


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


async def stop_a_holder(struck: Struck) -> None:
    """SIGTERM to a worker that has jobs, until some were given back.

    Raises:
        TimeoutError: None was, whoever was stopped.
    """
    async with asyncio.timeout(_EFFECT_SECONDS):
        while not await _gives_back(struck):
            pass


async def freeze_workers(struck: Struck) -> None:
    """SIGSTOP to workers, for less or more than their leases; several at once, now and then all."""

    async def freeze() -> None:
        while True:
            await _pause(struck, 0.1, 1.5)
            await _freeze_one(struck)

    await asyncio.gather(freeze(), freeze(), freeze())


async def outlast_a_lease(struck: Struck) -> None:
    """SIGSTOP to a worker that has jobs, until its lease has lapsed and some were rescued; then SIGCONT.

    Raises:
        TimeoutError: None was, whoever stood still.
    """
    async with asyncio.timeout(_EFFECT_SECONDS):
        while not await _costs_its_lease(struck, signal.SIGSTOP, signal.SIGCONT):
            pass


async def _costs_its_lease(struck: Struck, first: signal.Signals, then: signal.Signals | None = None) -> bool:
    """Send a worker that has jobs a signal, and another when its lease has lapsed; tell whether any job was rescued."""
    observer = struck.observer
    holder, worker, jobs = await _pick_a_holder(struck)
    before = await asyncio.to_thread(observer.count_rescues, jobs)
    struck.crew.send(holder, first)
    while not await asyncio.to_thread(observer.has_lapsed, worker):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(_LOOK_SECONDS)
    if then is not None:
        struck.crew.send(holder, then)
    return await asyncio.to_thread(observer.count_rescues, jobs) > before  # all of them may have ended just before


async def _gives_back(struck: Struck) -> bool:
    """Send a worker that has jobs SIGTERM; tell whether it has given any of them back by its end."""
    observer = struck.observer
    holder, _, jobs = await _pick_a_holder(struck)
    before = await asyncio.to_thread(observer.count_stopped, jobs)
    struck.crew.send(holder, signal.SIGTERM)
    await holder.end(within_seconds=60)
    return await asyncio.to_thread(observer.count_stopped, jobs) > before  # all of them may have ended in its grace


async def _pick_a_holder(struck: Struck) -> tuple[Process, str, list[int]]:
    """Return a process that has a lease and jobs, its worker's id, and the jobs."""
    while True:
        process = struck.crew.pick(struck.random)
        if process is not None:
            worker, jobs = await asyncio.to_thread(struck.observer.held_by, process.pid)
            if worker is not None and jobs:
                return process, worker, jobs
        await asyncio.sleep(_LOOK_SECONDS)


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
        await _terminate_some(struck)


async def terminate_each(struck: Struck, names: Iterable[str] = WORKERS) -> None:
    """Terminate all backends of each of these names, once.

    Raises:
        TimeoutError: There are none of one name.
    """
    async with asyncio.timeout(_EFFECT_SECONDS):
        for name in names:
            while not await _terminate(struck, [name], chance=1.0):  # noqa: ASYNC110 - nobody tells of a connection
                await asyncio.sleep(_LOOK_SECONDS)


def terminated(faults: Iterable[Fault]) -> int:
    """Count the backends that were terminated."""
    return sum(int(fault.kind.split()[1]) for fault in faults if fault.kind.startswith("terminated "))


async def do_each(struck: Struck, names: Iterable[str] = WORKERS) -> None:
    """All kinds of what `do_anything` does, once and with effect; `names`: of the backends to terminate."""
    await stop_a_holder(struck)
    await terminate_each(struck, names)
    await kill_a_holder(struck)
    await outlast_a_lease(struck)


async def do_anything(struck: Struck, *, pause_seconds: float = 0.8) -> None:
    """All of these, at random, with a pause between them that is at most so long."""
    kinds: list[Callable[[Struck], Awaitable[None]]] = [_kill_one, _stop_one, _freeze_one, _terminate_some]
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


async def _terminate_some(struck: Struck) -> None:
    chance = struck.random.choice([0.1, 0.3, 1.0])
    names = list(struck.random.choice([WORKERS, CLIENTS, WORKERS[:3], WORKERS[1:2]]))
    await _terminate(struck, names, chance=chance)


async def _terminate(struck: Struck, names: list[str], *, chance: float) -> int:
    count = await asyncio.to_thread(struck.observer.terminate, names, chance=chance, random=struck.random)
    struck.note(Fault(f"terminated {count} backends of {', '.join(names)}"))
    return count


def _send(struck: Struck, number: signal.Signals) -> None:
    worker = struck.crew.pick(struck.random)
    if worker is not None:
        struck.crew.send(worker, number)


async def _pause(struck: Struck, least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(struck.random.uniform(least_seconds, most_seconds))
