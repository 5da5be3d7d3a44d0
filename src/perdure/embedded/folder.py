"""The folder `.perdure`: what is in it, and whether it can be used by whoever asks.

    .gitignore        `*`
    locks/            see `locks.py`; who holds which is told at `Folder`
    server.json       the running server's address; gone once it was stopped on purpose
    pinned            there after `perdure db start`: the server stays without users
    postgresql.log    what the server and its keeper say
    data/, socket/    the server's own, unless `elsewhere` names another folder for them

Modes of folders that were there before are never changed.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OWN_DATABASE", "Folder", "State", "name_of_user", "refusal", "write_whole"]

OWN_DATABASE: Final = 'a database of your own: App("postgresql://…") or PERDURE_DSN=postgresql://…'

_PRIVATE: Final = 0o700
# As root: the server's user must get through to its data, and can neither list nor change what else is there.
_PASSABLE: Final = 0o711
# PostgreSQL's own limit on a path is 1023 bytes, with its files' names.
_LONGEST_PATH: Final = 900


@dataclass(frozen=True)
class State:
    """What a ready server's keeper notes for others.

    Attributes:
        url: The address of the database.
        data: The folder of its data.
        version: Of PostgreSQL.
    """

    url: str
    data: str
    version: str


@dataclass(frozen=True)
class Folder:
    """A folder `.perdure`, by its absolute path without symbolic links.

    Locks (flock): `users` is shared by all who use the server, and taken by a keeper that ends it for want of users;
    `starting` is taken by who starts a keeper, then held by the keeper until the server is ready; `server` is held by
    all processes of the server. Claims (POSIX): `keeper` by the keeper, `postmaster` by the server's first process.
    """

    path: Path

    @property
    def users(self) -> Path:  # noqa: D102 - see the class
        return self.path / "locks" / "users"

    @property
    def starting(self) -> Path:  # noqa: D102
        return self.path / "locks" / "starting"

    @property
    def server(self) -> Path:  # noqa: D102
        return self.path / "locks" / "server"

    @property
    def keeper(self) -> Path:  # noqa: D102
        return self.path / "locks" / "keeper"

    @property
    def postmaster(self) -> Path:  # noqa: D102
        return self.path / "locks" / "postmaster"

    @property
    def log(self) -> Path:
        """What the server and its keeper say."""
        return self.path / "postgresql.log"

    @property
    def elsewhere(self) -> Path:
        """A file with the path of the folder that has the data instead of this one."""
        return self.path / "elsewhere"

    @property
    def pinned(self) -> Path:
        """A file that keeps the server up without users."""
        return self.path / "pinned"

    @property
    def state_file(self) -> Path:
        """The notes about a ready server."""
        return self.path / "server.json"

    def read_state(self) -> State | None:
        """Return the notes about the server; None when it was stopped on purpose or never started."""
        try:
            return State(**json.loads(self.state_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            message = f"{self.state_file} isn't what perdure wrote; `perdure db stop`, then try again"
            raise EmbeddedError(message) from error

    def write_state(self, state: State) -> None:
        """Note that the server is ready."""
        write_whole(self.state_file, json.dumps(vars(state), indent=2) + "\n")

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Name a folder, which needn't be there."""
        try:
            return cls(path.resolve())
        except OSError as error:
            raise refusal(error, path) from error

    @classmethod
    def prepare(cls, path: Path) -> Folder:
        """Make the folder, if it isn't there, and make sure that it can be used.

        Raises:
            EmbeddedError: It can't: another user's, read-only, no folder, too long a path.
        """
        folder = cls.at(path)
        if len(os.fsencode(folder.path)) > _LONGEST_PATH:
            message = (
                f"{folder.path}: the path is too long for PostgreSQL, {len(os.fsencode(folder.path))} bytes; "
                f"{_LONGEST_PATH} are allowed. Work in a folder with a shorter one, or use {OWN_DATABASE}"
            )
            raise EmbeddedError(message)
        try:
            folder._make()
        except OSError as error:
            raise refusal(error, folder.path) from error
        return folder

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=_PRIVATE)
        except FileExistsError:
            pass
        else:
            self.path.chmod(_PASSABLE if os.geteuid() == 0 else _PRIVATE)
        self._check_owner()
        self._check_contents()
        (self.path / "locks").mkdir(mode=_PRIVATE, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            write_whole(ignore, "*\n")

    def _check_owner(self) -> None:
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            message = (
                f"{self.path} belongs to the user {name_of_user(owner)}, and you are {name_of_user(os.geteuid())}: "
                f"the embedded PostgreSQL is one user's alone. Run this as {name_of_user(owner)}, work in another "
                f"folder, or use {OWN_DATABASE}"
            )
            raise EmbeddedError(message)

    def _check_contents(self) -> None:
        """A folder of something else isn't ours to put a data folder, and a .gitignore, into."""
        if not (self.path / "locks").exists() and any(self.path.iterdir()):
            message = f"{self.path} has something else in it: the embedded PostgreSQL needs a folder of its own"
            raise EmbeddedError(message)


def refusal(error: OSError, path: Path) -> EmbeddedError:
    """Say what an error of the file system means for the embedded PostgreSQL."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    where = f"{path}: {reason[:1].lower()}{reason[1:]}"
    match error.errno:
        case errno.EROFS | errno.EACCES | errno.EPERM:
            what = "the embedded PostgreSQL keeps its data there and can't write. Work in a folder of yours"
        case errno.ENOTDIR | errno.EEXIST:
            what = "the embedded PostgreSQL keeps its data there and needs a folder. Move away what is there"
        case errno.ENAMETOOLONG:
            what = "the path is too long. Work in a folder with a shorter one"
        case errno.ENOENT:
            what = "the embedded PostgreSQL's folder is made in one that is there already. Make that one"
        case _:
            what = "the embedded PostgreSQL keeps its data there"
    return EmbeddedError(f"{where}: {what}, or use {OWN_DATABASE}")


def name_of_user(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that others see all of it or nothing."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
