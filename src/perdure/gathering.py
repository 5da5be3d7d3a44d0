"""One statement for what many ask at once of single jobs, so that ten thousand don't queue for ten connections.

No timer gathers: while one statement is under way, what is asked meanwhile waits for the next.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Generic, TypeVar

from perdure.cancelling import cancel_and_wait
from perdure.errors import MisuseError, PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Gathered"]

T = TypeVar("T")
# Rows may be large: so many of the largest must fit into memory.
_BATCH = 100
# A limit is waited for in slices: however long an event loop doesn't turn, it is one of them.
_SLICES = 10
_CLOSED = "the app was closed"


class Gathered(Generic[T]):
    """Asks for many jobs at a time."""

    def __init__(
        self, ask: Callable[[list[int]], Awaitable[Mapping[int, T]]], *, limit_seconds: float = math.inf
    ) -> None:
        """Prepare; `ask` is given some jobs' ids, sorted, and answers for those that there are.

        `limit_seconds` is for those who ask with a limit.
        """
        self._ask = ask
        self._limit_seconds = limit_seconds
        self._waiting: dict[int, asyncio.Future[T | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._limits: dict[asyncio.Timeout, int] = {}  # by the slice in which they began
        self._slices = 0
        self._began_in_slice = 0  # the statement under way
        self._watch: asyncio.Task[None] | None = None

    async def of(self, job_id: int) -> T | None:
        """Ask for one job, by a statement that begins after this call; None when there is none.

        Raises:
            MisuseError: The app is closed meanwhile.
            PerdureError: As the statement has raised it; that this job can't be read, and not that another can't.
        """
        answer = self._waiting.get(job_id)
        if answer is None:
            answer = self._waiting[job_id] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_mark_as_seen)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="perdure gathering")
        return await asyncio.shield(answer)

    async def within_limit_of(self, job_id: int) -> T | None:
        """Ask for one job, as `of` does, unless a statement goes unanswered for too long.

        Only that counts, and not the place among all who ask: a queue that moves is waited for.

        Raises:
            TimeoutError: Since this call, none was answered within the limit.
        """
        async with asyncio.timeout(None) as limit:
            self._limits[limit] = self._slices
            if self._watch is None or self._watch.done():
                self._watch = asyncio.create_task(self._watch_limits(), name="perdure gathering within a limit")
            try:
                return await self.of(job_id)
            finally:
                self._limits.pop(limit, None)

    async def stop(self) -> None:
        """End what is under way; whoever waits for it is told."""
        await cancel_and_wait(task for task in (self._task, self._watch) if task is not None)
        waiting, self._waiting = self._waiting, {}
        self._fail(waiting, MisuseError(_CLOSED))

    async def _work(self) -> None:
        while self._waiting:
            ids = sorted(itertools.islice(self._waiting, _BATCH))
            answers = {job_id: self._waiting.pop(job_id) for job_id in ids}
            try:
                await self._answer(answers)
            except asyncio.CancelledError:
                self._fail(answers, MisuseError(_CLOSED))
                raise

    async def _answer(self, answers: Mapping[int, asyncio.Future[T | None]]) -> None:
        self._began_in_slice = self._slices
        try:
            found = await self._ask(list(answers))
        except Exception as error:  # noqa: BLE001 - it is theirs who have asked
            if not isinstance(error, PayloadUndecodable) or len(answers) == 1:
                self._fail(answers, error)
                return
        else:
            for job_id, answer in answers.items():
                if not answer.done():
                    answer.set_result(found.get(job_id))
            return
        for job_id, answer in answers.items():  # one of them can't be read, which shall spoil no other
            await self._answer({job_id: answer})

    async def _watch_limits(self) -> None:
        while self._limits:
            await asyncio.sleep(self._limit_seconds / _SLICES)
            self._slices += 1
            if self._slices - self._began_in_slice > _SLICES:
                over = [
                    limit for limit, began_in_slice in self._limits.items() if self._slices - began_in_slice > _SLICES
                ]
                for limit in over:
                    del self._limits[limit]
                    limit.reschedule(0)

    @staticmethod
    def _fail(answers: Mapping[int, asyncio.Future[T | None]], error: Exception) -> None:
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(error)


def _mark_as_seen(answer: asyncio.Future[T]) -> None:
    """Let nobody complain about an error of which nobody is left to be told."""
    if not answer.cancelled():
        answer.exception()
