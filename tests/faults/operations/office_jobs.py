"""Jobs for the tasks of `office.py`, whose code is the workers'."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from perdure import App, Context

__all__ = ["start_jobs", "until_held"]


async def start_jobs(dsn: str, metadata: Any = None, **numbers: int) -> None:
    """Start so many jobs of each task that is named."""
    app = App(dsn)
    async with app:
        for name, number in numbers.items():

            @app.task(name)
            async def task(ctx: Context[Any, Any]) -> None: ...

            await task.start_many([metadata] * number, 0)


async def until_held(dsn: str, number: int) -> None:
    """Wait until workers hold so many jobs."""
    held = "select count(*) from background_tasks.jobs where worker_id is not null"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for _look in range(2_000):
            row = await (await connection.execute(held)).fetchone()
            if row == (number,):
                return
            await asyncio.sleep(0.02)
    pytest.fail(f"workers hold {row} jobs, not {number}")
