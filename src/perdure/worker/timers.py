"""Timers that are never early."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["call_after"]

# uvloop counts whole milliseconds, from one that it has cut off: its timers come up to 1.5 ms early.
_SLACK_SECONDS = 0.002


def call_after(loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], object]) -> asyncio.TimerHandle:
    """Call `action` when at least so many seconds have passed, and a few milliseconds more at most in an idle loop."""
    return loop.call_later(seconds + _SLACK_SECONDS, action)
