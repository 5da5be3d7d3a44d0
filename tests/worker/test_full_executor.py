"""Handlers that hold all threads of the loop's default executor: a worker needs none of them for its own work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perdure import App, Context
from perdure.store.resolving import resolved
from tests.support.jobs import until

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 2
TERMINATE = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s"


@contextlib.contextmanager
def few_threads() -> Iterator[threading.Event]:
    """A default executor with few threads; the event they wait for is set before the loop's end waits for them."""
    go_on = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    try:
        yield go_on
    finally:
        go_on.set()


async def hold_all_threads(app: App, go_on: threading.Event) -> None:
    """Have handlers wait in every thread that `asyncio.to_thread` has, and a further one queue for one."""
    holding = list[int]()

    @app.task("holds")
    async def holds(ctx: Context[None, None]) -> None:
        holding.append(ctx.id)
        await asyncio.to_thread(go_on.wait)

    await holds.start_many([None] * (THREADS + 1))
    await until(lambda: len(holding) == THREADS + 1, "they all wait")


async def test_a_worker_stops_and_its_app_closes(migrated_database: str) -> None:
    app = App(migrated_database, execution={"shutdown_grace": 0, "cancel_grace": 0.1})
    with few_threads() as go_on:
        async with app, app.worker():
            await hold_all_threads(app, go_on)
        await app.open()
        await app.close()


@pytest.mark.parametrize("which", ["perdure worker", "perdure listener"])
async def test_a_worker_connects_again_to_a_host_that_has_a_name(migrated_database: str, which: str) -> None:
    dsn = make_conninfo(migrated_database, host="localhost")
    # A notification alone tells of a job, else polling would.
    app = App(dsn, scheduling={"polling_delay": 3600}, execution={"shutdown_grace": 0, "cancel_grace": 0.1})

    @app.task("quick")
    async def quick(_ctx: Context[None, None]) -> int:
        return 1

    with few_threads() as go_on:
        async with app, app.worker() as worker:
            await hold_all_threads(app, go_on)
            await until(lambda: worker._listener.is_listening, "it listens")
            async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table:
                row: Any = await (await table.execute(TERMINATE, [which])).fetchone()
            assert row[0] > 0
            if which == "perdure listener":
                await until(lambda: not worker._listener.is_listening, "its connection is gone")
                await until(lambda: worker._listener.is_listening, "it listens again")
            job = await quick.start()
            assert await job.result(timeout=20) == 1


@pytest.mark.parametrize(
    ("dsn", "hosts", "ports"),
    [
        ("host=localhost dbname=shop", {"localhost"}, {"5432"}),
        ("host=localhost,127.0.0.9 port=5433 dbname=shop", {"localhost", "127.0.0.9"}, {"5433"}),
        ("host=localhost,no-such-host.invalid port=1,2", {"localhost"}, {"1"}),
    ],
)
async def test_a_name_is_looked_up_and_kept_for_the_certificate(dsn: str, hosts: set[str], ports: set[str]) -> None:
    found = conninfo_to_dict(await resolved(dsn))
    columns = [str(found[key]).split(",") for key in ("host", "hostaddr", "port")]
    assert (set(columns[0]), set(columns[2])) == (hosts, ports)
    of_hosts = {*zip(columns[0], columns[1], strict=True)}
    assert ("localhost", "127.0.0.1") in of_hosts
    assert ("127.0.0.9", "127.0.0.9") in of_hosts or "127.0.0.9" not in hosts
    assert found.get("dbname") == conninfo_to_dict(dsn).get("dbname")


@pytest.mark.parametrize(
    "dsn",
    [
        "host=/var/run/postgresql dbname=shop",
        "host=127.0.0.1",
        "host=localhost hostaddr=127.0.0.1",
        "host=no-such-host.invalid",
        "host=localhost,/tmp",
        "host=localhost,localhost port=1,2,3",
        "dbname=shop",
    ],
)
async def test_where_nothing_is_to_be_looked_up_or_found_the_dsn_stays_as_it_is(dsn: str) -> None:
    assert await resolved(dsn) == dsn
