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

from benchmarks.payloads import encoded, order
from benchmarks.sides.base import Side, loop_factory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.payloads import Order
    from benchmarks.probe import Probe

__all__ = ["Bench", "connect"]

_SCHEMA = """
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
_INSERT = "insert into bare_job (payload) values (%s) returning id"
_INSERT_AND_NOTIFY = f"with new as ({_INSERT}) select id, pg_notify('bare_job', '') from new"
_INSERT_MANY = """
with new as (insert into bare_job (payload) select unnest(%s::jsonb[]) returning id)
select array_agg(id), pg_notify('bare_job', '') from new
"""
_FINISH_AND_CLAIM = """
with finished as (update bare_job set state = 2, finished_at = now() where id = any(%s::bigint[]))
update bare_job set state = 1, started_at = now()
where id = any(array(select id from bare_job where state = 0 order by id limit %s for update skip locked))
returning id, payload
"""
_PERSIST = "update bare_job set payload = %s where id = %s"
_FINISH = "update bare_job set state = 2, finished_at = now() where id = any(%s)"
_ROW = "insert into bare_row values (%s, %s)"
_BATCH = 500
_CONNECTIONS = 10  # as many as perdure's pool has by default


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Connect: every statement commits, and is prepared at once."""
    return await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=0)


class Bench(Side):
    """One table, and two connections a worker."""

    distributions = ("psycopg", "psycopg-binary")
    about = "two connections a worker, each finishes 500 jobs and claims the next in one statement; insert by unnest"
    defaults = {"lanes": 2}  # noqa: RUF012 - a ClassVar, said in the base
    unfinished = "select exists (select from bare_job where state < 2)"
    finished = "select count(*) from bare_job where state = 2"

    async def setup(self) -> None:
        """Make the table."""
        async with await connect(self.dsn) as connection:
            await connection.execute(_SCHEMA, prepare=False)

    async def open(self) -> None:
        """Connect."""
        self._connection = await connect(self.dsn)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def start(self, payload: Order, *, wake: bool) -> None:
        """Insert a row, and notify where somebody may listen."""
        query = _INSERT_AND_NOTIFY if wake else _INSERT
        cursor = await self._connection.execute(query, [encoded(payload)], binary=True)
        await cursor.fetchone()

    async def start_many(self, payloads: Sequence[Order]) -> None:
        """Insert rows, a thousand in a statement."""
        for first in range(0, len(payloads), self.batch):
            cursor = self._connection.cursor(binary=True)
            await cursor.execute(_INSERT_MANY, [[encoded(one) for one in payloads[first : first + self.batch]]])
            await cursor.fetchone()

    async def start_steps(self, jobs: int, times: int) -> None:  # noqa: ARG002 - as a Side's
        """Insert the rows that are updated again and again."""
        await self.start_many([order(number) for number in range(jobs)])

    def work(self, work: str, probe: Probe, loop: str) -> None:
        """Work until SIGTERM, which ends it at once: nothing here would come to an end in a better way."""
        with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            runner.run(self._work(work, probe))

    async def _work(self, work: str, probe: Probe) -> None:
        """Finish and claim, or store checkpoints."""
        if work in _CHECKPOINTS:
            await self._checkpoints(probe, _CHECKPOINTS[work])
        else:
            lanes = 1 if work == "lone jobs" else self.settings["lanes"]
            await asyncio.gather(*(self._lane(probe) for _ in range(lanes)))

    async def _lane(self, probe: Probe) -> None:
        async with await connect(self.dsn) as connection:
            await connection.execute("listen bare_job")
            cursor = connection.cursor(binary=True)
            done: list[int] = []
            while True:
                await cursor.execute(_FINISH_AND_CLAIM, [done, _BATCH])
                rows = await cursor.fetchall()
                for _, payload in rows:
                    await _handle(probe, payload)
                had, done = bool(done), [row[0] for row in rows]
                if not rows and not had:
                    async for _ in connection.notifies(timeout=1, stop_after=1):
                        pass

    async def _checkpoints(self, probe: Probe, one: Callable[..., Awaitable[None]]) -> None:
        """Store checkpoints, for all jobs at once; then finish these."""
        kwargs = {"autocommit": True, "prepare_threshold": 0}
        size = _CONNECTIONS
        async with AsyncConnectionPool(self.dsn, min_size=size, max_size=size, kwargs=kwargs) as pool:
            await pool.wait()
            async with pool.connection() as connection:
                ids = [row[0] for row in await (await connection.execute("select id from bare_job")).fetchall()]

            async def job(number: int) -> None:
                probe.hit()
                for step in range(self.settings["times"]):
                    async with pool.connection() as connection:
                        await one(connection, number, step)

            await asyncio.gather(*(job(number) for number in ids))
            async with pool.connection() as connection:
                await connection.execute(_FINISH, [ids])


async def _handle(probe: Probe, payload: dict[str, Any]) -> None:
    probe.hit(payload["sent_at_seconds"])


async def _persist(connection: AsyncConnection[Any], job: int, number: int) -> None:
    await connection.execute(_PERSIST, [Jsonb({"number": number}), job])


async def _transact(connection: AsyncConnection[Any], job: int, number: int) -> None:
    async with connection.transaction():
        await connection.execute(_ROW, [job, number])
        await _persist(connection, job, number)


_CHECKPOINTS = {"persist": _persist, "transact": _transact}
