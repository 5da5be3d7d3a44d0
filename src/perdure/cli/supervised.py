"""The side of a supervised worker process: tells its supervisor how it is, and stops when that is gone.

The line is one end of a socket pair. Its other end closes with the supervisor, however that dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

__all__ = ["READY", "WAITING", "SupervisorLine"]

READY = "ready"
WAITING = "waiting"


class SupervisorLine:
    """The socket that the process was started with."""

    def __init__(self, descriptor: int) -> None:
        """Take the socket of this descriptor, and watch it."""
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
        self._socket = socket.socket(fileno=descriptor)
        threading.Thread(target=self._stop_when_closed, name="perdure supervisor line", daemon=True).start()

    def ready(self, what: str) -> None:
        """It claims."""
        self._send(READY, what)

    def waiting(self, why: str) -> None:
        """It can't start yet."""
        self._send(WAITING, why)

    def _send(self, kind: str, text: str) -> None:
        # A supervisor that has gone is not told; the thread below sees to the rest.
        with contextlib.suppress(OSError):
            self._socket.sendall(f"{kind} {' '.join(text.split())}\n".encode())

    def _stop_when_closed(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
