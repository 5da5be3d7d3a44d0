"""Starts tasks: at once up to where they first wait, for a moment; then through the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Starter"]

# For so long in each turn of the loop tasks run at once: handlers that compute must not hold it up.
_AT_ONCE_SECONDS = 0.01


class Starter:
    """Starts the tasks of attempts.

    Each has the context variables that there are where this is made: not those of the attempt whose end has made room.
    """

    def __init__(self) -> None:
        """Remember the context."""
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._at_once_until_seconds = 0.0
        self._is_in_turn = False

    def start(self, run: Coroutine[Any, Any, None], now_seconds: float) -> asyncio.Task[None]:
        """Start a task: where Python can (3.12) at once, so that one which awaits nothing costs the loop nothing."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._at_once_until_seconds = now_seconds + _AT_ONCE_SECONDS
            self._loop.call_soon(self._end_turn)
        if sys.version_info >= (3, 12) and now_seconds < self._at_once_until_seconds:
            return asyncio.Task(run, loop=self._loop, context=self._context.copy(), eager_start=True)
        return self.start_later(run)

    def start_later(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task by the event loop."""
        return self._loop.create_task(run, context=self._context.copy())

    def _end_turn(self) -> None:
        self._is_in_turn = False
