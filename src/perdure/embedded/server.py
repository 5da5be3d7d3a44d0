"""What users of the embedded PostgreSQL call: `acquire` it, look at it, stop it.

A user holds the lock `users` with others; nothing else is registered anywhere, so nothing is left of one that was
killed. The rest is the keeper's, a process that the first user starts (`keeper.py`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.binaries import find_wheel
from perdure.embedded.folder import OWN_DATABASE, Folder, State, name_of_user, refusal
from perdure.embedded.locks import FileLock, holder, signal_holder
from perdure.embedded.place import data_of
from perdure.embedded.postmaster import take_server_lock
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO, Self

__all__ = ["DEFAULT_FOLDER", "EmbeddedServer", "Status", "acquire", "look", "pin", "stop", "wake"]

DEFAULT_FOLDER: Final = Path(".perdure")
"""Where it is when nothing else is said: in the current folder."""

_GRACE_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3
_WATCH_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02
_DYING_SECONDS: Final = 5.0
_LARGE_LOG_BYTES: Final = 16_000_000

_logger = logging.getLogger(__name__)


def _say(text: str) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - so it is under pythonw and the like
        sys.stderr.write(f"{text}\n")


def _say_nothing(_text: str) -> None:
    """Whoever starts the server by name knows that it runs."""


class EmbeddedServer:
    """One user's hold on the server: it runs at least until `close`, or until this process ends.

    Attributes:
        url: The address of its database, as psycopg takes it; the same at each start of this folder's server.
    """

    def __init__(self, folder: Folder, users: FileLock, url: str, *, grace_seconds: float) -> None:
        """Take over the lock. Made by `acquire`."""
        self.url = url
        self._folder = folder
        self._users = users
        self._grace_seconds = grace_seconds
        self._process = os.getpid()
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._watch_keeper, name="perdure-embedded", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Let go of the server; the last user's keeper stops it a few seconds later. May be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._watch.join()
        if os.getpid() == self._process:  # in a forked child it is its parent's lock as well
            self._users.release()
        self._users.close()

    def __enter__(self) -> Self:
        """Use it in a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _watch_keeper(self) -> None:
        """Start another keeper when this one was killed: a server shall not be gone while it has users."""
        while not self._closing.wait(_WATCH_SECONDS):
            try:
                if holder(self._folder.keeper) is None and self._folder.state_file.exists():
                    _logger.warning(
                        "the embedded PostgreSQL in %s lost its keeper; starting it again", self._folder.path
                    )
                    _ensure_running(self._folder, self._grace_seconds)
            except (EmbeddedError, OSError) as error:
                _logger.warning("the embedded PostgreSQL in %s isn't there any more: %s", self._folder.path, error)


@dataclass(frozen=True)
class Status:
    """What `look` finds.

    Attributes:
        folder: The folder.
        state: Of the running server; None when it doesn't run.
        is_starting: Whether it is just being started, or stopped.
        is_in_use: Whether there are users.
        is_pinned: Whether it stays without users.
        data: Where its data are, or will be.
        log: Its log.
    """

    folder: Path
    state: State | None
    is_starting: bool
    is_in_use: bool
    is_pinned: bool
    data: Path
    log: Path


def acquire(
    folder: Path = DEFAULT_FOLDER,
    *,
    grace_seconds: float = _GRACE_SECONDS,
    announce: Callable[[str], None] = _say,
) -> EmbeddedServer:
    """Hold this folder's server, which is set up and started if it has to be. Blocks meanwhile: seconds at first.

    Args:
        folder: Where it lives; made if it isn't there, the folder around it isn't.
        grace_seconds: How long it goes on after its last user; counts if this call starts it.
        announce: Is told, in a short paragraph, that an embedded PostgreSQL runs and how to use one's own; by the
            process that starts it alone.

    Raises:
        EmbeddedError: It can't be used here; says why and what would help.
    """
    if sys.platform == "win32":
        message = f"the embedded PostgreSQL runs on Linux and macOS alone: use {OWN_DATABASE}"
        raise EmbeddedError(message)
    home = Folder.prepare(folder)
    try:
        users = FileLock(home.users)
        try:
            users.share()
            url, is_new = _ensure_running(home, grace_seconds)
            if is_new:
                announce(_announcement(home))
        except BaseException:
            users.close()
            raise
    except OSError as error:
        raise refusal(error, home.path) from error
    return EmbeddedServer(home, users, url, grace_seconds=grace_seconds)


def look(folder: Path = DEFAULT_FOLDER) -> Status:
    """Look at a folder's server; changes nothing, and the folder needn't be there.

    Raises:
        EmbeddedError: It is somebody else's.
    """
    home = Folder.at(folder)
    try:
        return _look(home)
    except OSError as error:
        raise refusal(error, home.path) from error


def _look(home: Folder) -> Status:
    has_keeper = holder(home.keeper) is not None
    state = home.read_state() if has_keeper else None
    return Status(
        folder=home.path,
        state=state,
        is_starting=has_keeper and state is None,
        is_in_use=has_keeper and _has_users(home),
        is_pinned=has_keeper and home.pinned.exists(),
        data=data_of(home),
        log=home.log,
    )


def pin(folder: Path = DEFAULT_FOLDER) -> str:
    """Start a folder's server, if it doesn't run, and let it run without users until it is stopped; return its URL."""
    with acquire(folder, announce=_say_nothing) as server:
        Folder.at(folder).pinned.touch()
        return server.url


def wake(folder: Path = DEFAULT_FOLDER) -> str:
    """Return the URL of a folder's server, which is started if it has stopped, and stays while anybody is connected.

    Raises:
        EmbeddedError: There is none in this folder yet, or it can't be started.
    """
    found = look(folder)
    if found.state is not None:
        return found.state.url
    if not found.data.exists():
        message = f"there is no embedded PostgreSQL in {found.folder} yet: `perdure db start` makes one"
        raise EmbeddedError(message)
    with acquire(folder, announce=_say_nothing) as server:
        return server.url


def stop(folder: Path = DEFAULT_FOLDER) -> bool:
    """Stop a folder's server, whoever uses it, and wait for its end; return whether there was one.

    Raises:
        EmbeddedError: It doesn't end, or isn't ours to stop.
    """
    home = Folder.at(folder)
    was_there = False
    try:
        for _attempt in range(_ATTEMPTS):  # again, if users have meanwhile replaced a keeper that was killed
            if holder(home.keeper) is not None:
                _stop_keeper(home)
                was_there = True
            if not home.state_file.exists():
                return was_there
            if _clear_away(home):
                return True
    except OSError as error:
        raise refusal(error, home.path) from error
    message = f"the server in {home.path} is started again and again by others"
    raise EmbeddedError(message)


def _stop_keeper(home: Folder) -> None:
    """Let a keeper stop its server, and wait until it has ended."""
    process = holder(home.keeper)
    if process == 0:
        message = f"the server in {home.path} was started in another container: stop it there"
        raise EmbeddedError(message)
    signal_holder(home.keeper, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while process is not None and holder(home.keeper) == process:
        if time.monotonic() > deadline:
            message = f"the server in {home.path} doesn't end; {home.log} may say why"
            raise EmbeddedError(message)
        time.sleep(_LOOK_SECONDS)


def _clear_away(home: Folder) -> bool:
    """Make sure that nothing is left of a server whose keeper was killed; False if there is another keeper by now."""
    with FileLock(home.starting) as starting:
        starting.take()
        if holder(home.keeper) is not None:
            return False
        home.state_file.unlink(missing_ok=True)  # tells the users that it is meant: none of them starts it again
        take_server_lock(home).close()
    return True


def _ensure_running(home: Folder, grace_seconds: float) -> tuple[str, bool]:
    """Return the URL of the running server, and whether this call has started it."""
    for _attempt in range(_ATTEMPTS):
        # Held by us, then by the keeper that we start, until its server is ready: all others wait here.
        with FileLock(home.starting) as starting:
            starting.take()
            state = _state_of_keeper(home)
            if state is not None:
                starting.release()
                return state.url, False
            report = _start_keeper(home, starting, grace_seconds)
        if "error" in report:
            raise EmbeddedError(report["error"])
        if "url" in report:
            return report["url"], True
        # It was killed in the midst. What it had begun is cleared away by the next one.
    message = f"the keeper of the embedded PostgreSQL in {home.path} was ended {_ATTEMPTS} times; see {home.log}"
    raise EmbeddedError(message)


def _state_of_keeper(home: Folder) -> State | None:
    """Return what the keeper has noted; None if there is no keeper, or no more."""
    deadline = time.monotonic() + _DYING_SECONDS
    while holder(home.keeper) is not None:
        state = home.read_state()
        if state is not None:
            return state
        # It holds nothing that we need, so it is ending: in no time, unless somebody has deleted the notes.
        if time.monotonic() > deadline:
            message = f"{home.state_file} is missing, though the server runs; `perdure db stop`, then try again"
            raise EmbeddedError(message)
        time.sleep(_LOOK_SECONDS)
    return None


def _start_keeper(home: Folder, starting: FileLock, grace_seconds: float) -> dict[str, str]:
    """Start a keeper and wait for its report; an empty one is that of a keeper that was killed."""
    arguments = [str(home.path), str(find_wheel()), str(grace_seconds)]
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        try:
            _spawn(home, arguments, [writer, starting.descriptor])
        except OSError as error:
            message = f"the keeper of the embedded PostgreSQL in {home.path} couldn't be started: {error}"
            raise EmbeddedError(message) from error
        finally:
            os.close(writer)
        told = stream.read()
    return dict(json.loads(told)) if told else {}


def _spawn(home: Folder, arguments: list[str], descriptors: list[int]) -> None:
    here = Path(__file__).resolve()
    program = [sys.executable, "-I", str(here.with_name("__main__.py")), str(here.parents[2])]
    with _open_log(home) as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [*program, *arguments, *map(str, descriptors)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
        )
    process.wait()  # it detaches itself at once


def _open_log(home: Folder) -> IO[bytes]:
    if home.log.exists() and home.log.stat().st_size > _LARGE_LOG_BYTES:
        home.log.replace(home.log.with_name(f"{home.log.name}.1"))
    # For its owner's eyes: statements are in it, with their values.
    return os.fdopen(os.open(home.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def _has_users(home: Folder) -> bool:
    with FileLock(home.users) as users:
        if not users.try_to_take():
            return True
        users.release()
        return False


def _announcement(home: Folder) -> str:
    state = home.read_state()
    data = data_of(home)
    what = "an embedded PostgreSQL" if state is None else f"an embedded PostgreSQL {state.version}"
    text = f"perdure: no database is configured, so {what} runs in {home.path}, for development."
    if data.parent != home.path:
        text += f" Its data are in {data}, since its user ({name_of_user(data.stat().st_uid)}) can't reach that folder."
    return f"{text} To use {OWN_DATABASE}."
