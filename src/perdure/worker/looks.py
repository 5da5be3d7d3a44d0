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
        self._left_out: asyncio.TimerHandle | None = None
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
        due_at_seconds = asyncio.get_running_loop().time() + seconds
        self._left_out = _sooner(self._left_out, due_at_seconds, self._look_for_left_out)

    def everywhere(self, floors: Floors) -> None:
        """Look behind the floors as soon as that is due, though nothing else may happen until then."""
        now_seconds = asyncio.get_running_loop().time()
        due_at_seconds = now_seconds + floors.everywhere_in_seconds(now_seconds)
        # Sooner than what was ordered while such a look was under way, of which nobody knew how soon it would be over.
        self._everywhere = _sooner(self._everywhere, due_at_seconds, self._look_everywhere)

    def _look_for_left_out(self) -> None:
        self._left_out = None
        self._wake()

    def _look_everywhere(self) -> None:
        self._everywhere = None
        self._wake()


def _sooner(
    ordered: asyncio.TimerHandle | None, due_at_seconds: float, look: Callable[[], None]
) -> asyncio.TimerHandle:
    """Return the one look of its kind that is ordered now: a look orders the next, so that two would go on as two."""
    if ordered is not None:
        if ordered.when() <= due_at_seconds:
            return ordered
        ordered.cancel()
    return asyncio.get_running_loop().call_at(due_at_seconds, look)
