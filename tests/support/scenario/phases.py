"""The phases of a run: load under a fault, rest. Shared by single runs and by those without end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

from tests.support.history.lines import Answered, Asked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.support.history import Recorder
    from tests.support.history.lines import Fault
    from tests.support.scenario.clients import Client
    from tests.support.scenario.crew import Crew
    from tests.support.scenario.observer import Observer

__all__ = ["Struck", "rest", "spoil", "under"]

_LOOK_SECONDS = 0.1
_GIVES_UP_SECONDS = 60.0
_SPOILT = [
    ("nobody.knows", '{"n": 1}', "{}"),
    ("plan", '["no", "plan"]', "{}"),
    ("plan", '{"acts": 7}', "{}"),
    ("plan.threaded", '{"acts": []}', '"nowhere"'),
]


class Struck(Protocol):
    """What a fault needs of what it is done to."""

    crew: Crew
    observer: Observer
    random: Random
    lease_seconds: float

    def note(self, fault: Fault) -> None:
        """Write down what is done."""


def spoil(observer: Observer, recorder: Recorder) -> None:
    """Put rows between the others that can't be read."""
    for row in _SPOILT:
        [job] = observer.spoil([row])
        recorder.write(Asked(job, "spoil", (), (job,)))
        recorder.write(Answered(job, "Spoilt"))


async def under(struck: Struck, fault: Callable[[Struck], Awaitable[None]] | None, load: Awaitable[Any]) -> None:
    """Do the load while the fault is done; then nobody stands still any more."""
    if fault is None:
        await load
        return
    faults = asyncio.ensure_future(fault(struck))
    try:
        await load
    finally:
        faults.cancel()
        [ended] = await asyncio.gather(faults, return_exceptions=True)
        struck.crew.thaw()
    if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
        raise ended


async def rest(observer: Observer, client: Client) -> None:
    """Let on what waits for a client, until all has ended; or nothing has come on for long, which the checkers tell."""
    written, changed_at = -1, time.monotonic()
    while time.monotonic() - changed_at < _GIVES_UP_SECONDS:
        look = await asyncio.to_thread(observer.look)
        if look is not None:
            if not look.live:
                return
            if look.written != written:
                written, changed_at = look.written, time.monotonic()
            for waiting in look.waiting:
                await client.ask(waiting.verb, waiting.job, waiting.task)
        await asyncio.sleep(_LOOK_SECONDS)
