"""How a connection that looks alive and is dead is found out: by the kernel, or by who waits for too long.

The kernel finds out when packets get lost. It doesn't where somebody in between (a proxy, a pooler, a load balancer)
takes the bytes and passes nothing on: who waits for an answer then has to set a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import AsyncConnection, BaseConnection, Connection

__all__ = ["CONNECT_SECONDS", "Limits", "Watch", "cut", "cut_after", "cut_after_blocking", "not_for_ever"]

_LOOK_SECONDS: Final = 1.0
_IDLE_LOOKS: Final = 60

CONNECT_SECONDS: Final = 10
"""How long to try to connect: the kernel tries for minutes, at growing delays, when the network is back already."""

_WITHIN_HALF_A_MINUTE: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Connection parameters by which a network that swallows packets is found out in time."""


def not_for_ever(dsn: str) -> dict[str, Any]:
    """Connection parameters by which a network that swallows packets is found out, but for those that the dsn sets."""
    theirs = conninfo_to_dict(dsn)
    return {key: value for key, value in _WITHIN_HALF_A_MINUTE.items() if key not in theirs}


def cut(connection: BaseConnection[Any]) -> None:
    """Break a connection, so that whoever waits for its answer gets an error at once. From any thread.

    Closing it would leave the waiter to wait, and a cancellation first asks the server to cancel, in vain.
    """
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        return  # it is closed already


@contextlib.contextmanager
def cut_after(connection: AsyncConnection[Any], seconds: float) -> Generator[None]:
    """Break the connection if the block takes longer: what waits in it gets psycopg's error for a lost connection."""
    timer = asyncio.get_running_loop().call_later(seconds, cut, connection)
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def cut_after_blocking(connection: Connection[Any], seconds: float) -> Generator[None]:
    """As `cut_after`, where there is no event loop."""
    timer = threading.Timer(seconds, cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Limits:
    """As `cut_after` for many short blocks: one timer for all of them, since one for each would cost too much.

    All have the same limit, so that the first to begin is the first to have reached it.
    """

    def __init__(self) -> None:
        """Limit nothing yet."""
        self._limits_at_seconds: dict[AsyncConnection[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: AsyncConnection[Any], seconds: float) -> None:
        """Break the connection if `end` isn't called within the limit."""
        loop = asyncio.get_running_loop()
        limit_at_seconds = self._limits_at_seconds[connection] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_at(limit_at_seconds, self._look)

    def end(self, connection: AsyncConnection[Any]) -> None:
        """It is no longer waited for."""
        del self._limits_at_seconds[connection]

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for connection, limit_at_seconds in self._limits_at_seconds.items():
            if limit_at_seconds > loop.time():
                self._timer = loop.call_at(limit_at_seconds, self._look)
                return
            cut(connection)


class Watch:
    """As `cut_after_blocking` for many short blocks: one thread for all of them, which ends when there are none."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._limits_at_seconds: dict[BaseConnection[Any], float] = {}
        self._lock = threading.Lock()
        self._is_watching = False

    @contextlib.contextmanager
    def over(self, connection: Connection[Any], seconds: float) -> Generator[None]:
        """Break the connection if the block takes longer, by a second or so."""
        with self._lock:
            self._limits_at_seconds[connection] = time.monotonic() + seconds
            if not self._is_watching:
                self._is_watching = True
                threading.Thread(target=self._watch, name="perdure watch", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                del self._limits_at_seconds[connection]

    def _watch(self) -> None:
        idle_looks = 0
        while idle_looks < _IDLE_LOOKS:
            time.sleep(_LOOK_SECONDS)
            now_seconds = time.monotonic()
            with self._lock:
                # Under the lock, so that none is cut whose block has ended.
                for connection, limit_at_seconds in self._limits_at_seconds.items():
                    if now_seconds > limit_at_seconds:
                        cut(connection)
                idle_looks = 0 if self._limits_at_seconds else idle_looks + 1
                if idle_looks >= _IDLE_LOOKS:
                    self._is_watching = False
