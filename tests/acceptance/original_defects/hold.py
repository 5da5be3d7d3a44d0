"""Holding a handler at one of its lines."""

from __future__ import annotations

import asyncio


class Hold:
    """Where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.go_on.wait()
