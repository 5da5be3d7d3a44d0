"""Threads for `def` handlers. Daemons: one that was left behind must not keep the process from ending."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from perdure.own_thread import in_own_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threads"]


class Threads:
    """Runs calls in threads, so many at once.

    Attributes:
        free: How many more may run now.
    """

    def __init__(self, limit: int, on_free: Callable[[], None]) -> None:
        """Allow `limit` threads at once; `on_free` is called whenever one has ended."""
        self.free = limit
        self._on_free = on_free

    async def run(self, call: Callable[[], Any], name: str) -> Any:
        """Run the call in a thread of its own, in the place that `take` reserved; returns or raises what it does.

        A cancellation ends the waiting, not the thread; its place is free again when it ends.
        """
        context = contextvars.copy_context()
        try:
            done = in_own_thread(lambda: context.run(call), name, self.give_back)
        except BaseException:  # the system has no thread left
            self.give_back()
            raise
        return await done

    def take(self) -> None:
        """Reserve a place, of which there must be one."""
        self.free -= 1

    def give_back(self) -> None:
        """Free a place."""
        self.free += 1
        self._on_free()
