"""Runs one server for as long as the test run lives, so that no run leaves one behind, however it ends.

    python guard.py RUN FOLDER USER COMMAND…

RUN is the test run's folder. Its owner (pytest's main process) holds an exclusive flock on RUN/owner.lock, which the
kernel drops with it, also at SIGKILL; the guard waits for that lock in a thread. Once it has it, the command gets
SIGINT (PostgreSQL: a fast shutdown), then SIGKILL, and FOLDER is removed. Meanwhile the guard shares a flock on
RUN/guards.lock, so that the owner can wait for all guards. USER is a name, or `-` for the present one.

The guard detaches itself at once. It writes the command's process id to FOLDER/server.pid and, when the command has
ended, its exit code to FOLDER/server.exit. This file imports the standard library alone and is run by its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

_STOPPING_SECONDS = 10.0


def main() -> None:
    """Run the command until it ends by itself, or its owner has gone."""
    run, folder, user, *command = sys.argv[1:]
    guards = Path(run, "guards.lock").open("rb")  # noqa: SIM115 - held until this process ends
    fcntl.flock(guards, fcntl.LOCK_SH)
    # Detached, and in a session of its own: what a terminal sends to the whole group is for the owner.
    if os.fork():
        os._exit(0)
    os.setsid()
    process = subprocess.Popen(command, start_new_session=True, **_identity(user))
    _write(Path(folder, "server.pid"), process.pid)
    owner_gone = threading.Event()
    threading.Thread(target=_stop_when_owner_is_gone, args=(Path(run), process, owner_gone), daemon=True).start()
    code = process.wait()
    _write(Path(folder, "server.exit"), code)
    if owner_gone.is_set():
        _remove(Path(run), Path(folder), guards)


def _stop_when_owner_is_gone(run: Path, process: subprocess.Popen[bytes], owner_gone: threading.Event) -> None:
    with (run / "owner.lock").open("rb") as owner:
        fcntl.flock(owner, fcntl.LOCK_SH)
    owner_gone.set()
    process.send_signal(signal.SIGCONT)  # a test may have frozen it
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _remove(run: Path, folder: Path, guards: IO[bytes]) -> None:
    """Remove the server's folder; the run's too by the last guard, which alone gets its lock exclusively."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(guards, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(run, ignore_errors=True)


def _identity(user: str) -> dict[str, Any]:
    if user == "-":
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _write(path: Path, number: int) -> None:
    """Write all or nothing: somebody waits for this file."""
    draft = path.with_suffix(path.suffix + ".new")
    draft.write_text(f"{number}\n", encoding="ascii")
    draft.rename(path)


if __name__ == "__main__":
    main()
