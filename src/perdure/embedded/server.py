"""What users of the embedded PostgreSQL call: `acquire` it, and close it.

A user holds the lock `users` with others; nothing else is registered anywhere, so nothing is left of one that was
killed. The rest is the keeper's, a process that the first user starts (`keeper.py`).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.folder import OWN_DATABASE, Folder, name_of_user, refusal
from perdure.embedded.locks import FileLock, holder
from perdure.embedded.place import data_of
from perdure.embedded.starting import ensure_running
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

__all__ = ["DEFAULT_FOLDER", "EmbeddedServer", "acquire"]

DEFAULT_FOLDER: Final = Path(".perdure")
"""Where it is when nothing else is said: in the current folder."""

_GRACE_SECONDS: Final = 5.0
_WATCH_SECONDS: Final = 1.0

_logger = logging.getLogger(__name__)


def _say(text: str) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - so it is under pythonw and the like
        sys.stderr.write(f"{text}\n")


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
                    ensure_running(self._folder, self._grace_seconds)
            except (EmbeddedError, OSError) as error:
                _logger.warning("the embedded PostgreSQL in %s isn't there any more: %s", self._folder.path, error)


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
            url, is_new = ensure_running(home, grace_seconds)
            if is_new:
                announce(_announcement(home))
        except BaseException:
            users.close()
            raise
    except OSError as error:
        raise refusal(error, home.path) from error
    return EmbeddedServer(home, users, url, grace_seconds=grace_seconds)


def _announcement(home: Folder) -> str:
    state = home.read_state()
    data = data_of(home)
    what = "an embedded PostgreSQL" if state is None else f"an embedded PostgreSQL {state.version}"
    text = f"perdure: no database is configured, so {what} runs in {home.path}, for development."
    if data.parent != home.path:
        text += f" Its data are in {data}, since its user ({name_of_user(data.stat().st_uid)}) can't reach that folder."
    return f"{text} To use {OWN_DATABASE}."
