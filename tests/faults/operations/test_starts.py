"""Starting, sending and asking while the database is away: bounded, a clear error, nothing half done; it recovers."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context
from perdure import connections as connections_module
from perdure.errors import DatabaseUnavailable
from tests.faults.operations.nights import AT_NIGHT
from tests.support.tiers import count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.cluster import Cluster

NO_CONNECTION = (
    r"^{}: no connection within 10 s: (connection (failed|timeout).*|the database is away, or all 2 connections "
    r"\(execution.max_connections\) are in use; inside ctx.transaction\(\), pass its own: connection=…)$"
)
BOUND_SECONDS = 45  # far above the ten seconds that they wait; below what a hanging call would take


def make_app(dsn: str) -> App:
    app = App(dsn, execution={"max_connections": 2})

    @app.task("work", events=int)
    async def work(ctx: Context[int, None]) -> int:
        return ctx.metadata

    return app


def awaited(app: App, job_id: int) -> dict[str, Callable[[], Awaitable[Any]]]:
    task = app.tasks["work"]
    return {
        "start": lambda: task.start(1),
        "start_many": lambda: task.start_many([1, 2, 3]),
        "send": lambda: task.send(job_id, 1),
        "proceed": lambda: app.proceed(job_id),
        "cancel": lambda: app.cancel(job_id),
        "jobs": lambda: anext(app.jobs()),
        "read a job": lambda: app.job(job_id),
    }


def blocking(app: App, job_id: int) -> dict[str, Callable[[], Any]]:
    task = app.tasks["work"]
    return {
        "start": lambda: app.blocking.start(task, 1),
        "start_many": lambda: app.blocking.start_many(task, [1, 2, 3]),
        "send": lambda: app.blocking.send(task, job_id, 1),
        "proceed": lambda: app.blocking.proceed(job_id),
        "cancel": lambda: app.blocking.cancel(job_id),
        "jobs": lambda: next(iter(app.blocking.jobs())),
        "read a job": lambda: app.blocking.job(job_id),
    }


async def all_refused(app: App, job_id: int) -> None:
    """Make every call at once, awaited and from threads; each has to end, in time, with the same error."""
    began_seconds = time.monotonic()
    calls = [(name, call()) for name, call in awaited(app, job_id).items()]
    calls += [(name, asyncio.to_thread(call)) for name, call in blocking(app, job_id).items()]
    answers = await asyncio.gather(*(call for _name, call in calls), return_exceptions=True)
    for (name, _call), answer in zip(calls, answers, strict=True):
        assert isinstance(answer, DatabaseUnavailable), (name, answer)
        assert re.match(NO_CONNECTION.format(name), str(answer)), answer
    assert time.monotonic() - began_seconds < BOUND_SECONDS


async def jobs_of(app: App) -> int:
    return len([job async for job in app.jobs()])


@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", ["stopped", "frozen"][: count(push=1, nightly=2)])
async def test_calls_end_with_a_clear_error_and_work_again_once_it_is_back(
    private_cluster: Cluster, private_dsn: str, fault: str
) -> None:
    app = make_app(private_dsn)
    async with app:
        job = await app.tasks["work"].start(0)
        await asyncio.to_thread(app.blocking.job, job.id)
        await asyncio.sleep(connections_module.WAIT_SECONDS / 5)  # so that no connection is trusted for its last use
        private_cluster.stop() if fault == "stopped" else private_cluster.freeze()
        await all_refused(app, job.id)
        private_cluster.start() if fault == "stopped" else private_cluster.thaw()
        assert await jobs_of(app) == 1  # nothing of all that was done
        second = await app.tasks["work"].start(1)
        third = await asyncio.to_thread(app.blocking.start, app.tasks["work"], 2)
        assert second.id < third.id
        assert await jobs_of(app) == 3


@pytest.mark.timeout(120)
async def test_a_server_that_freezes_under_calls_doesnt_keep_their_connections_for_ever(
    private_cluster: Cluster, private_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "ANSWER_SECONDS", 3.0)
    app = make_app(private_dsn)
    async with app:
        await app.tasks["work"].start(0)
        await asyncio.to_thread(app.blocking.start, app.tasks["work"], 0)
        async with await psycopg.AsyncConnection.connect(private_dsn) as locking:
            # Held up by a lock until the server freezes: so they are under way just then.
            await locking.execute("lock table background_tasks.jobs in access exclusive mode")
            under_way = [
                asyncio.create_task(app.tasks["work"].start(1)),
                asyncio.create_task(asyncio.to_thread(app.blocking.start, app.tasks["work"], 1)),
            ]
            await _until_waiting(private_dsn, 2)
            private_cluster.freeze()
            try:
                for call in under_way:
                    with pytest.raises(
                        DatabaseUnavailable, match=r"start: the connection to the database broke .* known$"
                    ):
                        await call
            finally:
                private_cluster.thaw()
        await app.tasks["work"].start(2)
        await asyncio.to_thread(app.blocking.start, app.tasks["work"], 2)


async def _until_waiting(dsn: str, number: int) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        for _look in range(1_000):
            if await (await admin.execute(waiting)).fetchone() == (number,):
                return
            await asyncio.sleep(0.02)
    pytest.fail("nobody waits for the lock")


@AT_NIGHT
async def test_opening_tells_at_once_that_nobody_listens_and_in_time_that_nobody_answers(
    private_cluster: Cluster, private_dsn: str
) -> None:
    private_cluster.stop()
    with pytest.raises(DatabaseUnavailable, match=r"^no connection to the database: .*[Cc]onnection refused"):
        await make_app(private_dsn).open()
    private_cluster.start()
    private_cluster.freeze()
    try:
        with pytest.raises(DatabaseUnavailable, match=r"^no connection to the database: connection timeout expired"):
            await make_app(private_dsn).open()
    finally:
        private_cluster.thaw()


async def test_start_in_the_callers_own_transaction_raises_what_the_driver_says_and_stores_nothing(
    private_cluster: Cluster, private_dsn: str
) -> None:
    app = make_app(private_dsn)
    async with app:
        connection = await psycopg.AsyncConnection.connect(private_dsn)
        await app.tasks["work"].start(1, connection=connection)
        private_cluster.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            await app.tasks["work"].start(2, connection=connection)
        await connection.close()
        assert await jobs_of(app) == 0
