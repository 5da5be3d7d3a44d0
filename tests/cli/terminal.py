"""Calls the command line on a terminal: what it prints there is another thing than in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine, Ended

__all__ = ["on_terminal"]

_DEADLINE_SECONDS = 50


def on_terminal(perdure: CommandLine, *arguments: str, columns: int = 200, with_errors: bool = False) -> Ended:
    """Call `perdure …` with a terminal as its standard output, and as its standard error if that is wanted."""
    from tests.cli.conftest import Ended  # noqa: PLC0415 - pytest imports it first

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    for variable in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
        inherited.pop(variable, None)
    process = subprocess.Popen(
        [sys.executable, "-c", "from perdure.cli import main; main()", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs if with_errors else subprocess.PIPE,
        cwd=perdure.folder,
        env=inherited | perdure.environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    printed = bytearray()
    reader = threading.Thread(target=_read, args=(ours, printed))
    reader.start()
    _nothing, errors = process.communicate(timeout=_DEADLINE_SECONDS)
    reader.join()
    os.close(ours)
    return Ended(process.returncode, printed.decode(), (errors or b"").decode())


def _read(descriptor: int, printed: bytearray) -> None:
    with contextlib.suppress(OSError):  # how a terminal says that nobody has its other end any more
        while data := os.read(descriptor, 65536):
            printed += data
