"""Ending a task for sure, and running one to its end whatever is cancelled.

One `cancel()` isn't always enough: before Python 3.12, `asyncio.wait_for` (psycopg_pool uses it) drops a cancellation
that comes in the very moment in which what it waits for is there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["cancel_and_wait", "held"]

T = TypeVar("T")

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


async def held(work: Awaitable[T], on_cancel: Callable[[], None] | None = None) -> T:
    """Run to the end what must not be cut off; a cancellation that comes meanwhile is raised afterwards."""
    inner = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not inner.done():
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError as error:
            if inner.cancelled():
                raise
            cancelled = error
            if on_cancel is not None:
                on_cancel()
        except BaseException:  # noqa: BLE001 - it is raised below, from inner itself
            break
    if cancelled is None:
        return inner.result()
    failure = inner.exception()
    if isinstance(failure, LeaseLost):  # it tells more than the stop that the lost lease has brought about
        raise failure
    if failure is not None:
        raise cancelled from failure
    raise cancelled
