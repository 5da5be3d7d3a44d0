"""When a lane has its worker look for due jobs once more, though nobody notifies of any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.worker.floors import Floors

__all__ = ["Looks"]

_SHORTEST_SECONDS = 0.0005
_LONGEST_SECONDS = 0.1
_AFTER_SLEEP_SECONDS = 0.1
# What was put back couldn't be started here: not at once, or it would be claimed over and over.
_AFTER_PUT_BACK_SECONDS = 1.0


class Looks:
    """The looks that one lane has ordered."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Order nothing yet; `wake` has the worker look."""
        self._wake = wake
        self._left_out_in_a_row = 0
        self._everywhere: asyncio.TimerHandle | None = None

    def after_sleep(self) -> None:
        """Look again: a start that is committing may have seen the worker awake, and is seen by no claim yet."""
        asyncio.get_running_loop().call_later(_AFTER_SLEEP_SECONDS, self._wake)

    def after_put_back(self) -> None:
        """Look for what was put back, if nobody else has taken it by then."""
        asyncio.get_running_loop().call_later(_AFTER_PUT_BACK_SECONDS, self._wake)

    def after_left_out(self, floors: Floors, *, left_out: bool) -> None:
        """Look again soon when a due job was left out since its row was locked; at growing delays."""
        if not left_out:
            self._left_out_in_a_row = 0
            return
        floors.look_back()
        self._left_out_in_a_row = min(self._left_out_in_a_row + 1, 10)
        seconds = min(_LONGEST_SECONDS, _SHORTEST_SECONDS * 2**self._left_out_in_a_row)
        asyncio.get_running_loop().call_later(seconds, self._wake)

    def everywhere(self, floors: Floors) -> None:
        """Look behind the floors as soon as that is due, though nothing else may happen until then."""
        loop = asyncio.get_running_loop()
        due_at_seconds = loop.time() + floors.everywhere_in_seconds(loop.time())
        if self._everywhere is not None:
            if self._everywhere.when() <= due_at_seconds:
                return
            # Ordered while such a look was under way, of which nobody knew how soon it would be over.
            self._everywhere.cancel()

        def look() -> None:
            self._everywhere = None
            self._wake()

        self._everywhere = loop.call_at(due_at_seconds, look)
