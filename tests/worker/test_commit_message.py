"""What `ctx.transaction()` sends at its end: the fence and the COMMIT in one message, so that nothing comes between.

Were the fence executed and the COMMIT still on its way when the process is frozen, the job's row would be locked for as
long as that lasts, and nobody could rescue the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import perdure.blocking  # noqa: TC001 - read off the handlers' annotations
from perdure import App, Context  # noqa: TC001
from perdure.errors import PayloadRefused

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import BaseConnection


@dataclass
class Progress:
    rows: int = 0


pytestmark = pytest.mark.skipif(psycopg.pq.version() < 140000, reason="libpq traces since version 14")


async def test_the_fence_and_the_commit_are_one_message(app: App, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int:
        with trace.open("w") as file:
            async with ctx.transaction() as connection:
                start_trace(connection, file.fileno())
                ctx.execution_metadata.rows = 7
            connection.pgconn.untrace()
        return ctx.execution_metadata.rows

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=20) == 7
    assert_one_message(trace)


async def test_the_fence_and_the_commit_are_one_message_of_a_thread_too(app: App, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    @app.task("t")
    def task(ctx: perdure.blocking.Context[None, Progress]) -> int:
        with trace.open("w") as file:
            with ctx.transaction() as connection:
                start_trace(connection, file.fileno())
                ctx.execution_metadata.rows = 7
            connection.pgconn.untrace()
        return ctx.execution_metadata.rows

    async with app.worker():
        job = await task.start()
        assert await job.result(timeout=20) == 7
    assert_one_message(trace)


CANT_HOLD = "'日' can't be sent over this connection, whose client_encoding is LATIN1"
HOSTILE = "'); drop table x; -- \\' \\\\ % %(id)s %s $1 $$ é € \u2028 \U0001f600 \n\t'' \""


@dataclass
class Text:
    text: str = ""


@pytest.mark.parametrize("setting", ["", "client_encoding = latin1", "standard_conforming_strings = off"])
async def test_the_texts_of_a_checkpoint_are_quoted(app: App, setting: str) -> None:
    """It has no parameters: they are written into the message."""
    hostile = HOSTILE if "latin1" not in setting else HOSTILE.encode("latin1", "ignore").decode("latin1")

    @app.task("t")
    async def task(ctx: Context[None, Text]) -> None:
        async with ctx.transaction() as connection:
            if setting:
                await connection.execute(f"set local {setting}".encode())
            ctx.execution_metadata.text = hostile

    async with app.worker():
        job = await task.start()
        await job.result(timeout=20)
    await job.refresh()
    assert job.execution_metadata == Text(hostile)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_checkpoint_that_the_encoding_cant_hold_is_refused_and_rolled_back_with_its_rows(
    app: App, *, in_thread: bool
) -> None:
    insert = b"set local client_encoding = latin1; insert into effects values (1)"
    async with app.pool.connection() as connection:
        await connection.execute("create table effects (n int)")

    @app.task("awaits")
    async def awaits(ctx: Context[None, Text]) -> str:
        with pytest.raises(PayloadRefused, match=CANT_HOLD):  # noqa: PT012 - the block is what is tested
            async with ctx.transaction() as connection:
                await connection.execute(insert)
                ctx.execution_metadata.text = "日本"
        return ctx.execution_metadata.text

    @app.task("blocks")
    def blocks(ctx: perdure.blocking.Context[None, Text]) -> str:
        with pytest.raises(PayloadRefused, match=CANT_HOLD), ctx.transaction() as connection:  # noqa: PT012 - as above
            connection.execute(insert)
            ctx.execution_metadata.text = "日本"
        return ctx.execution_metadata.text

    async with app.worker():
        job = await (blocks if in_thread else awaits).start(None, Text("before"))
        assert await job.result(timeout=20) == "before"
    async with app.pool.connection() as connection:
        assert await (await connection.execute("select from effects")).fetchall() == []


@pytest.mark.parametrize("encoding", ["utf8", "latin1"])
async def test_events_are_consumed_by_the_commit(app: App, encoding: str) -> None:
    @app.task("t", events=Text)
    async def task(ctx: Context[None, Text]) -> str:
        async with ctx.transaction() as connection:
            await connection.execute(f"set local client_encoding = {encoding}".encode())
            for _ in range(3):
                event = await ctx.next_event()
                assert event is not None
                ctx.execution_metadata.text += event.text
        return ctx.execution_metadata.text

    job = await task.start()
    for text in "abc":
        await task.send(job.id, Text(text))
    async with app.worker():
        assert await job.result(timeout=20) == "abc"


def start_trace(connection: BaseConnection[Any], descriptor: int) -> None:
    connection.pgconn.trace(descriptor)
    connection.pgconn.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)


def assert_one_message(trace: Path) -> None:
    # Behind the answer to COMMIT the connection is in the pool again: what others ask of it may be traced, too.
    until_committed, answer, _ = trace.read_text().partition('CommandComplete\t "COMMIT"')
    assert answer
    sent = [line for line in until_committed.splitlines() if line.startswith("F\t")]
    assert len(sent) == 1, sent
    assert "\tQuery\t" in sent[0]
    assert until_committed.index(".fence(") < until_committed.index("; COMMIT")
