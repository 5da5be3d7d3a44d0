"""A client for `test_clocks.py`, whose clock may be wrong: it gives durations to every verb that takes one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

from perdure import App, Context, Suspended

__all__ = ["AFTER", "DEADLINE", "define"]

AFTER, DEADLINE = timedelta(hours=3), timedelta(hours=5)


def define(app: App) -> Any:
    """Define the task that is started."""

    @app.task("of later")
    async def of_later(ctx: Context[int, None]) -> Suspended:
        return Suspended()

    return app.tasks["of later"]


async def main(dsn: str, suspended: int) -> None:
    """Start jobs in each way, proceed one that is suspended; say what time it is, and which jobs, by the verb."""
    app = App(dsn)
    task = define(app)
    async with app:
        one = await task.start(1, at=AFTER, deadline=DEADLINE)
        many = await task.start_many([2, 3], at=AFTER, deadline=DEADLINE)
        async with app.pool.connection() as connection, connection.transaction():
            within = await task.start(4, at=AFTER, deadline=DEADLINE, connection=connection)
        blocking = await asyncio.to_thread(app.blocking.start, task, 5, at=AFTER, deadline=DEADLINE)
        await app.proceed(suspended, at=AFTER)
    started = {"start": one, "start many": many[1], "in a transaction": within, "blocking": blocking}
    jobs = {**{verb: job.id for verb, job in started.items()}, "proceed": suspended}
    sys.stdout.write(json.dumps({"now": time.time(), "jobs": jobs}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(os.environ["TEST_DSN"], int(os.environ["TEST_SUSPENDED"])))
