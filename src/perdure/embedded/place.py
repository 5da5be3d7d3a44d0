"""Where the server's data and its socket are: in `.perdure`, or elsewhere where that can't be, and never guessed twice.

The data are elsewhere when root's server, which runs as an unprivileged user, can't get through to `.perdure`. The
socket is elsewhere when its path would be longer than the kernel takes (107 bytes), or isn't plain.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from perdure.embedded.account import Account
from perdure.embedded.folder import OWN_DATABASE
from perdure.embedded.shelf import make_place
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from perdure.embedded.folder import Folder

__all__ = ["Address", "choose_place", "data_of", "make_socket_folder"]

# libpq and PostgreSQL take lists of hosts and folders, separated by commas; the rest is for the eyes.
_SPECIAL: Final = frozenset(",\"'\\")
_NAME: Final = ".s.PGSQL"


class Address:
    """Under which socket a data folder's server is found: the same at each start.

    The socket's number, a "port", comes from the cluster's own identifier, which initdb makes anew each time. So a
    server that outlives its deleted folder can't meet its successor, and others can't guess its socket's folder.
    """

    def __init__(self, data: Path) -> None:
        """Read the identifier."""
        with (data / "global" / "pg_control").open("rb") as control:
            self.identifier = int.from_bytes(control.read(8), sys.byteorder)

    @property
    def port(self) -> int:
        """The number in the socket's name; no TCP port is opened."""
        return 1024 + self.identifier % (65536 - 1024)

    @property
    def file_name(self) -> str:
        """The socket's name."""
        return f"{_NAME}.{self.port}"

    def folder_name(self, place: Path) -> str:
        """The name of the socket's folder, when it can't be in this place: another one for a copy of the data."""
        told = f"{self.identifier} ".encode() + os.fsencode(place)
        return f"perdure-{hashlib.sha256(told).hexdigest()[:16]}"

    def url(self, folder: Path) -> str:
        """The database's address, for a socket in this folder."""
        return f"postgresql://perdure@/perdure?host={quote(os.fsencode(folder), safe='')}&port={self.port}"


def data_of(folder: Folder) -> Path:
    """Return where the data are, or would be, if that has been decided; else where they would best be."""
    return _place_of(folder) / "data"


def choose_place(folder: Folder) -> Path:
    """Return the folder that has, or is to have, the data and the socket.

    Raises:
        EmbeddedError: The server's user can't get at any.
    """
    place = _place_of(folder)
    account = Account.of_server(place / "data")
    if place != folder.path and place.exists():
        return place
    if account.can_enter(folder.path) and place == folder.path:
        return place
    if (folder.path / "data").exists():
        message = (
            f"{folder.path}: the server runs as the user {account.name}, who can't get through to this folder any "
            f"more: let it pass through each of the folders above, or use {OWN_DATABASE}"
        )
        raise EmbeddedError(message)
    return make_place(folder, account)


def _place_of(folder: Folder) -> Path:
    try:
        return Path(folder.elsewhere.read_text(encoding="utf-8").rstrip("\n"))
    except FileNotFoundError:
        return folder.path


def make_socket_folder(place: Path, address: Address, account: Account) -> Path:
    """Make the folder of the socket, in which no one but the server's user, and root, can find it.

    Raises:
        EmbeddedError: No folder will do.
    """
    candidates = [place / "socket"]
    bases = dict.fromkeys([tempfile.gettempdir(), "/tmp"])  # noqa: S108 - what is there is checked
    candidates += [Path(base, address.folder_name(place)) for base in bases]
    reasons: list[str] = []
    for folder in candidates:
        try:
            _make_private(folder, account)
        except OSError as error:
            reasons.append(f"{folder}: {error}")
            continue
        try:
            _try_socket(folder, address)
        except OSError as error:
            reasons.append(f"{folder}: {error}")
        else:
            if account.can_enter(folder):
                return folder
            reasons.append(f"{folder}: the user {account.name} can't get through to it")
        with contextlib.suppress(OSError):
            folder.rmdir()
    message = (
        f"no folder will do for the server's socket: {'; '.join(reasons)}. Work in a folder with a shorter path, set "
        f"TMPDIR, or use {OWN_DATABASE}"
    )
    raise EmbeddedError(message)


def _make_private(folder: Path, account: Account) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        there = folder.lstat()
        private = stat.S_ISDIR(there.st_mode) and not there.st_mode & 0o077
        if not private or there.st_uid not in {account.uid, os.geteuid()}:
            message = "is there already, and others can get in"
            raise PermissionError(message) from None
    account.give(folder)


def _try_socket(folder: Path, address: Address) -> None:
    """Make a socket: the path may be too long, and not all file systems have sockets."""
    if _SPECIAL.intersection(str(folder)) or not str(folder).isprintable():
        message = "its path has characters that mean something else in an address"
        raise OSError(message)
    probe = folder / address.file_name
    probe.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(probe))
    probe.unlink()
