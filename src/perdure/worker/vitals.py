"""How a worker process is: what its health endpoint answers, from its start to its end.

Read from the endpoint's thread, while the event loop may stand still: so each answer is made of single attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from perdure.cancelling import cancel_and_wait
from perdure.worker.health import Address, Answer, HealthServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from perdure.worker.worker import Worker

__all__ = ["Vitals"]

_TURN_SECONDS: Final = 0.5


class Vitals:
    """What is known of the process.

    Attributes:
        waits_for: What it waits for before it can start; empty when it doesn't.
        worker: Its worker, once there is one.
        stopping: Whether it has been told to stop.
    """

    def __init__(self, *, max_stall_seconds: float) -> None:
        """Begin before there is a worker; `max_stall_seconds` is after how long the process ends itself."""
        self.waits_for = ""
        self.worker: Worker | None = None
        self.stopping = False
        # Before the process ends itself, so that whoever asks can stop it more gently than that.
        self._longest_stall_seconds = max_stall_seconds / 2
        self._turns: int = 0
        self._seen_turns: int = 0
        self._stalled_seconds = 0.0

    @contextlib.asynccontextmanager
    async def shown(self, address: Address | None) -> AsyncGenerator[None]:
        """Answer at this address, if there is one, for as long as the block runs.

        Raises:
            MisuseError: One can't listen there.
        """
        if address is None:
            yield
            return
        with HealthServer(address, live=self.live, ready=self.ready, look=self.look):
            turning = asyncio.create_task(self._turn(), name="perdure health watch")
            try:
                yield
            finally:
                await cancel_and_wait([turning])

    def live(self) -> Answer:
        """Whether the process need not be restarted: its event loop turns, and its lease is seen to."""
        stalled_seconds = self._stalled_seconds
        if stalled_seconds > self._longest_stall_seconds:
            return Answer.ill(f"the event loop hasn't turned for {stalled_seconds:.0f} s: a handler blocks it")
        worker = self.worker
        if worker is not None and not self.stopping and not worker.has_pulse:
            return Answer.ill("the thread that renews the lease has ended")
        return Answer.well("the event loop turns")

    def ready(self) -> Answer:
        """Whether it claims jobs."""
        if self.stopping:
            return Answer.ill("it is stopping")
        worker = self.worker
        if worker is None:
            return Answer.ill(self.waits_for or "it is starting")
        trouble = worker.condition.trouble
        if trouble is not None:
            return Answer.ill(trouble)
        worker_id = worker.worker_id
        if worker_id is None or not worker.holds(worker_id):
            return Answer.ill("it has no lease")
        return Answer.well(f"it claims jobs as worker {worker_id}")

    def turned(self) -> None:
        """Take note that the event loop turns."""
        self._turns += 1

    def look(self, seconds: float) -> None:
        """See whether the event loop has turned in these seconds, which whoever looks has waited since the last time.

        Counted in steps, so that the time in which the whole process was frozen doesn't count.
        """
        if self._turns != self._seen_turns:
            self._seen_turns = self._turns
            self._stalled_seconds = 0.0
        else:
            self._stalled_seconds += seconds

    async def _turn(self) -> None:
        while True:
            self.turned()
            await asyncio.sleep(_TURN_SECONDS)
