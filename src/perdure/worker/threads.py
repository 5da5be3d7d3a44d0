"""Threads for `def` handlers. Daemons: one that was left behind must not keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threads"]


class Threads:
    """Runs calls in threads, so many at once."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` threads at once."""
        self._free = asyncio.Semaphore(limit)

    async def acquire(self) -> None:
        """Wait for a free place; `run` frees it again."""
        await self._free.acquire()

    async def run(self, call: Callable[[], Any], name: str) -> Any:
        """Run the call in a thread of its own, in the place acquired before; returns or raises what it does.

        A cancellation ends the waiting, not the thread; its place is free again when it ends.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def finish(outcome: Any, error: BaseException | None) -> None:
            self._free.release()
            if done.done():
                return
            if error is None:
                done.set_result(outcome)
            elif isinstance(error, StopIteration):  # a future can't carry it
                done.set_exception(RuntimeError(f"the handler raised {error!r}"))
            else:
                done.set_exception(error)

        def run() -> None:
            outcome, error = None, None
            try:
                outcome = context.run(call)
            except BaseException as raised:  # noqa: BLE001 - handed to the loop
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, outcome, error)

        threading.Thread(target=run, name=name, daemon=True).start()
        return await done
