"""Whom the server runs as: whoever started it, or for root, whom PostgreSQL refuses, an unprivileged user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from perdure.embedded.folder import OWN_DATABASE, name_of_user
from perdure.errors import EmbeddedError

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Account", "bound_to_this_process"]

_CANDIDATES: Final = ("postgres", "nobody")
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Account:
    """A user of the machine.

    Attributes:
        uid: The user's id.
        gid: Its group's.
        is_other: Whether it is another than the present one, so that files must be given to it.
    """

    uid: int
    gid: int
    is_other: bool

    @property
    def name(self) -> str:
        """Its name, or its number where it has none."""
        return name_of_user(self.uid)

    @classmethod
    def of_server(cls, data: Path) -> Account:
        """Choose: the owner of the data, if there are some; the present user, who isn't root; or postgres or nobody.

        Raises:
            EmbeddedError: The data are somebody else's, or root finds no user for the server.
        """
        uid = os.geteuid()
        try:
            there = data.stat()
        except FileNotFoundError:
            there = None
        if uid != 0:
            if there is not None and there.st_uid != uid:
                message = (
                    f"{data} belongs to the user {name_of_user(there.st_uid)}, and you are {name_of_user(uid)}: work "
                    f"in another folder, or use {OWN_DATABASE}"
                )
                raise EmbeddedError(message)
            return cls(uid, os.getegid(), is_other=False)
        if there is not None and there.st_uid != 0:
            return cls(there.st_uid, there.st_gid, is_other=True)
        for name in _CANDIDATES:
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid, is_other=True)
        message = (
            "PostgreSQL refuses to be run by root, and this machine has none of the users "
            f"{' and '.join(_CANDIDATES)} to run it instead. Make one, run this as another user, or use {OWN_DATABASE}"
        )
        raise EmbeddedError(message)

    def give(self, path: Path) -> None:
        """Make it the owner of what we have just made."""
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def start(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """Start a program as this user, in the root folder: the present one may be closed to it.

        Raises:
            EmbeddedError: It can't be started.
        """
        identity: dict[str, Any] = {}
        if self.is_other:
            identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
        environment = {key: os.environ[key] for key in ("PATH", "TZ") if key in os.environ} | {"LC_ALL": "C"}
        try:
            return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
                [str(part) for part in command], cwd="/", env=environment, text=True, **identity, **options
            )
        except (OSError, subprocess.SubprocessError) as error:
            message = f"{command[0]} can't be run as the user {self.name}: {error}"
            raise EmbeddedError(message) from error

    def run(self, command: Sequence[str | Path], *, given: str = "", **options: Any) -> tuple[int, str]:
        """Run a program as this user to its end; return its exit code, and what it said."""
        with self.start(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            **options,
        ) as process:
            said, _nothing = process.communicate(given)
        return process.returncode, said

    def can_enter(self, folder: Path) -> bool:
        """Whether it gets through to the folder: through each of its parents too, by modes and access lists."""
        if not self.is_other:
            return os.access(folder, os.X_OK)
        code, _said = self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder])
        return code == 0


def bound_to_this_process(number: signal.Signals) -> Callable[[], None]:
    """Return what makes a child get a signal when this process ends, however it ends: to be run in the child, by fork.

    Linux alone knows that. Must be called and used by the thread that lives as long as the process.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None

    def bind() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it has ended before
            os._exit(1)

    return bind
