"""Waiting for jobs' ends: one LISTEN connection a process, and one polling statement behind it for all who wait.

A notification that gets lost delays a waiter by a poll, never for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import psycopg

from perdure.cancelling import cancel_and_wait
from perdure.core.states import JobState
from perdure.errors import DatabaseUnavailable, MissingRight, MisuseError
from perdure.gathering import Gathered
from perdure.store import jobs
from perdure.store.notify import job_id_of
from perdure.store.refusals import for_log, reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, NoReturn

    from perdure.store.calls import Call
    from perdure.store.jobs import JobRow
    from perdure.store.notify import Listener
    from perdure.store.sql import Names

__all__ = ["LAST_LOOK_SECONDS", "NO_ANSWER", "Waiters", "raise_unavailable"]

NO_ANSWER: Final = (DatabaseUnavailable, psycopg.OperationalError)
"""What a look at a job raises when the database is away, or is kept from answering: by a lock, say."""

LAST_LOOK_SECONDS: Final = 2.0
"""How long the look at a job may take that is made when the time is over, however little time was given: to connect
with TLS and a password, to try the connection, to prepare the statement and to run it takes some nine round trips.

Where many look at once they go one batch after another: it is for each batch."""

_log = logging.getLogger("perdure")
_PURPOSE = "result"
_CLOSED = "result: the app was closed"
_APPEARING_SECONDS: Final = 0.5
"""How long the commit of a job that somebody waits for may go unnoticed."""
_SHORTEST_LOCKED_SECONDS: Final = 0.002
_LONGEST_LOCKED_SECONDS: Final = 0.1
_SHORTEST_FAILED_SECONDS: Final = 0.1
_LONGEST_FAILED_SECONDS: Final = 5.0


class _Waiter:
    """Somebody who waits for one job: to be told to look, and whether the job has ever been there."""

    def __init__(self, *, is_there: bool) -> None:
        self.told = asyncio.Event()
        self.is_there = is_there

    def is_over(self, row: JobRow | None) -> bool:
        """Whether this look at the job is the last."""
        if row is None:
            return self.is_there
        self.is_there = True
        return JobState.from_code(row.state).is_final


class Waiters:
    """All who wait for a job's end in this process."""

    def __init__(
        self,
        names: Names,
        run: Callable[[str, Call[Any]], Awaitable[Any]],
        listener: Listener,
        *,
        polling_seconds: float,
    ) -> None:
        """Prepare; nobody listens or polls before somebody waits.

        Args:
            names: The schema's names.
            run: Runs a call, for a purpose, on a connection of the application's.
            listener: The process's LISTEN connection.
            polling_seconds: How long a lost notification may go unnoticed.
        """
        self._names = names
        self._run = run
        self._listener = listener
        self._polling_seconds = polling_seconds
        self._asked: Gathered[bool] = Gathered(self._ask_many)
        self._rows: Gathered[JobRow] = Gathered(self._read_many, limit_seconds=LAST_LOOK_SECONDS)
        self._waiters_of: dict[int, list[_Waiter]] = {}
        self._is_stopped = False
        self._may_ask = True
        self._has_noted = False
        self._look = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        listener.add(names.done_channel, self._notified)

    async def read_ended(self, job_id: int, timeout_seconds: float | None, *, may_appear: bool) -> JobRow | None:
        """Wait until a job has ended (or is gone) and read it; when the time is over, read it as it is then.

        That last look may take `LAST_LOOK_SECONDS`.

        Args:
            job_id: The job.
            timeout_seconds: How long to wait at most; None waits for ever.
            may_appear: Whether it may not be there yet: it was started in a transaction that may be open. Nobody tells
                when that is committed, so it is looked for with each poll.

        Raises:
            TimeoutError: The time is over, and the database doesn't tell how the job stands.
            DatabaseUnavailable: The first look has failed; later ones are made again.
        """
        waiter = _Waiter(is_there=not may_appear)
        self._waiters_of.setdefault(job_id, []).append(waiter)
        self._start()
        if may_appear:
            self._look.set()  # the poller may be at a longer rest
        limit = asyncio.timeout(timeout_seconds)
        try:
            async with limit:
                return await self._until_ended(job_id, waiter)
        except TimeoutError:
            if timeout_seconds is None or not limit.expired():
                raise
            return await self._last_look(job_id)
        finally:
            self._leave(job_id, waiter)

    async def stop(self) -> None:
        """Stop polling and listening, and tell all who wait."""
        self._is_stopped = True
        poller, self._poller = self._poller, None
        if poller is not None:
            await cancel_and_wait([poller])
        await self._asked.stop()
        await self._rows.stop()
        for job_id in self._waiters_of:
            self._tell(job_id)
        await self._listener.stop()

    async def _until_ended(self, job_id: int, waiter: _Waiter) -> JobRow | None:
        """Look at a job whenever something is told of it, or a look has failed, until it has ended."""
        asks, has_looked = True, False
        delay_seconds = _SHORTEST_FAILED_SECONDS
        while True:
            was_there = waiter.is_there
            try:
                # First ask to be told, then look: an end in between is seen by the one or the other.
                if asks:
                    await self._ask(job_id)
                row = await self._rows.of(job_id)
            except NO_ANSWER as error:
                if not has_looked:
                    raise_unavailable(error)
                self._note(error)
                await self._told(waiter, delay_seconds)
                delay_seconds = min(_LONGEST_FAILED_SECONDS, delay_seconds * 2)
                continue
            has_looked, delay_seconds = True, _SHORTEST_FAILED_SECONDS
            if waiter.is_over(row):
                return row
            if not asks or (waiter.is_there and not was_there):
                asks = True  # what was told was another thing; or it has appeared in between: nobody was asked
            else:
                await self._told(waiter, None)
                asks = False

    async def _told(self, waiter: _Waiter, limit_seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await waiter.told.wait()
        waiter.told.clear()
        if self._is_stopped:
            raise MisuseError(_CLOSED)

    def _note(self, error: Exception) -> None:
        """Log that a look has failed: once, however many wait, until one is answered again."""
        if not self._has_noted:
            self._has_noted = True
            _log.warning("waiting for %d jobs: %s", len(self._waiters_of), for_log(error))

    async def _last_look(self, job_id: int) -> JobRow | None:
        """Read a job when the time is over: behind a look that is stuck, or at a database that is away, in vain."""
        try:
            return await self._rows.within_limit_of(job_id)
        except NO_ANSWER as error:
            raise TimeoutError(str(error)) from error

    async def _ask(self, job_id: int) -> None:
        """Ask to be told of a job's end: again and again while somebody has its row locked."""
        delay_seconds = _SHORTEST_LOCKED_SECONDS
        while await self._asked.of(job_id):
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(_LONGEST_LOCKED_SECONDS, delay_seconds * 2)

    async def _ask_many(self, job_ids: list[int]) -> dict[int, bool]:
        if not self._may_ask:
            return {}
        try:
            locked: list[int] = await self._run(_PURPOSE, jobs.await_end(self._names, job_ids))
        except MissingRight:
            self._may_ask = False  # who may only read isn't told, and finds out by polling
            return {}
        return dict.fromkeys(locked, True)

    async def _read_many(self, job_ids: list[int]) -> dict[int, JobRow]:
        rows: dict[int, JobRow] = await self._run(_PURPOSE, jobs.get_many(self._names, job_ids))
        self._has_noted = False
        return rows

    def _start(self) -> None:
        self._listener.start()
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="perdure waiting")

    def _leave(self, job_id: int, waiter: _Waiter) -> None:
        waiters = self._waiters_of[job_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters_of[job_id]

    def _notified(self, payload: str | None) -> None:
        if payload is None:  # connected just now: what was sent before is lost
            self._look.set()
        elif (job_id := job_id_of(payload)) is not None:
            self._tell(job_id)

    def _tell(self, job_id: int) -> None:
        for waiter in self._waiters_of.get(job_id, ()):
            waiter.told.set()

    def _not_there_yet(self) -> list[int]:
        return [
            job_id for job_id, waiters in self._waiters_of.items() if not all(waiter.is_there for waiter in waiters)
        ]

    def _rest_seconds(self) -> float:
        return min(self._polling_seconds, _APPEARING_SECONDS) if self._not_there_yet() else self._polling_seconds

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rest_seconds()):
                    await self._look.wait()
            self._look.clear()
            if not self._waiters_of:
                continue
            try:
                finished: list[int] = await self._run(_PURPOSE, jobs.finished(self._names, sorted(self._waiters_of)))
            except Exception as error:  # noqa: BLE001 - whatever it was: it is tried again, and nobody waits for ever
                _log.warning("waiting for %d jobs: %s", len(self._waiters_of), for_log(error))
                continue
            for job_id in (*finished, *self._not_there_yet()):
                self._tell(job_id)


def raise_unavailable(error: Exception) -> NoReturn:
    """Raise what somebody gets whose first look at a job wasn't answered.

    Raises:
        DatabaseUnavailable: Always.
    """
    if isinstance(error, DatabaseUnavailable):
        raise error
    message = f"{_PURPOSE}: the database didn't answer ({reason(error)}); it can be read again"
    raise DatabaseUnavailable(message) from error
