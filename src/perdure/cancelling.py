"""Ending a task for sure.

One `cancel()` isn't always enough: before Python 3.12, `asyncio.wait_for` (psycopg_pool uses it) drops a cancellation
that comes in the very moment in which what it waits for is there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["cancel_and_wait"]

_AGAIN_SECONDS = 0.2


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks until all have ended; what they raise is not looked at."""
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio doesn't complain that nobody has
