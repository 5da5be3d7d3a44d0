"""A COMMIT whose answer is lost: perdure finds out what happened, and never guesses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context, JobState
from perdure.blocking import Context as BlockingContext  # noqa: TC001 - a task's annotation is evaluated
from perdure.store import running
from tests.support.jobs import job_until, until
from tests.support.proxy import Proxy, Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from perdure.store.calls import Call
    from perdure.store.settles import Persist
    from perdure.store.sql import Names


@dataclass
class Progress:
    done: int = 0


@pytest_asyncio.fixture
async def table(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (n int)")
        yield connection


@pytest_asyncio.fixture
async def proxy(migrated_database: str) -> AsyncIterator[Proxy]:
    async with Proxy(migrated_database) as proxy:
        yield proxy


async def effects(table: psycopg.AsyncConnection[Any]) -> list[int]:
    return [row[0] for row in await (await table.execute("select n from effects order by n")).fetchall()]


def app_with_pages(dsn: str, proxy: Proxy, kind: str, seen: list[str]) -> App:
    app = App(
        dsn, scheduling={"polling_delay": 0.1, "scheduler_retry_count": 1, "scheduler_retry_delays": [0]}, execution={}
    )

    @app.task("pages")
    async def pages(ctx: Context[None, Progress]) -> int:
        progress = ctx.execution_metadata
        seen.append(f"run from {progress.done}")
        while progress.done < 4:
            if ctx.attempt == 1 and progress.done == 2 and "armed" not in seen:
                seen.append("armed")
                proxy.arm(b"COMMIT", kind)  # type: ignore[arg-type] - one of the three
            try:
                async with ctx.transaction() as connection:
                    await connection.execute("insert into effects values (%s)", [progress.done])
                    progress.done += 1
            except psycopg.OperationalError:
                seen.append(f"raised at {progress.done}")
                if kind == "before":
                    raise
                await land_late(proxy)
        return progress.done

    return app


async def land_late(proxy: Proxy) -> None:
    """Let the server have the COMMIT that was held back, and wait until it has dealt with it."""
    proxy.release()
    await proxy.delivered.wait()
    async with await psycopg.AsyncConnection.connect(proxy.direct_dsn, autocommit=True) as connection:

        async def in_transaction() -> int:
            query = (
                "select count(*) from pg_stat_activity "
                "where datname = current_database() and application_name = 'perdure' "
                "and state <> 'idle' and backend_xid is not null"
            )
            row = await (await connection.execute(query)).fetchone()
            assert row is not None
            return int(row[0])

        while await in_transaction():
            pass


async def test_a_commit_that_never_reached_the_server_is_a_raise(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    seen: list[str] = []
    app = app_with_pages(proxy.dsn, proxy, "before", seen)
    async with app, app.worker():
        job = await app.tasks["pages"].start()
        assert await job.result(timeout=20) == 4
    assert seen == ["run from 0", "armed", "raised at 2", "run from 2"]
    assert (await job_attempt(table)) == 2
    assert await effects(table) == [0, 1, 2, 3]


async def test_a_commit_that_was_found_not_to_have_landed_never_lands(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    """The server gets it afterwards: its checkpoint's number is taken by then, and the same attempt goes on."""
    seen: list[str] = []
    app = app_with_pages(proxy.dsn, proxy, "late", seen)
    async with app, app.worker():
        job = await app.tasks["pages"].start()
        assert await job.result(timeout=20) == 4
    assert seen == ["run from 0", "armed", "raised at 2"]
    assert (await job_attempt(table)) == 1
    assert await effects(table) == [0, 1, 2, 3]


async def test_the_question_whether_a_commit_has_landed_may_itself_go_unheard(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    """The number is taken and nobody hears of it: asked again, that must not look like the COMMIT that took it."""
    seen: list[str] = []
    app = app_with_pages(proxy.dsn, proxy, "before", seen)

    async def cut_the_question() -> None:
        await proxy.broken.wait()
        proxy.broken.clear()
        proxy.arm(b"set checkpoint = ", "after")  # of take_checkpoint_number.sql
        await proxy.broken.wait()

    cut = asyncio.create_task(cut_the_question())
    async with app, app.worker():
        job = await app.tasks["pages"].start()
        assert await job.result(timeout=20) == 4
    await cut
    assert seen == ["run from 0", "armed", "raised at 2", "run from 2"]
    assert await effects(table) == [0, 1, 2, 3]


async def test_a_commit_that_landed_unheard_is_success(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    seen: list[str] = []
    app = app_with_pages(proxy.dsn, proxy, "after", seen)
    async with app, app.worker():
        job = await app.tasks["pages"].start()
        assert await job.result(timeout=20) == 4
        assert proxy.broken.is_set()
    assert seen == ["run from 0", "armed"]
    assert (await job_attempt(table)) == 1
    assert await effects(table) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("message", [b'insert into "background_tasks".finished_jobs', b"checkpoint = checkpoint + 1"])
async def test_an_exchange_whose_answer_is_lost_is_made_again_without_harm(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy, kind: str, message: bytes
) -> None:
    app = App(proxy.dsn, scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0})

    @app.task("persists")
    async def persists(ctx: Context[None, Progress]) -> int:
        for _ in range(5):
            ctx.execution_metadata.done += 1
            await ctx.persist()
        return ctx.execution_metadata.done

    proxy.arm(message, kind)  # type: ignore[arg-type] - one of the three
    async with app, app.worker():
        jobs = await app.tasks["persists"].start_many([None] * 20)
        for job in jobs:
            assert await job.result(timeout=20) == 5
        await until(proxy.broken.is_set, "the connection is broken")
        assert [(await job.refresh()).attempt for job in jobs] == [1] * 20


async def test_a_claim_whose_answer_is_lost_strands_no_job(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    app = App(proxy.dsn, scheduling={"polling_delay": 0.1})

    @app.task("one")
    async def one(ctx: Context[None, None]) -> int:
        return 1

    async with app:
        job = await app.tasks["one"].start()
        proxy.arm(b") as level", "after")  # of claim.sql alone
        async with app.worker():
            assert await job.result(timeout=20) == 1
            assert proxy.broken.is_set()
        assert (await job.refresh()).attempt == 1
    row = await (await table.execute("select claim from background_tasks.finished_jobs")).fetchone()
    assert row == (2,)  # the first went unheard


async def job_attempt(table: psycopg.AsyncConnection[Any]) -> int:
    row = await (await table.execute("select attempt from background_tasks.finished_jobs")).fetchone()
    assert row is not None
    attempt: int = row[0]
    return attempt


async def test_a_commit_that_never_landed_is_no_progress_and_gives_no_retries_back(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    app = App(
        proxy.dsn,
        scheduling={"polling_delay": 0.1, "scheduler_retry_count": 2, "scheduler_retry_delays": [0]},
        execution={},
    )
    attempts: list[int] = []

    @app.task("pages", progress_resets_retries=True)
    async def pages(ctx: Context[None, Progress]) -> None:
        attempts.append(ctx.attempt)
        proxy.arm(b"COMMIT", "before")
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.done += 1

    async with app, app.worker():
        job = await pages.start()
        await job_until(job, lambda job: job.state.is_final)
    assert job.state is JobState.FAILED
    assert attempts == [1, 2, 3]
    assert await effects(table) == []


async def test_a_commit_of_a_thread_that_landed_unheard_is_success(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    app = App(proxy.dsn, scheduling={"polling_delay": 0.1, "scheduler_retry_count": 0})

    @app.task("pages")
    def pages(ctx: BlockingContext[None, Progress]) -> int:
        for number in range(3):
            with ctx.transaction() as connection:
                connection.execute("insert into effects values (%s)", [number])
                ctx.execution_metadata.done += 1
        return ctx.execution_metadata.done

    proxy.arm(b"COMMIT", "after")
    async with app, app.worker():
        job = await pages.start()
        assert await job.result(timeout=20) == 3
        assert proxy.broken.is_set()
    assert (await job_attempt(table)) == 1
    assert await effects(table) == [0, 1, 2]


async def test_a_lane_that_hears_nothing_is_found_out_though_the_lease_is_renewed(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy
) -> None:
    app = App(proxy.dsn, scheduling={"polling_delay": 0.1}, execution={"lease_duration": 3})

    @app.task("one")
    async def one(ctx: Context[None, None]) -> int:
        return 1

    async with app, app.worker() as worker:
        first, connections = worker.worker_id, [lane._connection for lane in worker.lanes]
        proxy.weather_of["perdure worker"] = Weather(black_hole=True)
        job = await one.start()
        await until(
            lambda: all(connection is None or connection.closed for connection in connections),
            "they are given up after a lease",
        )
        proxy.weather_of.clear()
        assert await job.result(timeout=20) == 1
        assert worker.worker_id == first


async def test_a_row_that_was_locked_for_a_moment_when_asked_about_a_commit_is_no_lost_lease(
    migrated_database: str, table: psycopg.AsyncConnection[Any], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    app = app_with_pages(proxy.dsn, proxy, "before", seen)
    ask = running.take_checkpoint_number
    numbers = iter([100])

    def asks_in_vain_first(names: Names, worker: UUID, entry: Persist) -> Call[int | None]:
        return ask(names, worker, entry._replace(checkpoint=next(numbers, entry.checkpoint)))

    monkeypatch.setattr(running, "take_checkpoint_number", asks_in_vain_first)
    async with app, app.worker():
        job = await app.tasks["pages"].start()
        assert await job.result(timeout=20) == 4
    assert seen == ["run from 0", "armed", "raised at 2", "run from 2"]
    assert await effects(table) == [0, 1, 2, 3]
