"""Tasks that run at once up to where they first wait."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["start"]


def start(run: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Start a task: at once where Python can (3.12), so that one which awaits nothing costs the event loop nothing."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(run, loop=loop, eager_start=True)
    return loop.create_task(run)
