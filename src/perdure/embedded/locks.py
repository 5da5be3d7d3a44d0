"""Locks that the kernel holds for processes, and drops with them, however they end.

Two kinds, for two questions. `FileLock` (flock) answers "is anybody there?": it belongs to an open file, so children
that inherit the file hold it too, and it is free when the last of them has gone. `claim` and `holder` (POSIX record
locks) answer "who is it?": they belong to one process, and the kernel tells its id. A process id that a file tells may
be another's by now; one that the kernel tells for a lock is not.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, Final, Self

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["FileLock", "claim", "holder", "signal_holder"]

_LOOK_SECONDS: Final = 0.02
# `struct flock`: type, whence, start, length, process id on Linux; start, length, process id, type, whence elsewhere.
_ON_LINUX: Final = sys.platform.startswith("linux")
_LAYOUT: Final = "hhqqi4x" if _ON_LINUX else "qqihhi"


class FileLock:
    """An flock on a file, which is made when it isn't there; not held until one of the methods has taken it."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @classmethod
    def inherited(cls, descriptor: int) -> Self:
        """Take over a descriptor from the parent process, with the lock that it may hold."""
        lock = cls.__new__(cls)
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - os has it so
        lock.descriptor = descriptor
        return lock

    def take(self) -> None:
        """Wait until nobody else holds it, and hold it alone."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def share(self) -> None:
        """Wait until nobody holds it alone, and hold it beside others."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def try_to_take(self, *, within_seconds: float = 0.0) -> bool:
        """Hold it alone, if that can be had in this time; otherwise it is as it was."""
        deadline = time.monotonic() + within_seconds
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_LOOK_SECONDS)
            else:
                return True

    def release(self) -> None:
        """Give it up, for processes that inherited it as well; it may be taken again."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Forget it. The lock lives on in processes that inherited it, if it wasn't released before."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def claim(descriptor: int) -> bool:
    """Make this process the one that `holder` tells, until it ends or closes any descriptor of the file."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def holder(path: Path) -> int | None:
    """Return the id of the process that has claimed the file; 0 when it can't be seen from here (in a container).

    Not for a process that has claimed the file itself: the look would undo that.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _request())
    finally:
        os.close(descriptor)
    fields = struct.unpack(_LAYOUT, answer)
    kind, process = (fields[0], fields[4]) if _ON_LINUX else (fields[3], fields[2])
    return None if kind == fcntl.F_UNLCK else process


def signal_holder(path: Path, number: signal.Signals) -> bool:
    """Send a signal to the process that has claimed the file, and to no other; return whether there was one."""
    process = holder(path)
    if not process:
        return False
    if not hasattr(os, "pidfd_open"):
        os.kill(process, number)
        return True
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return False
    try:
        # What the descriptor stands for can't change any more. If it has the claim now, it is the right one.
        if holder(path) != process:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _request() -> bytes:
    if _ON_LINUX:
        return struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return struct.pack(_LAYOUT, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET, 0)
