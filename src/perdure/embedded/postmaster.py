"""The server's first process: started as the keeper's child, waited for, stopped.

All processes of the server hold the lock `server`, which they inherit; the first one has claimed `postmaster`. So the
kernel tells whether something of a server is left, and whom to signal, whatever files say.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from perdure.embedded.account import bound_to_this_process
from perdure.embedded.foreign import clear_away_pid_file, foreign_server
from perdure.embedded.locks import FileLock, claim, signal_holder
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perdure.embedded.account import Account
    from perdure.embedded.binaries import Binaries
    from perdure.embedded.folder import Folder
    from perdure.embedded.place import Address

__all__ = ["Postmaster", "take_server_lock"]

_LOOK_SECONDS: Final = 0.02
_START_SECONDS: Final = 120.0
# How long each way of stopping may take: "fast", then "immediate", then the kernel's.
_STOP_STEPS: Final = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
_READY_LINE: Final = 7


def take_server_lock(folder: Folder) -> FileLock:
    """Wait until nothing of an earlier server is left, ending it if need be, and return the lock for the next one.

    Raises:
        EmbeddedError: Something of it stays.
    """
    lock = FileLock(folder.server)
    # A keeper that was killed takes its server with it, where the kernel does that: here and now.
    if lock.try_to_take(within_seconds=0.5):
        return lock
    for number, seconds in _STOP_STEPS:
        signal_holder(folder.postmaster, number)
        if lock.try_to_take(within_seconds=seconds):
            return lock
    lock.close()
    message = f"processes of an earlier server in {folder.path} don't end; {folder.log} may say why"
    raise EmbeddedError(message)


class Postmaster:
    """A running server.

    Attributes:
        data: The folder of its data.
    """

    def __init__(self, process: subprocess.Popen[str], data: Path) -> None:
        """Take the process over."""
        self._process = process
        self.data = data

    @classmethod
    def start(
        cls, folder: Folder, data: Path, address: Address, sockets: Path, *, binaries: Binaries, account: Account
    ) -> Postmaster:
        """Start the server, once nothing of an earlier one is left; it isn't ready yet.

        Raises:
            EmbeddedError: It can't be started, or another server is there that isn't ours.
        """
        with take_server_lock(folder) as lock:
            stranger = foreign_server(data)
            if stranger is not None:
                message = f"a server that perdure didn't start runs on {data}: process {stranger}. Stop it: pg_ctl stop"
                raise EmbeddedError(message)
            clear_away_pid_file(data)
            for left in (sockets / address.file_name, sockets / f"{address.file_name}.lock"):
                left.unlink(missing_ok=True)
            settings = {
                "unix_socket_directories": f'"{sockets}"',
                "unix_socket_permissions": "0700",
                "listen_addresses": "",
                "port": str(address.port),
                "logging_collector": "off",
                "log_destination": "stderr",
            }
            command: list[str | Path] = [binaries.postgres, "-D", data]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            return cls(_start(command, folder, account, lock), data)

    @property
    def has_ended(self) -> bool:
        """Whether its process is no more."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code, 0 after it was told to stop, or less than 0: the signal that ended it."""
        return self._process.poll()

    def wait_until_ready(self, is_cancelled: Callable[[], bool]) -> None:
        """Wait until it takes connections.

        Raises:
            EmbeddedError: It has ended, wasn't ready in time, or was cancelled.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self.has_ended:
                message = f"the server ended while it started ({self.exit_code})"
                raise EmbeddedError(message)
            if is_cancelled() or time.monotonic() > deadline:
                self.stop()
                message = f"the server wasn't ready within {_START_SECONDS:.0f} s, or was told to stop"
                raise EmbeddedError(message)
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Stop it: without waiting for its clients, but with everything written that it has promised."""
        for number, seconds in _STOP_STEPS:
            # A child that nobody has waited for keeps its id: this can't hit anybody else.
            self._process.send_signal(number)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            return

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return False
        own = lines[:1] == [str(self._process.pid)]
        return own and len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"


def _start(command: list[str | Path], folder: Folder, account: Account, lock: FileLock) -> subprocess.Popen[str]:
    """Start the process, with the lock and the claim, and with the end of this process as its own."""
    descriptor = os.open(folder.postmaster, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    bind = bound_to_this_process(signal.SIGINT)

    def in_the_child() -> None:
        bind()
        claim(descriptor)

    try:
        return account.start(
            command, stdin=subprocess.DEVNULL, pass_fds=(descriptor, lock.descriptor), preexec_fn=in_the_child
        )
    finally:
        os.close(descriptor)
