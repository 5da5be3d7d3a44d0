"""Calls that block, each in a thread of its own.

Not `asyncio.to_thread`: its threads are few, and shared with the application. Handlers may hold all of them, some for
ever, since nothing ends a thread.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_own_thread"]

T = TypeVar("T")


def in_own_thread(call: Callable[[], T], name: str, on_end: Callable[[], None] | None = None) -> asyncio.Future[T]:
    """Begin the call in a thread of its own, a daemon; the future is what it returns or raises.

    A cancellation ends the waiting, not the thread.

    Args:
        call: Runs in the thread.
        name: The thread's.
        on_end: Called on the loop when the call has ended, also when nobody waits for it any more.

    Raises:
        RuntimeError: The system has no thread left; nothing is called then.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(outcome: Any, error: BaseException | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(outcome)
            elif isinstance(error, StopIteration):  # a future can't carry it
                done.set_exception(RuntimeError(f"{name} raised {error!r}"))
            else:
                done.set_exception(error)
        if on_end is not None:
            on_end()

    def run() -> None:
        outcome, error = None, None
        try:
            outcome = call()
        except BaseException as raised:  # noqa: BLE001 - handed to the loop
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, outcome, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
