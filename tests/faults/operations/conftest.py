"""Fixtures for the operator's tests: `perdure worker` as a process, on a server that may be stopped, with many jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.migrated import migrate_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

OFFICE = """\
import asyncio
import json
import os
import time

from perdure import App, Context

app = App(
    execution=json.loads(os.environ.get("TEST_EXECUTION", "{}")),
    scheduling={"polling_delay": 0.2, "scheduler_retry_count": 100, "scheduler_retry_delays": [1]},
)


@app.task("hold")
async def hold(ctx: Context[None, int]) -> None:
    await asyncio.Event().wait()


@app.task("write")
async def write(ctx: Context[None, int]) -> None:
    while True:
        async with ctx.transaction() as connection:
            await connection.execute("select 1")
        await asyncio.sleep(0.5)


@app.task("persist")
async def persist(ctx: Context[None, int]) -> None:
    while True:
        ctx.execution_metadata = ctx.execution_metadata + 1
        await ctx.persist()
        await asyncio.sleep(0.5)


@app.task("nothing")
async def nothing(ctx: Context[None, int]) -> int:
    return 1


@app.task("gate")
async def gate(ctx: Context[str, int]) -> int:
    print("at the gate", flush=True)
    while not os.path.exists(ctx.metadata):
        await asyncio.sleep(0.02)
    return 1


@app.task("block")
async def block(ctx: Context[float, int]) -> None:
    print("blocking", flush=True)
    time.sleep(ctx.metadata)
"""


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """A folder that holds `office.py` with its `app`."""
    (tmp_path / "office.py").write_text(OFFICE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def private_dsn(private_cluster: Cluster) -> str:
    """The dsn of a migrated database on a server of the test's own."""
    dsn = private_cluster.dsn(private_cluster.create_database())
    migrate_database(dsn)
    return dsn


@pytest.fixture
def start_worker(processes: Processes, office: Path) -> Callable[..., Process]:
    """Start `perdure worker office:app …` on the database of a dsn, with these execution settings."""

    def start(dsn: str, *arguments: str, **execution: Any) -> Process:
        settings = {"lease_duration": 3, "shutdown_grace": 0.2, "cancel_grace": 2, **execution}
        environment = {"PERDURE_DSN": dsn, "TEST_EXECUTION": json.dumps(settings)}
        return processes.perdure("worker", "office:app", *arguments, env=environment, cwd=office)

    return start
