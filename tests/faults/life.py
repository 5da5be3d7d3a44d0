"""A job's whole life, told by one app: every verb, every outcome, everything that a handler can ask for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg

import perdure.blocking
from perdure import App, Context, Failed, Job, JobCancelled, JobState, Proceeded, Retried, Sent, Suspended
from tests.support.jobs import is_in

__all__ = ["EFFECTS", "Life"]

EFFECTS = "create table effects (job bigint, what text)"


@dataclass
class Place:
    """A checkpoint."""

    rows: int = 0
    calls: int = 0


@dataclass
class Go:
    """An event."""

    to: str


class Life:
    """The tasks of an app, and what is done with them.

    Attributes:
        app: Open it, and run a worker of it.
        begun: Set when a job that lasts has begun.
    """

    def __init__(self, dsn: str, **sections: Any) -> None:
        """Make an app of it."""
        scheduling = {"polling_delay": 0.1, "scheduler_retry_count": 1, "scheduler_retry_delays": [0]}
        execution = {"lease_duration": 3, "cancel_grace": 0.5, "max_retry_count": 0}
        self.app = App(
            dsn,
            persistence=sections.get("persistence"),
            scheduling=scheduling | sections.get("scheduling", {}),
            execution=execution | sections.get("execution", {}),
        )
        self.begun = asyncio.Event()
        self._define_writing()
        self._define_ending()

    def _define_writing(self) -> None:
        app = self.app

        @app.task("writes")
        async def writes(ctx: Context[str, Place]) -> int:
            place = ctx.execution_metadata
            for _ in range(3):
                async with ctx.transaction() as connection:
                    await connection.execute("insert into effects values (%s, %s)", [ctx.id, ctx.metadata])
                    place.rows += 1
                await ctx.persist()
            await ctx.progress(place.rows, 3)
            return place.rows

        @app.task("writes.thread")
        def writes_in_thread(ctx: perdure.blocking.Context[str, Place]) -> int:
            with ctx.transaction() as connection:
                connection.execute("insert into effects values (%s, %s)", [ctx.id, ctx.metadata])
                ctx.execution_metadata.rows += 1
            ctx.persist()
            return ctx.execution_metadata.rows

    def _define_ending(self) -> None:
        app = self.app

        @app.task("raises")
        async def raises(ctx: Context[None, Place]) -> int:
            if ctx.attempt == 1:
                raise ConnectionError
            return ctx.attempt

        @app.task("fails")
        async def fails(ctx: Context[None, Place]) -> int | Failed[str]:
            return Failed("no") if ctx.attempt == 1 else ctx.attempt

        @app.task("waits", events=Go)
        async def waits(ctx: Context[None, Place]) -> str | Suspended:
            place = ctx.execution_metadata
            place.calls = await ctx.step("call", _one)
            event = await ctx.next_event()
            if event is None:
                return Suspended()
            place.rows += 1
            await ctx.persist()
            return event.to

        @app.task("suspends")
        async def suspends(ctx: Context[None, Place]) -> int | Suspended:
            return ctx.execution_metadata.rows if ctx.attempt > 1 else Suspended()

        @app.task("lasts")
        async def lasts(ctx: Context[None, Place]) -> None:
            self.begun.set()
            await asyncio.Event().wait()

    async def live(self, database: str) -> None:
        """Do it all, in an app that is open and has a worker.

        Args:
            database: Where the effects are, to be looked at directly.
        """
        await self._write(database)
        await self._wait()
        await self._end()

    async def _write(self, database: str) -> None:
        task = self.app.tasks
        jobs = [await task["writes"].start("one"), *await task["writes"].start_many(["many"] * 20)]
        async with self.app.pool.connection() as connection, connection.transaction():
            jobs.append(await task["writes"].start("in a transaction", connection=connection))
        assert [await job.result(timeout=30) for job in jobs] == [3] * 22
        thread = await asyncio.to_thread(self.app.blocking.start, task["writes.thread"], "thread")
        assert await asyncio.to_thread(self.app.blocking.result, thread, timeout=30) == 1
        async with await psycopg.AsyncConnection.connect(database) as connection:
            cursor = await connection.execute("select what, count(*) from effects group by what")
            counts: dict[str, int] = dict(await cursor.fetchall())
        assert counts == {"one": 3, "many": 60, "in a transaction": 3, "thread": 1}

    async def _wait(self) -> None:
        task = self.app.tasks
        waits, suspends = await task["waits"].start(), await task["suspends"].start()
        await is_in(waits, JobState.SUSPENDED)
        assert await task["waits"].send(waits.id, Go("riga")) == Sent(waits.id)
        assert await waits.result(timeout=30) == "riga"
        assert (await waits.refresh()).execution_metadata == Place(rows=1, calls=1)
        await is_in(suspends, JobState.SUSPENDED)
        answer = await self.app.proceed(suspends.id, _grown)
        assert isinstance(answer, Proceeded)
        assert await suspends.result(timeout=30) == 7

    async def _end(self) -> None:
        task = self.app.tasks
        assert await (await task["raises"].start()).result(timeout=30) == 2
        failed = await task["fails"].start()
        await is_in(failed, JobState.FAILED)
        assert isinstance(await self.app.retry(failed.id), Retried)
        assert await (await failed.refresh()).result(timeout=30) == 2
        self.begun.clear()
        lasts = await task["lasts"].start()
        await asyncio.wait_for(self.begun.wait(), 30)
        await self.app.cancel(lasts.id)
        await _raises(JobCancelled, lasts)


async def _one() -> int:
    return 1


def _grown(place: Place) -> Place:
    return Place(rows=7, calls=place.calls)


async def _raises(error: type[Exception], job: Job[Any, Any, Any, Any]) -> None:
    try:
        await job.result(timeout=30)
    except error:
        return
    message = f"job {job.id} ended without {error.__name__}"
    raise AssertionError(message)
