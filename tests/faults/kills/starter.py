"""A process that starts many jobs, batch by batch, and says of each batch once it is told that it is stored."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import psycopg

from tests.faults.kills.tasks import make

if TYPE_CHECKING:
    from perdure import Job

TOTAL = 5_000


def say(jobs: list[Job[Any, Any, Any, Any]]) -> None:
    print(f"stored {len(jobs)}: {jobs[0].id} to {jobs[-1].id}", flush=True)  # noqa: T201 - the test reads it


async def start(dsn: str) -> None:
    async with make(dsn) as app:
        async for jobs in app.tasks["plain"].start_batches(float(n) for n in range(TOTAL)):
            say(jobs)


async def start_in_transaction(dsn: str) -> None:
    async with make(dsn) as app, await psycopg.AsyncConnection.connect(dsn) as connection:
        async for jobs in app.tasks["plain"].start_batches((float(n) for n in range(TOTAL)), connection=connection):
            say(jobs)


def start_blocking(dsn: str) -> None:
    app = make(dsn)
    for jobs in app.blocking.start_batches(app.tasks["plain"], [float(n) for n in range(TOTAL)]):
        say(jobs)
    app.blocking.close()


if __name__ == "__main__":
    dsn, way = os.environ["TEST_DSN"], sys.argv[1]
    if way == "blocking":
        start_blocking(dsn)
    else:
        asyncio.run(start_in_transaction(dsn) if way == "in a transaction" else start(dsn))
