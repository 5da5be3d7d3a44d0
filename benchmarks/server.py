"""A server of our own to measure on: default durability, data in a temporary folder that goes with this process.

On a disk, so that a commit waits for it as anywhere; `TMPDIR=/dev/shm` measures without.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from benchmarks.process import cpu_seconds
from tests.support.cluster import TestRun, wheel_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster import Cluster

__all__ = ["SETTINGS", "Database", "Server", "cluster", "server"]

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "timezone": "UTC",
}


class Database:
    """A database for one measurement.

    Attributes:
        name: Its name.
        dsn: Its URL.
    """

    def __init__(self, name: str, dsn: str) -> None:
        """Name it."""
        self.name = name
        self.dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None  # one for all looks: to connect costs the server

    async def value(self, query: str, *parameters: Any) -> Any:
        """Return the first column of the first row."""
        connection = await self._connected()
        row = await (await connection.execute(query.encode(), parameters or None)).fetchone()
        assert row is not None  # noqa: S101 - such queries always have a row
        return row[0]

    async def execute(self, *statements: str) -> None:
        """Run statements, each outside any transaction."""
        connection = await self._connected()
        for statement in statements:
            await connection.execute(statement.encode())

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True, prepare_threshold=0)
        return self._connection

    async def settle_down(self) -> None:
        """Let no side pay for what filling has left to do: statistics, visibility, dirty pages."""
        await self.execute("vacuum (analyze)", "checkpoint")


class Server:
    """The server, its databases and what it costs.

    Attributes:
        dsn: An empty database.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Measure on this cluster."""
        self._cluster = cluster
        self._numbers = count(1)
        self.dsn = cluster.socket_dsn()

    def create(self, template: str = "template0") -> Database:
        """Make a database; without a template, an empty one."""
        name = self._cluster.create_database(f"bench_{next(self._numbers)}", template=template)
        return Database(name, self._cluster.socket_dsn(name))

    def drop(self, database: Database) -> None:
        """Drop it."""
        self._cluster.drop_database(database.name)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes, those that have ended included."""
        postmaster = psutil.Process(self._cluster.pid)
        ended = postmaster.cpu_times()
        running = [postmaster.pid, *(process.pid for process in postmaster.children())]
        return sum(map(cpu_seconds, running)) + ended.children_user + ended.children_system

    def wal_bytes(self) -> int:
        """Return how much write-ahead log there has been."""
        return int(self._value("select (pg_current_wal_insert_lsn() - '0/0')::bigint"))

    def commits(self, database: Database) -> int:
        """Return how many transactions have been committed in a database, a few seconds ago at the latest."""
        return int(self._value("select xact_commit from pg_stat_database where datname = %s", database.name))

    def backends_cpu_seconds(self, database: Database) -> float:
        """Return the CPU time of the processes that serve a database's connections now."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            rows = connection.execute("select pid from pg_stat_activity where datname = %s", [database.name]).fetchall()
        return sum(cpu_seconds(pid) for (pid,) in rows)

    def file_system(self) -> str:
        """Return the kind of file system that its data are on, such as "ext4"; "tmpfs" is memory."""
        data = Path(self._value("show data_directory")).resolve()
        mounts = [mount for mount in psutil.disk_partitions(all=True) if data.is_relative_to(mount.mountpoint)]
        return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"

    def version(self) -> str:
        """Return PostgreSQL's version."""
        with psycopg.connect(self.dsn) as connection:
            number = connection.info.server_version
        return f"{number // 10000}.{number % 10000}"

    def _value(self, query: str, *parameters: Any) -> Any:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query.encode(), parameters or None).fetchone()
        assert row is not None  # noqa: S101 - such queries always have a row
        return row[0]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start PostgreSQL."""
    run = TestRun.begin(in_memory=False)
    try:
        yield run.new_cluster("bench", wheel_binaries(), SETTINGS)
    finally:
        run.end()


@contextmanager
def server() -> Iterator[str]:
    """Start PostgreSQL, and give the DSN of an empty database."""
    with cluster() as one:
        yield one.socket_dsn(one.create_database("bench"))
