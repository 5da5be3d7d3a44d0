"""Where the races are run: a connection for each actor, and one that sets the scene and looks on."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Self

import psycopg

from perdure.store import arrays, calls
from perdure.store.sessions import PLANNER
from perdure.store.sql import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from uuid import UUID

    from perdure.store.calls import Call

__all__ = ["JOB", "RESCUER", "WORKER", "Stage"]

JOB = 1
WORKER, RESCUER = uuid.UUID(int=1), uuid.UUID(int=2)
_TABLES = ("jobs", "finished_jobs", "events", "steps", "attempts", "workers", "bands")

_LOG = """
    create table moves (
        id bigint generated always as identity, operation text, source text, before jsonb, after jsonb);
    create function log_move() returns trigger language plpgsql as $$
    begin
        insert into public.moves (operation, source, before, after) values (tg_op, tg_table_name,
            case when tg_op <> 'INSERT' then to_jsonb(old) end, case when tg_op <> 'DELETE' then to_jsonb(new) end);
        return null;
    end
    $$;
    create trigger log_move after insert or update or delete on {s}.jobs for each row execute function log_move();
    create trigger log_move after insert or update or delete on {s}.finished_jobs
        for each row execute function log_move();
"""


class Stage:
    """The connections. `dsn` is a migrated database of its own."""

    def __init__(self, dsn: str, actors: int) -> None:
        self.names = names_of("background_tasks")
        self._dsn = dsn
        self._count = actors
        self._clear = "; ".join(f"delete from background_tasks.{table}" for table in _TABLES) + "; delete from moves"

    async def __aenter__(self) -> Self:
        """Connect."""
        self.connections = [await self._connect() for _ in range(self._count)]
        self.looker = await self._connect()
        exists = await self.ask("select to_regclass('public.moves') is not null")
        if not exists[0][0]:
            await self.looker.execute(_LOG.replace("{s}", "background_tasks").encode(), prepare=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        for connection in (*self.connections, self.looker):
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, prepare_threshold=0
        )
        # Nothing here depends on what survives a crash.
        for name, value in (PLANNER | {"synchronous_commit": "off"}).items():
            await connection.execute(f"set {name} = '{value}'".encode())
        arrays.register(connection)
        return connection

    async def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Look at something."""
        cursor = await self.looker.execute(query.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def run(self, call: Call[Any]) -> Any:
        """Run a call on the looker's connection."""
        return await calls.run(self.looker, call)

    async def waits(self, backend: int) -> bool:
        """Whether a backend waits for a lock that another holds."""
        ((blockers,),) = await self.ask("select cardinality(pg_blocking_pids(%s))", backend)
        return bool(blockers)

    async def set_scene(self, scene: str, workers: Iterable[UUID] = (WORKER, RESCUER)) -> None:
        """One job, as the scene has it, and two workers with leases."""
        values = ", ".join(
            f"('{worker}', clock_timestamp() + interval '1 h', 3600, 'h', 1, 5, '1')" for worker in workers
        )
        statements = [
            self._clear,
            f"""insert into background_tasks.workers (id, lease_until, lease_seconds, host, pid, concurrency, version)
                values {values}""",
            "insert into background_tasks.bands values ('default', 0)",
            _SCENES[scene],
            "delete from moves",
        ]
        await self.looker.execute("; ".join(statements).encode(), prepare=False)

    async def abandon(self, waiting: Sequence[asyncio.Task[Any]]) -> None:
        """A race has failed: end what is still under way."""
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


_COLUMNS = """insert into background_tasks.jobs (id, scheduled_at, created_at, state, claim, attempt, checkpoint,
    claim_checkpoint, worker_id, priority, queue, task, metadata, execution_metadata)
    values (1, {due}, clock_timestamp(), {state}, 1, 1, 1, 1, {worker}, 0, 'default', 'task', '1', '0')"""
_NOW = "clock_timestamp()"
_SCENES = {
    "running": _COLUMNS.format(due=_NOW, state=2, worker=f"'{WORKER}'"),
    "suspended": _COLUMNS.format(due="null", state=4, worker="null"),
    "due": _COLUMNS.format(due=_NOW, state=4, worker="null"),
    "ended": """insert into background_tasks.finished_jobs (id, scheduled_at, created_at, finished_at, claim, attempt,
        retry_number, checkpoint, state, priority, queue, task, metadata, execution_metadata, woken_by, version)
        values (1, now(), now(), now(), 1, 1, 0, 1, 7, 0, 'default', 'task', '1', '0', 0, 1)""",
}
