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
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import AsyncConnection, BaseConnection, Connection

__all__ = ["CONNECT_SECONDS", "KEEPALIVES", "cut", "cut_after", "cut_after_blocking"]

CONNECT_SECONDS: Final = 10
"""How long to try to connect: the kernel tries for minutes, at growing delays, when the network is back already."""

KEEPALIVES: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Connection parameters by which a network that swallows packets is found out within half a minute."""


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
