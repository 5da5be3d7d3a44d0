"""Looks at the database of a scenario: what still lives, what waits for a client. It may be away at times."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from perdure.core.history import AttemptEnding
from tests.support.history import journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.history.values import Session

__all__ = ["Look", "Observer", "Sizes", "Waiting"]

_LEAVING_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_LIVE = ("jobs", "workers", "bands")
_KEPT = ("finished_jobs", "steps", "attempts", "events")  # events that weren't read are kept with their job


class Waiting(NamedTuple):
    """A job that is suspended for ever, and rightly so.

    Attributes:
        verb: What lets it go on: "send" or "proceed".
    """

    job: int
    task: str
    verb: str


class Look(NamedTuple):
    """What was seen.

    Attributes:
        live: Jobs that haven't ended, but for those that can't be read.
        written: The number of the last write to one of them.
        waiting: Those that wait for a client.
    """

    live: int
    written: int
    waiting: list[Waiting]


class Sizes(NamedTuple):
    """How much there is.

    Attributes:
        connections: Connections of workers and clients.
        live: Bytes of the tables of what lives, with their indexes.
        kept: Bytes of what is kept of ended jobs.
    """

    connections: int
    live: int
    kept: int


class Observer:
    """Asks the database directly."""

    def __init__(self, dsn: str, schema_name: str) -> None:
        """Observe a database."""
        self._dsn = dsn
        self._schema_name = schema_name
        self._schema = f'"{schema_name}"'
        self.spoilt: list[int] = []

    def look(self) -> Look | None:
        """Look; None when the database is away."""
        with contextlib.suppress(psycopg.OperationalError), self._connection() as connection:
            live = self._rows(connection, f"select count(*) from {self._schema}.jobs where not (id = any(%s))")[0][0]
            written = self._rows(
                connection, "select coalesce(max(number), 0) from history.images where not (job = any(%s))"
            )[0][0]
            return Look(live, written, self._waiting(connection))
        return None

    def count_live(self) -> int | None:
        """Count the live jobs; None when the database is away."""
        with contextlib.suppress(psycopg.OperationalError), self._connection() as connection:
            return int(
                self._rows(connection, f"select count(*) from {self._schema}.jobs where not (id = any(%s))")[0][0]
            )
        return None

    def sizes(self) -> Sizes | None:
        """Measure; None when the database is away."""
        statement = (
            "select (select count(*) from pg_stat_activity where datname = current_database() "
            "and application_name like 'perdure%'), "
            f"{self._bytes(*_LIVE)}, {self._bytes(*_KEPT)}"
        )
        with contextlib.suppress(psycopg.OperationalError), self._connection() as connection:
            return Sizes(*connection.execute(statement.encode()).fetchall()[0])
        return None

    def live_relations(self) -> dict[str, int]:
        """Measure each table of what lives, and each of its indexes, in bytes: what of it has grown."""
        statement = (
            "select relname, pg_relation_size(oid) from pg_class where oid in (select name::regclass from live "
            "union all select indexrelid from pg_index where indrelid in (select name::regclass from live))"
        )
        names = ", ".join(f"('{self._schema}.{name}')" for name in _LIVE)
        with self._connection() as connection:
            return dict(connection.execute(f"with live (name) as (values {names}) {statement}".encode()).fetchall())

    def remove_spoilt(self) -> None:
        """Take away the jobs that can't be read, each when no worker has it."""
        with self._connection() as connection:
            while self._rows(connection, f"select from {self._schema}.jobs where id = any(%s)"):
                statement = f"delete from {self._schema}.jobs where id = any(%s) and state = 0"
                connection.execute(statement.encode(), [self.spoilt])
        self.spoilt = []

    def spoil(self, rows: list[tuple[str, str, str]]) -> list[int]:
        """Insert jobs that can't be read: task, metadata and execution metadata as they are; return their ids."""
        statement = (
            f"insert into {self._schema}.jobs (task, queue, priority, created_at, scheduled_at, metadata, "
            "execution_metadata) values (%s, 'default', 0, now(), now(), %s, %s) returning id"
        )
        with self._connection() as connection:
            connection.execute(f"insert into {self._schema}.bands values ('default', 0)".encode())
            ids = [connection.execute(statement.encode(), row).fetchall()[0][0] for row in rows]
        self.spoilt += ids
        return ids

    def terminate(self, names: list[str], *, chance: float, random: Any) -> int:
        """Terminate backends of these application names, each with a chance; return how many."""
        with self._connection() as connection:
            found = connection.execute(
                "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
                "and application_name = any(%s)",
                [names],
            ).fetchall()
            chosen = [pid for (pid,) in found if random.random() < chance]
            connection.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", [chosen])
            return len(chosen)

    def held_by(self, pid: int) -> tuple[str | None, list[int]]:
        """Return the worker that a process is, and the jobs that it holds; None without a lease."""
        statement = (
            f"select workers.id::text, array_remove(array_agg(jobs.id), null) from {self._schema}.workers "
            f"left join {self._schema}.jobs on worker_id = workers.id "
            "where pid = %s and lapsed_at is null and lease_until > clock_timestamp() group by workers.id"
        )
        with self._connection() as connection:
            row = connection.execute(statement.encode(), [pid]).fetchone()
        return (None, []) if row is None else (row[0], row[1])

    def has_lapsed(self, worker: str) -> bool:
        """Tell whether a worker's lease has lapsed and others have taken its jobs back."""
        statement = (
            f"select not exists (select from {self._schema}.workers where id = %(worker)s and lapsed_at is null) "
            f"and not exists (select from {self._schema}.jobs where worker_id = %(worker)s)"
        )
        with self._connection() as connection:
            return connection.execute(statement.encode(), {"worker": worker}).fetchall() == [(True,)]

    def count_rescues(self, jobs: list[int]) -> int:
        """Count how often these jobs were rescued."""
        with self._connection() as connection:
            statement = b"select count(*) from history.rescues where job = any(%s)"
            return int(connection.execute(statement, [jobs]).fetchall()[0][0])

    def count_stopped(self, jobs: list[int]) -> int:
        """Count how often these jobs were given back by a worker that was stopped."""
        with self._connection() as connection:
            statement = f"select count(*) from {self._schema}.attempts where job_id = any(%s) and ending = %s"
            return int(connection.execute(statement.encode(), [jobs, AttemptEnding.STOPPED.code]).fetchall()[0][0])

    async def left_over(self, lease_seconds: float) -> list[Session]:
        """Return what is left of the workers, once all have ended: the server takes a moment to notice one's death."""
        gives_up_at = time.monotonic() + _LEAVING_SECONDS + lease_seconds
        with self._connection() as connection:
            while (left := journal.read_sessions(connection, self._schema_name)) and time.monotonic() < gives_up_at:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)
        return left

    def _waiting(self, connection: psycopg.Connection[Any]) -> list[Waiting]:
        """Find those in whose next act somebody has to do something; not those that an event should have woken."""
        found = self._rows(
            connection,
            "select id, task, act from ("
            "select id, task, metadata -> 'acts' ->> coalesce((execution_metadata ->> 'at')::int, 0) as act "
            f"from {self._schema}.jobs where state = 4 and scheduled_at is null and not (id = any(%s))) as suspended "
            f"where act = 'pause' or act = 'wait' "
            f"and not exists (select from {self._schema}.events where events.job_id = suspended.id)",
        )
        return [Waiting(job, task, "proceed" if act == "pause" else "send") for job, task, act in found]

    def _bytes(self, *tables: str) -> str:
        return "(" + " + ".join(f"pg_total_relation_size('{self._schema}.{table}')" for table in tables) + ")::bigint"

    def _rows(self, connection: psycopg.Connection[Any], statement: str) -> list[Any]:
        return connection.execute(statement.encode(), [self.spoilt]).fetchall()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        # One for each look: it isn't there to survive what is done to the others.
        with psycopg.connect(self._dsn, autocommit=True, application_name="observer") as connection:
            yield connection
