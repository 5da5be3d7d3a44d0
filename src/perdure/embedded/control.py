"""Looks at a folder's server from outside, and starts and stops it: what `perdure db` does."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.embedded.folder import Folder, State, refusal
from perdure.embedded.locks import FileLock, holder, signal_holder
from perdure.embedded.place import data_of
from perdure.embedded.postmaster import take_server_lock
from perdure.embedded.server import DEFAULT_FOLDER, acquire
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Status", "look", "pin", "stop", "wake"]

_ATTEMPTS: Final = 3
_STOP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02


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


def _has_users(home: Folder) -> bool:
    with FileLock(home.users) as users:
        if not users.try_to_take():
            return True
        users.release()
        return False


def _say_nothing(_text: str) -> None:
    """Whoever starts the server by name knows that it runs."""
