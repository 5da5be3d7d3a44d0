"""Whom the tests' servers run as, and what that user can reach: PostgreSQL refuses to be run by root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Account", "public_folder"]

# What PostgreSQL appends to a socket's folder fits, with a cluster's name, into the 107 bytes of its path.
_LONGEST_FOLDER = 60
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes it safe
_ENOUGH_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Account:
    """A user of the machine, or whoever runs the tests.

    Attributes:
        user: Its name; None is the present user.
    """

    user: str | None

    @classmethod
    def of_servers(cls) -> Self:
        """Return the present user, or an unprivileged one for root."""
        if os.geteuid() != 0:
            return cls(None)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return cls(pwd.getpwnam(name).pw_name)
        message = "as root the tests run PostgreSQL as the user postgres or nobody; this machine has neither"
        raise RuntimeError(message)

    @property
    def argument(self) -> str:
        """How `guard.py` is told."""
        return self.user or "-"

    def give(self, path: Path) -> None:
        """Make it the owner of a file or folder."""
        if self.user is not None:
            account = pwd.getpwnam(self.user)
            os.chown(path, account.pw_uid, account.pw_gid)

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as this user; its output and errors are in `stdout`.

        Raises:
            PermissionError: The user can't reach the program.
        """
        identity: dict[str, Any] = {}
        if self.user is not None:
            identity = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
        # In the root folder: the present one may be closed to this user, and initdb and postgres look where they are.
        return subprocess.run(
            command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", **identity
        )

    def can_run(self, program: Path) -> bool:
        """Whether it can reach the program and the libraries that this needs."""
        try:
            return self.run([str(program), "--version"]).returncode == 0
        except PermissionError:
            return False

    def can_enter(self, folder: Path) -> bool:
        """Whether it can reach the folder."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]).returncode == 0


def public_folder(prefix: str, *, in_memory: bool = True) -> Path:
    """Make a temporary folder that the servers' user can reach, with a path that leaves room for a socket's name.

    In memory where there is enough of it, and it isn't refused: on a busy disk the 300 files of a database take ten
    times as long. `TMPDIR` overrules that.
    """
    account = Account.of_servers()
    memory = _memory() if in_memory else []
    for base in dict.fromkeys([*memory, tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108 - as above
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        folder.chmod(0o755)
        if len(os.fsencode(folder)) <= _LONGEST_FOLDER and account.can_enter(folder):
            return folder
        folder.rmdir()
    message = f"no folder for temporary files can be reached by the user {account.user!r}"
    raise RuntimeError(message)


def _memory() -> list[str]:
    """Return the file system in memory, unless programs can't be run from there: copies of the servers' are."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return []
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC or shutil.disk_usage(_MEMORY).free < _ENOUGH_BYTES:
        return []
    return [str(_MEMORY)]
