"""The two that are compared, with the same methods: perdure by its public interface, and bare psycopg."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks import bare
from benchmarks.payloads import Order, order
from benchmarks.tasks import ROWS, Steps, Tasks

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["BareSide", "PerdureSide", "Side"]

_BATCH = 1000
_numbers = count(1)


class Side(Protocol):
    """What is measured of both.

    Attributes:
        name: As the worker's process calls it.
        schema: Where perdure's jobs are, fresh for every measurement.
    """

    name: str
    schema: str

    async def open(self) -> None:
        """Make fresh tables and connect."""
        ...

    async def close(self) -> None:
        """Disconnect, and drop what was made."""
        ...

    async def start(self, payload: Order) -> None:
        """Start one job; a worker that is idle is to hear of it."""
        ...

    async def start_quietly(self, payload: Order) -> None:
        """Start one job by the least that is to be done where no worker is idle."""
        ...

    async def start_many(self, jobs: int) -> list[int]:
        """Start many no-op jobs, and return their ids."""
        ...

    async def start_steps(self, work: str, jobs: int, times: int) -> list[int]:
        """Start jobs that store checkpoints; where nothing has to be started, return nothing."""
        ...

    async def are_final(self, ids: list[int] | None = None) -> bool:
        """Whether these jobs, or all, have ended."""
        ...


class PerdureSide:
    """perdure, in a schema of its own."""

    name = "perdure"

    def __init__(self, dsn: str) -> None:
        """Prepare; nothing is connected yet."""
        self.schema = f"bench_{next(_numbers)}"
        self._tasks = Tasks(dsn, self.schema)

    async def open(self) -> None:
        """Migrate."""
        app = self._tasks.app
        await app.open()
        await app.migrate()
        async with app.pool.connection() as connection:
            await connection.execute(ROWS)

    async def close(self) -> None:
        """Drop the schema."""
        app = self._tasks.app
        async with app.pool.connection() as connection:
            await connection.execute(f"drop schema {self.schema} cascade".encode())
        await app.close()

    async def start(self, payload: Order) -> None:
        """Start a job."""
        await self._tasks.noop.start(payload)

    start_quietly = start

    async def start_many(self, jobs: int) -> list[int]:
        """Start many in one call, which makes batches by itself."""
        return [job.id for job in await self._tasks.noop.start_many(order(number) for number in range(jobs))]

    async def start_steps(self, work: str, jobs: int, times: int) -> list[int]:
        """Start jobs of the tasks `persist` or `transact`."""
        task = self._tasks.persist if work == "persist" else self._tasks.transact
        return [job.id for job in await task.start_many(Steps(times) for _ in range(jobs))]

    async def are_final(self, ids: list[int] | None = None) -> bool:
        """Look into the table of live jobs."""
        where = "" if ids is None else "where id = any(%s)"
        async with self._tasks.app.pool.connection() as connection:
            query = f"select not exists (select from {self.schema}.jobs {where})".encode()
            return await _truth(connection, query, ids)


class BareSide:
    """Bare psycopg: one connection, one table."""

    name = "bare"
    schema = "public"

    def __init__(self, dsn: str) -> None:
        """Prepare; nothing is connected yet."""
        self._dsn = dsn

    async def open(self) -> None:
        """Make the table."""
        self._connection = await bare.connect(self._dsn)
        await self._connection.execute(bare.SCHEMA, prepare=False)

    async def close(self) -> None:
        """Disconnect; the next measurement drops the table."""
        await self._connection.close()

    async def start(self, payload: Order) -> None:
        """Insert a row and notify."""
        await self._insert(bare.INSERT_AND_NOTIFY, payload)

    async def start_quietly(self, payload: Order) -> None:
        """Insert a row."""
        await self._insert(bare.INSERT, payload)

    async def start_many(self, jobs: int) -> list[int]:
        """Insert rows, a thousand in a statement."""
        ids: list[int] = []
        for first in range(0, jobs, _BATCH):
            payloads = [bare.encoded(order(number)) for number in range(first, min(jobs, first + _BATCH))]
            cursor = await self._connection.execute(bare.INSERT_MANY, [payloads])
            ids += [row[0] for row in await cursor.fetchall()]
        return ids

    async def start_steps(self, work: str, jobs: int, times: int) -> list[int]:  # noqa: ARG002 - as a Side's
        """Start nothing: the worker's process makes its rows by itself."""
        return []

    async def are_final(self, ids: list[int] | None = None) -> bool:
        """Look into the table."""
        query = bare.FINISHED.format(condition="" if ids is None else "id = any(%s) and")
        return await _truth(self._connection, query.encode(), ids)

    async def _insert(self, query: str, payload: Order) -> None:
        cursor = await self._connection.execute(query.encode(), [bare.encoded(payload)], binary=True)
        await cursor.fetchone()


async def _truth(connection: AsyncConnection[Any], query: bytes, ids: list[int] | None) -> bool:
    row = await (await connection.execute(query, None if ids is None else [ids])).fetchone()
    return row is not None and bool(row[0])
