"""What the store's tests work with: a migrated schema, jobs and workers in it, connections, and looks at whole rows."""

from __future__ import annotations

import dataclasses
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
from psycopg.rows import dict_row

from perdure.store import calls, claims, jobs, leases, settles
from perdure.store.sql import names_of, quote_identifier
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from datetime import datetime, timedelta
    from types import TracebackType
    from uuid import UUID

    from psycopg import Connection

    from perdure.store.calls import Call
    from perdure.store.claims import Claimed
    from perdure.store.settles import Release
    from perdure.store.sql import Names

__all__ = ["GATE", "Workbench", "gated", "release_ids"]

T = TypeVar("T")
SCHEMA = "background_tasks"
_KEYS = {
    "jobs": "id",
    "finished_jobs": "id",
    "workers": "id",
    "events": "job_id || ' ' || id",
    "steps": "job_id || ' ' || key",
    "attempts": "job_id || ' ' || attempt",
}
GATE = 4711
"""The advisory lock behind which a `gated` statement waits."""


class Workbench:
    """A schema to work in. Connections are in autocommit mode, and closed at the end.

    Attributes:
        dsn: The database.
        names: The schema's names.
        connection: One connection, for whatever needs none of its own.
    """

    def __init__(self, dsn: str, names: Names | None = None) -> None:
        self.dsn = dsn
        self.names = names or names_of(SCHEMA)
        self._opened: list[Connection[Any]] = []
        self._threads = ThreadPoolExecutor(max_workers=8)
        self.connection = self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._opened:
            connection.close()
        self._threads.shutdown()

    def clear(self) -> None:
        """Empty all tables: row by row, since truncating makes new files for each of them and its indexes."""
        *others, last = [f"delete from {{s}}.{table}" for table in (*_KEYS, "bands")]
        self.sql(f"with {', '.join(f't{n} as ({other})' for n, other in enumerate(others))} {last}")

    # --- statements ---

    def connect(self, **parameters: Any) -> Connection[Any]:
        """Open another connection."""
        connection: Connection[Any] = psycopg.connect(self.dsn, autocommit=True, **parameters)
        self._opened.append(connection)
        return connection

    @cached_property
    def writer(self) -> Connection[Any]:
        """A second connection, for what begins before something and ends after it."""
        return self.connect()

    def run(self, call: Call[T], connection: Connection[Any] | None = None) -> T:
        """Run a call of the store."""
        return calls.run_blocking(connection or self.connection, call)

    def begin(self, call: Call[T], connection: Connection[Any]) -> Future[T]:
        """Run a call in a thread, and return when it waits for a lock."""
        return self.begin_all(lambda: calls.run_blocking(connection, call), connection)

    def begin_all(self, act: Callable[[], T], connection: Connection[Any]) -> Future[T]:
        """Do something on this connection in a thread, and return when it waits for a lock."""
        result = self._threads.submit(act)
        self.wait_for_waiter(connection)
        return result

    def wait_for_waiter(self, connection: Connection[Any]) -> None:
        """Wait until the statement on this connection waits for a lock."""
        query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"

        def is_waiting() -> bool:
            row = self.connection.execute(query, [connection.info.backend_pid]).fetchone()
            return row is not None and bool(row[0])

        wait_until(is_waiting, "the statement waits for no lock", within_seconds=10)

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Run a statement of the test's own; `{s}` is the schema."""
        schema = quote_identifier(self.names.schema_name).replace("%", "%%")
        with self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement.replace("{s}", schema).encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        """Hold the lock behind which `gated` statements wait."""
        self.sql("select pg_advisory_lock(%s)", GATE)
        try:
            yield
        finally:
            self.sql("select pg_advisory_unlock(%s)", GATE)

    def release(self, worker: UUID, entries: list[Release], **options: Any) -> list[int]:
        """Release jobs; returns the ids of those that were."""
        return self.run(release_ids(self.names, worker, entries, **options))

    # --- jobs and workers ---

    def start(
        self,
        *,
        task: str = "task",
        queue: str = "default",
        priority: int = 0,
        metadata: bytes = b'{"n":1}',
        execution_metadata: bytes = b'{"step":0}',
        at: datetime | None = None,
        after: timedelta | None = None,
        notify: bool = False,
    ) -> int:
        """Store a job and return its id."""
        call = jobs.start(
            self.names,
            task=task,
            queue=queue,
            priority=priority,
            metadata=metadata,
            execution_metadata=execution_metadata,
            at=at,
            after=after,
            notify=notify,
        )
        return self.run(call).id

    def register(self, *, lease_seconds: float = 30.0, queues: list[str] | None = None) -> UUID:
        """Register a worker and return its id."""
        worker = uuid.uuid4()
        call = leases.register(
            self.names,
            worker,
            lease_seconds=lease_seconds,
            host="host",
            pid=1,
            concurrency=5,
            queues=queues,
            version="1",
        )
        self.run(call)
        return worker

    def claim(
        self,
        worker: UUID,
        *,
        want: int = 100,
        queues: list[str] | None = None,
        connection: Connection[Any] | None = None,
    ) -> list[Claimed]:
        """Claim jobs for the worker."""
        return self.run(claims.claim(self.names, worker, want=want, queues=queues), connection).jobs

    def claimed_job(self, worker: UUID, **start: Any) -> Claimed:
        """Start a job and claim it; nothing else may be due."""
        job_id = self.start(**start)
        (job,) = self.claim(worker)
        assert job.id == job_id
        return job

    # --- looks ---

    def job(self, job_id: int) -> dict[str, Any]:
        """Return the row in `jobs`."""
        (row,) = self.sql("select * from {s}.jobs where id = %s", job_id)
        return row

    def finished(self, job_id: int) -> dict[str, Any]:
        """Return the row in `finished_jobs`."""
        (row,) = self.sql("select * from {s}.finished_jobs where id = %s", job_id)
        return row

    def listener(self, channel: str) -> Connection[Any]:
        """Open a connection that listens."""
        connection = self.connect()
        connection.execute(f"listen {quote_identifier(channel)}".encode())
        return connection

    def heard(self, listener: Connection[Any]) -> list[str]:
        """Return the payloads that have come since."""
        listener.execute("")
        return [found.payload for found in listener.notifies(timeout=0)]

    def now(self) -> datetime:
        """The database's clock."""
        (row,) = self.sql("select clock_timestamp() as now")
        found: datetime = row["now"]
        return found

    def rows(self) -> dict[str, str]:
        """Return all rows of all tables by table and id, each version as text: an update that changes nothing shows."""
        found: dict[str, str] = {}
        for table, key in _KEYS.items():
            for row in self.sql(
                f"select ({key})::text as key, ctid::text, xmin::text, to_jsonb(t) as row from {{s}}.{table} t"
            ):
                found[f"{table} {row.pop('key')}"] = json.dumps(row, sort_keys=True)
        return found

    def changes(self, before: dict[str, str]) -> set[str]:
        """Return which rows have been written since `rows`."""
        after = self.rows()
        return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}

    def send(self, job_id: int, event: bytes = b"1", connection: Connection[Any] | None = None) -> int | None:
        """Send an event to a job of the task "task"; returns the state that it was in."""
        schema = quote_identifier(self.names.schema_name).replace("%", "%%")
        query = f"select {schema}.send_event(%s, 'task', 1, %s, %s)"
        parameters = [job_id, event.decode(), self.names.work_channel]
        row = (connection or self.connection).execute(query.encode(), parameters).fetchone()
        assert row is not None
        state: int | None = row[0]
        return state

    def events(self, job_id: int) -> list[int]:
        """Return the ids of a job's unread events, the oldest first."""
        return [row["id"] for row in self.sql("select id from {s}.events where job_id = %s order by id", job_id)]


def gated(names: Names, statement: str, before: str = "order by id for") -> Names:
    """Return names whose statement waits at the GATE after its snapshot is taken and before it locks rows.

    So a test can change rows in between: the moment that decides whether a guard is asked of what it locks, or of what
    it saw before.
    """
    text = names.statements[statement]
    gate = b"and pg_advisory_xact_lock_shared(%d) is not null " % GATE
    assert before.encode() in text
    return with_statement(names, statement, text.replace(before.encode(), gate + before.encode(), 1))


def release_ids(names: Names, worker: UUID, entries: list[Release], **options: Any) -> Call[list[int]]:
    """Release jobs; answers only the ids of those that were."""
    call: Call[Any] = settles.release(names, worker, entries, **options)
    return dataclasses.replace(call, read=lambda rows: [released.id for released in call.read(rows)])


def with_statement(names: Names, statement: str, text: bytes) -> Names:
    """Return names of the same schema with another text of one statement."""
    changed = type(names)(names.schema_name)
    changed.statements._texts[statement] = text
    return changed
