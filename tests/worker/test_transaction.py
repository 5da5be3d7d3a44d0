"""`ctx.transaction()`: rows and checkpoint commit together or not at all, fenced by the attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio

from perdure import App, Context, JobState, LeaseLost, blocking
from perdure.errors import MisuseError
from perdure.store import transactions
from perdure.transaction import Transaction
from tests.support.jobs import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Inner:
    seen: list[int] = field(default_factory=list)


@dataclass
class Progress:
    rows: int = 0
    inner: Inner = field(default_factory=Inner)


@pytest_asyncio.fixture
async def table(migrated_database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of the test's own, to a table `effects`."""
    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (n int)")
        yield connection


async def effects(table: psycopg.AsyncConnection[Any]) -> list[int]:
    return [row[0] for row in await (await table.execute("select n from effects order by n")).fetchall()]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_rows_and_checkpoint_commit_together(app: App, table: psycopg.AsyncConnection[Any], kind: str) -> None:
    committed, go_on, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    @app.task("async")
    async def awaits(ctx: Context[None, Progress]) -> int:
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows = 1
        committed.set()
        await go_on.wait()
        return ctx.execution_metadata.rows

    @app.task("thread")
    def threaded(ctx: blocking.Context[None, Progress]) -> int:
        with ctx.transaction() as connection:
            connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows = 1
        loop.call_soon_threadsafe(committed.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        return ctx.execution_metadata.rows

    async with app.worker():
        job = await app.tasks[kind].start()
        await committed.wait()
        assert await effects(table) == [1]
        assert (await job.refresh()).execution_metadata == Progress(1)
        rows = await table.execute("select effects.xmin = jobs.xmin from effects, background_tasks.jobs")
        assert await rows.fetchall() == [(True,)]  # one transaction has written both, as they are
        go_on.set()
        assert await job.result(timeout=10) == 1


async def test_leaving_without_a_commit_puts_the_same_object_back(
    app: App, table: psycopg.AsyncConnection[Any]
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> bool:
        progress = ctx.execution_metadata
        progress.inner.seen.append(1)
        with pytest.raises(ValueError, match="boom"):  # noqa: PT012 - the block is what is tested
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (1)")
                progress.rows = 9
                progress.inner.seen.append(2)
                message = "boom"
                raise ValueError(message)
        return ctx.execution_metadata is progress and progress == Progress(0, Inner([1]))

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) is True
        assert await effects(table) == []
        assert (await job.refresh()).execution_metadata == Progress(0, Inner([1]))


async def test_a_failing_statement_rolls_both_back(app: App, table: psycopg.AsyncConnection[Any]) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        with pytest.raises(psycopg.errors.UndefinedTable):  # noqa: PT012 - the block is what is tested
            async with ctx.transaction() as connection:
                ctx.execution_metadata.rows = 9
                await connection.execute("insert into effects values (1)")
                await connection.execute("insert into nowhere values (1)")
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (2)")
        return ctx.execution_metadata.rows

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == 0
    assert await effects(table) == [2]


async def test_a_deferred_constraint_that_fails_at_commit_rolls_both_back(
    app: App, table: psycopg.AsyncConnection[Any]
) -> None:
    await table.execute("create table once (n int unique deferrable initially deferred)")

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        with pytest.raises(psycopg.errors.UniqueViolation):  # noqa: PT012 - the block is what is tested
            async with ctx.transaction() as connection:
                ctx.execution_metadata.rows = 9
                await connection.execute("insert into once values (1), (1)")
        await ctx.persist()
        return ctx.execution_metadata.rows

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=10) == 0


async def test_many_transactions_in_a_row_are_numbered(app: App, table: psycopg.AsyncConnection[Any]) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        for n in range(20):
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (%s)", [n])
                ctx.execution_metadata.rows += 1
            await ctx.persist()
        return ctx.execution_metadata.rows

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == 20
    assert await effects(table) == list(range(20))


async def test_a_zombie_cant_commit_nor_persist(app: App, table: psycopg.AsyncConnection[Any]) -> None:
    """The job is taken away by SQL, as a rescue and another claim do it, while its handler is in a block."""
    answers: list[type[BaseException] | None] = []
    taken = asyncio.Event()
    inside = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        try:
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (1)")
                ctx.execution_metadata.rows = 5
                inside.set()
                await taken.wait()
        except LeaseLost as error:
            answers.append(type(error))
        assert ctx.execution_metadata.rows == 0
        try:
            await ctx.persist()
        except LeaseLost as error:
            answers.append(type(error))
        return 1

    async with app.worker(shutdown_grace=2):
        job = await task.start()
        await inside.wait()
        await table.execute(
            "update background_tasks.jobs set claim = claim + 1, attempt = attempt + 1 where id = %s",
            [job.id],
        )
        taken.set()
        await until(lambda: len(answers) == 2, "both calls of the zombie are refused")
    assert answers == [LeaseLost, LeaseLost]
    assert await effects(table) == []
    row = await (await table.execute("select state, execution_metadata from background_tasks.jobs")).fetchone()
    assert row is not None
    assert row[1]["rows"] == 0


async def test_persist_inside_a_transaction_is_refused(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str:
        async with ctx.transaction():
            try:
                await ctx.persist()
            except MisuseError as error:
                return str(error)
        return ""

    async with app.worker():
        assert "ctx.persist() isn't allowed inside ctx.transaction()" in await (await task.start()).result(timeout=10)


async def test_a_commit_by_hand_inside_the_block_is_refused(app: App, table: psycopg.AsyncConnection[Any]) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str:
        try:
            async with ctx.transaction() as connection:
                ctx.execution_metadata.rows = 3
                await connection.execute("commit")
        except MisuseError as error:
            return f"{ctx.execution_metadata.rows} {error}"
        return ""

    async with app.worker():
        answer = await (await task.start()).result(timeout=10)
    assert answer.startswith("0 ")
    assert "can't commit together" in answer


async def test_a_stop_inside_the_block_rolls_back_and_keeps_the_entry(
    app: App, table: psycopg.AsyncConnection[Any]
) -> None:
    inside = asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        ctx.execution_metadata.rows = 1
        async with ctx.transaction() as connection:
            await connection.execute("insert into effects values (1)")
            ctx.execution_metadata.rows = 2
            inside.set()
            await asyncio.Event().wait()
        return 1

    async with app.worker(shutdown_grace=0):
        job = await task.start()
        await inside.wait()
    assert await effects(table) == []
    await job.refresh()
    assert (job.state, job.execution_metadata) == (JobState.PENDING, Progress(1))


async def test_a_block_that_couldnt_begin_gives_its_connection_back_however_often_it_is_cancelled(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, rolls_back, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    roll_back, rolled_back = Transaction._roll_back, list[Transaction]()

    async def begin(_connection: object, *, idle_seconds: float) -> None:
        assert idle_seconds
        begins.set()
        await asyncio.Event().wait()

    async def slow(transaction: Transaction) -> None:
        rolls_back.set()
        await go_on.wait()
        await roll_back(transaction)
        rolled_back.append(transaction)

    monkeypatch.setattr(transactions, "begin", begin)
    monkeypatch.setattr(Transaction, "_roll_back", slow)

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> None:
        async def block() -> None:
            async with ctx.transaction():
                pass

        inner = asyncio.create_task(block())
        await begins.wait()
        inner.cancel()
        await rolls_back.wait()
        inner.cancel()
        await asyncio.sleep(0)  # it comes in
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await inner
        monkeypatch.undo()
        async with ctx.transaction():  # which could not begin inside of another
            ctx.execution_metadata.rows = 1

    async with app.worker():
        await (await task.start()).result(timeout=20)
    assert rolled_back
    stats = app.pool.get_stats()
    assert stats["pool_available"] == stats["pool_size"]


async def test_a_frozen_block_holds_locks_no_longer_than_a_lease(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> str:
        async with ctx.transaction() as connection:
            row = await (await connection.execute("show idle_in_transaction_session_timeout")).fetchone()
            assert row is not None
            inside = row[0]
            pid = connection.info.backend_pid
        while True:  # until the pool lends the same one again; outside of it, it isn't ours
            async with app.pool.connection() as connection:
                row = await (await connection.execute("show idle_in_transaction_session_timeout")).fetchone()
                if connection.info.backend_pid == pid:
                    assert row is not None
                    return f"{inside} {row[0]}"

    async with app.worker():
        assert await (await task.start()).result(timeout=10) == "30s 0"


def refuse(_cursor: object) -> Any:
    """Make rows of no answer."""
    message = "these rows are for nobody else"
    raise TypeError(message)


class OwnCursor(psycopg.AsyncCursor[Any]):
    """A cursor that a handler wants."""


class OwnServerCursor(psycopg.AsyncServerCursor[Any]):
    """The same on the server."""


class OwnBlockingCursor(psycopg.Cursor[Any]):
    """The sync one."""


class OwnBlockingServerCursor(psycopg.ServerCursor[Any]):
    """The same on the server."""


@pytest_asyncio.fixture
async def narrow_app(migrated_database: str) -> AsyncIterator[App]:
    """An app that has one connection for all, and retries nothing."""
    scheduling = {"scheduler_retry_count": 0, "polling_delay": 0.2}
    async with App(migrated_database, scheduling=scheduling, execution={"max_connections": 1}) as app:
        yield app


async def test_rows_and_cursors_that_a_handler_sets_on_its_connection_are_its_own(
    narrow_app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @narrow_app.task("sets")
    async def sets(ctx: Context[None, None]) -> int:
        async with ctx.transaction() as connection:
            connection.cursor_factory, connection.server_cursor_factory = OwnCursor, OwnServerCursor
            connection.row_factory = refuse
            return connection.info.backend_pid

    @narrow_app.task("reads")
    async def reads(ctx: Context[None, None]) -> int:
        async with ctx.transaction() as connection:
            assert (connection.cursor_factory, connection.server_cursor_factory) == (
                psycopg.AsyncCursor,
                psycopg.AsyncServerCursor,
            )
            assert await (await connection.execute("select 1, 2")).fetchone() == (1, 2)
            return connection.info.backend_pid

    async with narrow_app.worker():
        first = await (await sets.start()).result(timeout=20)
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)  # so it is tried before it is lent
        assert await (await reads.start()).result(timeout=20) == first


async def test_rows_and_cursors_that_a_def_handler_sets_on_its_connection_are_its_own(
    narrow_app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @narrow_app.task("sets")
    def sets(ctx: blocking.Context[None, None]) -> int:
        with ctx.transaction() as connection:
            connection.cursor_factory, connection.server_cursor_factory = OwnBlockingCursor, OwnBlockingServerCursor
            connection.row_factory = refuse
            return connection.info.backend_pid

    @narrow_app.task("reads")
    def reads(ctx: blocking.Context[None, None]) -> int:
        with ctx.transaction() as connection:
            assert (connection.cursor_factory, connection.server_cursor_factory) == (
                psycopg.Cursor,
                psycopg.ServerCursor,
            )
            assert connection.execute("select 1, 2").fetchone() == (1, 2)
            return connection.info.backend_pid

    async with narrow_app.worker():
        first = await (await sets.start()).result(timeout=20)
        monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)
        job = await asyncio.to_thread(narrow_app.blocking.start, reads, None)
        assert await job.result(timeout=20) == first
