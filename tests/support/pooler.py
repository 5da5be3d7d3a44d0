"""pgbouncer before a test's server, Debian's package: skipped with a word where it isn't installed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.account import Account
from tests.support.cluster import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Process, Processes

__all__ = ["Pooler", "start_pooler"]

Mode = Literal["transaction", "session"]

_PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_CONFIG = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_login_retry = 0.1
server_idle_timeout = {idle}
"""


class Pooler:
    """A running pgbouncer.

    Attributes:
        dsn: Leads through it to the database.
    """

    def __init__(self, processes: Processes, dsn: str, config: Path, size: int, idle: int) -> None:
        """Know what to start; `start` does."""
        parts = urlsplit(dsn)
        port = free_port()  # one that is still free when it is started again
        self._values = {"host": parts.hostname, "port": parts.port, "own_port": port, "size": size, "idle": idle}
        user = f"{parts.username}@" if parts.username else ""
        self.dsn = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
        self._processes = processes
        self._config = config
        self._process: Process | None = None

    def configure(self, *, mode: Mode) -> None:
        """Say when it gives a session to somebody else, from its next start on."""
        self._config.write_text(_CONFIG.format(mode=mode, **self._values))
        self._config.chmod(0o644)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert _PROGRAM is not None
        # It refuses to be root, and becomes this user by itself.
        account = Account.of_servers().user
        becoming = ["-u", account] if account else []
        self._process = self._processes.start(_PROGRAM, *becoming, str(self._config), cwd=self._config.parent)
        self._process.wait_for_line("process up")

    @property
    def is_running(self) -> bool:
        """Whether it was started and hasn't ended."""
        return self._process is not None and self._process.is_running

    def kill(self) -> None:
        """SIGKILL: every connection through it breaks, and the server sees its clients go."""
        assert self._process is not None
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nothing comes through."""
        assert self._process is not None
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.thaw()


def start_pooler(
    processes: Processes, dsn: str, folder: Path, *, mode: Mode = "transaction", size: int = 4, idle_seconds: int = 600
) -> Pooler:
    """Start a pgbouncer before a database.

    Args:
        processes: Clears it away.
        dsn: The database.
        folder: For its configuration.
        mode: When it gives a session to somebody else.
        size: How many sessions it has.
        idle_seconds: After what time it ends one that nobody uses.
    """
    if _PROGRAM is None:
        pytest.skip("pgbouncer isn't installed (Debian: apt-get install pgbouncer)")
    pooler = Pooler(processes, dsn, folder / "pgbouncer.ini", size, idle_seconds)
    pooler.configure(mode=mode)
    pooler.start()
    return pooler
