"""One LISTEN connection a process, for whoever waits for a notification. Polling stands behind all of it.

A notification is a hint and never the truth: what was sent while nobody listened is lost, so everybody is told to
look for itself after each connect. Does not work behind a pooler in transaction mode; then the hints are missing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

import psycopg

from perdure.cancelling import cancel_and_wait
from perdure.store.sql import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listener"]

_log = logging.getLogger("perdure")
# A connection may be dead and look alive: a round trip tells.
_ROUND_TRIP_SECONDS = 10.0
_BACK_OFF_SECONDS = (0.1, 5.0)

KEEPALIVES: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Connection parameters by which a network that swallows packets is found out within half a minute."""


class Listener:
    """Listens on channels and calls back; connects and reconnects by itself, in one asyncio task.

    Attributes:
        is_listening: Whether it hears what is notified now.
    """

    def __init__(self, dsn: str) -> None:
        """Prepare to listen on the database of this dsn; nothing is connected before `start`."""
        self.is_listening = False
        self._dsn = dsn
        self._callbacks: dict[str, list[Callable[[str | None], None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._receiving: asyncio.Task[None] | None = None

    def add(self, channel: str, callback: Callable[[str | None], None]) -> None:
        """Call back with the payload of each notification on the channel, and with None after each connect."""
        self._callbacks.setdefault(channel, []).append(callback)
        if self._receiving is not None:
            self._receiving.cancel()  # to listen on the new channel as well

    def start(self) -> None:
        """Begin to listen, if not begun already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="perdure listener")

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_and_wait([task])

    async def _run(self) -> None:
        shortest, longest = _BACK_OFF_SECONDS
        delay_seconds = shortest
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    application_name="perdure listener",
                    client_encoding="UTF8",
                    **KEEPALIVES,
                )
            except psycopg.Error as error:
                _log.debug("listener: no connection: %s", error)
            else:
                delay_seconds = shortest
                try:
                    await self._listen(connection)
                except (psycopg.Error, OSError) as error:
                    _log.debug("listener: connection lost: %s", error)
                finally:
                    self.is_listening = False
                    await connection.close()
            await asyncio.sleep(delay_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay_seconds = min(longest, delay_seconds * 2)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        listening: set[str] = set()
        while True:
            while missing := self._callbacks.keys() - listening:
                channel = missing.pop()
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
            await connection.execute("")

    def _tell(self, channel: str, payload: str | None) -> None:
        for callback in self._callbacks.get(channel, ()):
            callback(payload)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
