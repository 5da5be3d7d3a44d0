"""The interface as its description shows it, run on a real database; type checkers read the same file."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from perdure import App, Job, JobState
from tests.support.jobs import job_until

SAMPLE = Path(__file__).parents[1] / "typing" / "samples" / "interface.py"


async def test_what_the_interface_shows_works(migrated_database: str, monkeypatch: Any) -> None:
    made = App
    monkeypatch.setattr("perdure.App", lambda _, **given: made(migrated_database, **given))
    specification = importlib.util.spec_from_file_location("interface_sample", SAMPLE)
    assert specification is not None
    assert specification.loader is not None
    sample = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(__import__("sys").modules, "interface_sample", sample)
    specification.loader.exec_module(sample)

    async def until(job: Job[Any, Any, Any, Any], state: JobState) -> None:
        await job_until(job, lambda job: job.state is state)

    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as own, sample.app as app:
        await own.execute("create table orders (n int)")
        async with app.worker(queues=["default", "slow"], concurrency=100, shutdown_grace=timedelta(seconds=5)):
            await sample.start(own, datetime.now(UTC) + timedelta(days=1))
            await sample.steer(until)
            await sample.fulfil(until)
            assert await sample.look(datetime.now(UTC) - timedelta(days=1)) == [1]
        orders = await (await own.execute("select n from orders order by n")).fetchall()
        assert orders == [(n,) for n in range(1, 7)]
