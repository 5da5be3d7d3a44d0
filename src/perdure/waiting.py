"""Waiting for jobs' ends: one LISTEN connection a process, and one polling statement behind it for all who wait.

A notification that gets lost delays a waiter by a poll, never for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from perdure.cancelling import cancel_and_wait
from perdure.core.states import JobState
from perdure.store import jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from perdure.store.calls import Call
    from perdure.store.jobs import JobRow
    from perdure.store.notify import Listener
    from perdure.store.sql import Names

__all__ = ["Waiters"]

_log = logging.getLogger("perdure")
_PURPOSE = "result"


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
        self._waiting: dict[int, list[asyncio.Event]] = {}
        self._look = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        listener.add(names.done_channel, self._notified)

    async def read_ended(self, job_id: int, timeout_seconds: float | None) -> JobRow | None:
        """Wait until a job has ended (or is gone) and read it; when the time is over, read it as it is then."""
        ended = asyncio.Event()
        self._waiting.setdefault(job_id, []).append(ended)
        self._start()
        limit = asyncio.timeout(timeout_seconds)
        try:
            async with limit:
                while True:
                    # First ask to be told, then look: an end in between is seen by the one or the other.
                    await self._run(_PURPOSE, jobs.await_end(self._names, [job_id]))
                    row = await self._read(job_id)
                    if not _is_over(row):
                        await ended.wait()
                        ended.clear()
                        row = await self._read(job_id)
                    if _is_over(row):
                        return row
        except TimeoutError:
            if not limit.expired():
                raise
            return await self._read(job_id)
        finally:
            self._leave(job_id, ended)

    async def stop(self) -> None:
        """Stop polling and listening."""
        poller, self._poller = self._poller, None
        if poller is not None:
            await cancel_and_wait([poller])
        await self._listener.stop()

    async def _read(self, job_id: int) -> JobRow | None:
        row: JobRow | None = await self._run(_PURPOSE, jobs.get(self._names, job_id))
        return row

    def _start(self) -> None:
        self._listener.start()
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="perdure waiting")

    def _leave(self, job_id: int, ended: asyncio.Event) -> None:
        events = self._waiting[job_id]
        events.remove(ended)
        if not events:
            del self._waiting[job_id]

    def _notified(self, payload: str | None) -> None:
        if payload is None:  # connected just now: what was sent before is lost
            self._look.set()
        elif payload.isdecimal():
            self._tell(int(payload))

    def _tell(self, job_id: int) -> None:
        for ended in self._waiting.get(job_id, ()):
            ended.set()

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._polling_seconds):
                    await self._look.wait()
            self._look.clear()
            if not self._waiting:
                continue
            try:
                finished: list[int] = await self._run(_PURPOSE, jobs.finished(self._names, sorted(self._waiting)))
            except Exception as error:  # noqa: BLE001 - whatever it was: it is tried again, and nobody waits for ever
                _log.warning("waiting for %d jobs: %s: %s", len(self._waiting), type(error).__name__, error)
                continue
            for job_id in finished:
                self._tell(job_id)


def _is_over(row: JobRow | None) -> bool:
    return row is None or JobState.from_code(row.state).is_final
