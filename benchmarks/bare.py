"""Bare psycopg: the least that a durable queue can do, to compare with. No fence, no lease, no types, one index.

A batch is finished and the next one claimed in one statement, so a batch costs one round trip and one commit.
`id = any(array(…))`, not a join: the plan of a join with a limit that isn't known may read the whole table.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from benchmarks.payloads import order

if TYPE_CHECKING:
    from benchmarks.payloads import Order
    from benchmarks.recorder import Recorder

__all__ = [
    "FINISHED",
    "INSERT",
    "INSERT_AND_NOTIFY",
    "INSERT_MANY",
    "SCHEMA",
    "connect",
    "drain",
    "persist",
    "transact",
]

SCHEMA = """
drop table if exists bare_job, bare_row;
create table bare_job (
    id bigint generated always as identity primary key,
    state smallint not null default 0,
    payload jsonb not null,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz
);
create index bare_job_ready on bare_job (id) where state = 0;
create table bare_row (job_id bigint, n int, primary key (job_id, n));
"""
INSERT = "insert into bare_job (payload) values (%s) returning id"
INSERT_AND_NOTIFY = f"with new as ({INSERT}) select id, pg_notify('bare_job', '') from new"
INSERT_MANY = "insert into bare_job (payload) select unnest(%s::jsonb[]) returning id"
FINISHED = "select not exists (select from bare_job where {condition} state < 2)"
_FINISH_AND_CLAIM = """
with finished as (update bare_job set state = 2, finished_at = now() where id = any(%s::bigint[]))
update bare_job set state = 1, started_at = now()
where id = any(array(select id from bare_job where state = 0 order by id limit %s for update skip locked))
returning id, payload
"""
_PERSIST = "update bare_job set payload = %s where id = %s"
_ROW = "insert into bare_row values (%s, %s)"
_BATCH = 500
_LANES = 2
_CONNECTIONS = 10  # as many as perdure's pool has by default


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Connect: every statement commits, and is prepared at once."""
    return await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=0)


def encoded(payload: Order) -> str:
    """Return a payload as JSON: written by hand, which costs the least."""
    return f'{{"number":{payload.number},"sent_at_seconds":{payload.sent_at_seconds!r},"note":"{payload.note}"}}'


async def drain(dsn: str, recorder: Recorder, *, lanes: int = _LANES) -> None:
    """Work until cancelled."""
    await asyncio.gather(*(_lane(dsn, recorder) for _ in range(lanes)))


async def _lane(dsn: str, recorder: Recorder) -> None:
    async with await connect(dsn) as connection:
        await connection.execute("listen bare_job")
        cursor = connection.cursor(binary=True)
        done: list[int] = []
        recorder.ready()
        while True:
            await cursor.execute(_FINISH_AND_CLAIM, [done, _BATCH])
            rows = await cursor.fetchall()
            for _, payload in rows:
                await _handle(recorder, payload)
            had, done = bool(done), [row[0] for row in rows]
            if not rows and not had:
                async for _ in connection.notifies(timeout=1, stop_after=1):
                    pass


async def _handle(recorder: Recorder, payload: dict[str, Any]) -> None:
    recorder.began(payload["sent_at_seconds"])


async def persist(dsn: str, recorder: Recorder, *, jobs: int, times: int) -> None:
    """Store a checkpoint so many times, for so many jobs at once."""

    async def one(connection: AsyncConnection[Any], job: int, number: int) -> None:
        await connection.execute(_PERSIST, [_checkpoint(number), job])

    await _checkpoints(dsn, recorder, jobs, times, one)


async def transact(dsn: str, recorder: Recorder, *, jobs: int, times: int) -> None:
    """Store a row and a checkpoint in a transaction so many times, for so many jobs at once."""

    async def one(connection: AsyncConnection[Any], job: int, number: int) -> None:
        async with connection.transaction():
            await connection.execute(_ROW, [job, number])
            await connection.execute(_PERSIST, [_checkpoint(number), job])

    await _checkpoints(dsn, recorder, jobs, times, one)


async def _checkpoints(dsn: str, recorder: Recorder, jobs: int, times: int, one: Any) -> None:
    kwargs = {"autocommit": True, "prepare_threshold": 0}
    async with AsyncConnectionPool(dsn, min_size=_CONNECTIONS, max_size=_CONNECTIONS, kwargs=kwargs) as pool:
        await pool.wait()

        async def job(number: int) -> None:
            for step in range(times):
                async with pool.connection() as connection:
                    await one(connection, number, step)

        async with pool.connection() as connection:
            cursor = await connection.execute(INSERT_MANY, [[encoded(order(0))] * jobs])
            ids = [row[0] for row in await cursor.fetchall()]
        recorder.ready()
        recorder.began(0.0)
        await asyncio.gather(*(job(number) for number in ids))
        recorder.ended()


def _checkpoint(number: int) -> Jsonb:
    return Jsonb({"number": number})
