"""Event loops by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["LOOPS", "loop_factory"]

LOOPS = ("asyncio", "uvloop")


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop; None stands for asyncio's own.

    Raises:
        ImportError: uvloop isn't installed.
    """
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - optional

    return uvloop.new_event_loop
