"""Timers of the worker: a job must not fail by a deadline that hasn't passed, whatever the event loop."""

from __future__ import annotations

import asyncio
import time

import uvloop

from perdure.worker.timers import call_after


def test_none_is_early_on_uvloop() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert min(runner.run(lateness())) >= 0


async def test_none_is_early() -> None:
    assert min(await lateness()) >= 0


async def lateness() -> list[float]:
    """Return by how many seconds each of some timers was late."""
    late: list[float] = []
    for part in range(100):
        # Of all parts of a millisecond, begun at any: those are what a timer of whole ones cuts off.
        seconds, came = 0.003 + part * 1e-5, asyncio.Event()
        begun_at = time.monotonic()
        call_after(asyncio.get_running_loop(), seconds, came.set)
        await came.wait()
        late.append(time.monotonic() - begun_at - seconds)
    return late
