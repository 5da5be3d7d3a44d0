"""One LISTEN connection a process, for whoever waits for a notification. Polling stands behind all of it.

A notification is a hint and never the truth: what was sent while nobody listened is lost, so everybody is told to
look for itself after each connect. Behind a pooler in transaction mode none arrives, and nothing says so: the listener
finds that out by notifying itself, and then leaves all of it to the polls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from perdure.cancelling import cancel_and_wait
from perdure.store.links import CONNECT_SECONDS, cut, cut_after, not_for_ever
from perdure.store.resolving import resolved
from perdure.store.sessions import session_is_ours
from perdure.store.sql import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listener", "job_id_of"]

_log = logging.getLogger("perdure")
# A connection may be dead and look alive: a round trip tells.
_ROUND_TRIP_SECONDS = 10.0
_BACK_OFF_SECONDS = (0.1, 5.0)
# To be heard by oneself: over another connection, since on the same one it might arrive where no other would.
_OWN_CHANNEL: Final = "perdure_own"
_HEARING_SECONDS = 3.0
_HEARS_AGAIN_SECONDS = 60.0
_LONGEST_ID: Final = 19


def job_id_of(payload: str) -> int | None:
    """Read a job's id that a notification holds; None when that is something else: anybody may notify anything."""
    is_id = payload.isascii() and payload.isdecimal() and len(payload) <= _LONGEST_ID
    return int(payload) if is_id else None


class Listener:
    """Listens on channels and calls back; connects and reconnects by itself, in one asyncio task.

    Attributes:
        is_listening: Whether it hears what is notified now.
        is_deaf: Whether it won't: it isn't wanted, or has found out that nothing arrives.
    """

    def __init__(
        self,
        dsn: str,
        *,
        is_wanted: bool = True,
        keeps_sessions: bool = True,
        on_deaf: Callable[[bool], None] | None = None,
        purpose: str = "everything",
    ) -> None:
        """Prepare to listen; nothing is connected before `start`.

        Args:
            dsn: The database.
            is_wanted: Whether to listen at all.
            keeps_sessions: Whether a session may be taken for ours, so that it can listen, when no pooler is noticed.
            on_deaf: Called once it is known that nothing arrives, or that something does after all.
            purpose: What is polled for while nothing arrives, to be named in the log.
        """
        self.is_listening = False
        self.is_deaf = not is_wanted
        self._dsn = dsn
        self._is_wanted = is_wanted
        self._keeps_sessions = keeps_sessions
        self._on_deaf = on_deaf
        self._purpose = purpose
        self._callbacks: dict[str, list[Callable[[str | None], None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def add(self, channel: str, callback: Callable[[str | None], None]) -> None:
        """Call back with the payload of each notification on the channel, and with None after each connect."""
        self._callbacks.setdefault(channel, []).append(callback)
        if self._receiving is not None:
            self._receiving.cancel()  # to listen on the new channel as well

    def start(self) -> None:
        """Begin to listen, if that is wanted and not begun already."""
        if not self._is_wanted:
            if self._on_deaf is not None:
                self._on_deaf(True)  # noqa: FBT003 - the callback's only argument
        elif self._task is None:
            self._task = asyncio.create_task(self._run(), name="perdure listener")

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        task, self._task = self._task, None
        if task is not None:
            connection = self._connection
            if connection is not None and connection.info.transaction_status is TransactionStatus.ACTIVE:
                cut(connection)  # it waits for an answer, and its cancellation would, too
            await cancel_and_wait([task])

    async def _run(self) -> None:
        shortest, longest = _BACK_OFF_SECONDS
        delay_seconds = shortest
        while True:
            try:
                connection = self._connection = await self._connect()
            except psycopg.Error as error:
                _log.debug("listener: no connection: %s", error)
            else:
                try:
                    with cut_after(connection, CONNECT_SECONDS):
                        hears = await self._hears(connection)
                    delay_seconds = shortest
                    self._tell_deaf(is_deaf=not hears)
                    if hears:
                        await self._listen(connection)
                except (psycopg.Error, OSError) as error:
                    _log.debug("listener: connection lost: %s", error)
                finally:
                    self.is_listening, self._connection = False, None
                    await connection.close()
            if self.is_deaf:
                delay_seconds = _HEARS_AGAIN_SECONDS
            await asyncio.sleep(delay_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay_seconds = min(longest, delay_seconds * 2)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            await resolved(self._dsn),
            autocommit=True,
            prepare_threshold=None,
            application_name="perdure listener",
            client_encoding="UTF8",
            **not_for_ever(self._dsn),
        )

    async def _hears(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Find out whether notifications arrive on a connection. They do in a session that is ours."""
        if self._keeps_sessions and await session_is_ours(connection):
            return True
        own = quote_identifier(_OWN_CHANNEL)
        token = secrets.token_hex(8)
        try:
            async with await self._connect() as telling:
                await connection.execute(f"listen {own}".encode())
                await telling.execute("select pg_notify(%s, %s)", [_OWN_CHANNEL, token])
                async for notification in connection.notifies(timeout=_HEARING_SECONDS):
                    if notification.payload == token:
                        return True
            return False
        finally:
            if not connection.closed:
                await connection.execute(f"unlisten {own}".encode())

    def _tell_deaf(self, *, is_deaf: bool) -> None:
        if is_deaf == self.is_deaf:
            return
        self.is_deaf = is_deaf
        if is_deaf:
            _log.warning(
                "notifications don't arrive, as behind a pooler in transaction mode: polling for %s", self._purpose
            )
        else:
            _log.warning("notifications arrive again: no more polling alone for %s", self._purpose)
        if self._on_deaf is not None:
            self._on_deaf(is_deaf)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        listening: set[str] = set()
        while True:
            while missing := self._callbacks.keys() - listening:
                channel = missing.pop()
                with cut_after(connection, _ROUND_TRIP_SECONDS):
                    await connection.execute(f"listen {quote_identifier(channel)}".encode())
                listening.add(channel)
                self._tell(channel, None)
            self.is_listening = True
            self._receiving = asyncio.create_task(self._receive(connection))
            try:
                await self._receiving
            except asyncio.CancelledError:
                if _is_cancelled():  # by `stop`, or with the event loop; else `add` has only interrupted the receiving
                    self._receiving.cancel()
                    raise
            finally:
                self._receiving = None

    async def _receive(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            async for notification in connection.notifies(timeout=_ROUND_TRIP_SECONDS):
                self._tell(notification.channel, notification.payload)
            with cut_after(connection, _ROUND_TRIP_SECONDS):
                await connection.execute("")

    def _tell(self, channel: str, payload: str | None) -> None:
        for callback in self._callbacks.get(channel, ()):
            callback(payload)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
