"""What handlers ask of the database, each a lane's turn, holds up nothing that the worker does for others."""

from __future__ import annotations

import asyncio
import uuid

from perdure import App, Context, JobState
from tests.support.jobs import is_in, until

HANDLERS = 20
A_LOST_WORKER = """
    insert into background_tasks.workers (id, lease_until, lease_seconds, host, pid, concurrency, version)
    values (%s, clock_timestamp(), 30, 'h', 1, 1, '1')
"""


async def test_questions_that_never_end_hold_up_no_rescue(migrated_database: str) -> None:
    app = App(migrated_database)
    asked = 0
    is_over = asyncio.Event()

    @app.task("curious", events=int)
    async def curious(ctx: Context[int, None]) -> None:
        nonlocal asked
        while not is_over.is_set():
            assert await ctx.next_event() is None
            asked += 1

    @app.task("lost", queue="others")
    async def lost(ctx: Context[None, None]) -> None: ...

    async with app:
        job, lost_worker = await lost.start(), uuid.uuid4()
        async with app.worker(queues=["default"]) as worker:
            await curious.start_many(range(HANDLERS))
            await until(lambda: asked > 10 * HANDLERS, "all of them ask")
            async with app.pool.connection() as connection:
                await connection.execute(A_LOST_WORKER, [lost_worker])
                await connection.execute(
                    "update background_tasks.jobs set state = 2, worker_id = %s, claim = 1, attempt = 1 where id = %s",
                    [lost_worker, job.id],
                )
            worker._rescuer.poke()
            try:
                await is_in(job, JobState.PENDING)
            finally:
                is_over.set()
