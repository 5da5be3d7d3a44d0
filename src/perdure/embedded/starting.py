"""Gets a folder's server to run: by the keeper that is there, or by a new one. One process at a time does so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.binaries import find_wheel
from perdure.embedded.locks import FileLock, holder
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from typing import IO

    from perdure.embedded.folder import Folder, State

__all__ = ["ensure_running"]

_ATTEMPTS: Final = 3
_LOOK_SECONDS: Final = 0.02
_DYING_SECONDS: Final = 5.0
_LARGE_LOG_BYTES: Final = 16_000_000


def ensure_running(home: Folder, grace_seconds: float) -> tuple[str, bool]:
    """Return the URL of the running server, and whether this call has started it. The caller holds the lock `users`.

    Raises:
        EmbeddedError: It can't be used here; says why and what would help.
    """
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
    program = [sys.executable, "-I", "-S", str(here.with_name("__main__.py")), str(here.parents[2])]
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
