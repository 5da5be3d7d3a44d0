"""Fault 13: a row that the database refuses to have claimed. It holds up its line, until somebody takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from perdure import App, CancelRequested, Context, JobState
from tests.support.jobs import until

if TYPE_CHECKING:
    import pytest

FIRST_IN_LINE = (
    "select id, task from background_tasks.jobs where state in (0, 3, 4, 5) and scheduled_at <= now() "
    "order by priority desc, scheduled_at, id limit 500"
)
TRIGGER = """
create function refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;
create trigger refuse before update on background_tasks.jobs
    for each row when (new.state = 2 and new.task = 'refused') execute function refuse();
"""


async def test_a_row_that_cant_be_claimed_holds_up_its_line_until_it_is_cancelled(
    migrated_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(migrated_database, scheduling={"polling_delay": 0.1})

    @app.task("refused")
    async def refused(ctx: Context[None, None]) -> None: ...

    @app.task("neighbour")
    async def neighbour(ctx: Context[None, None]) -> int:
        return 1

    async with app, await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute(TRIGGER)
        first, other = await refused.start(), await neighbour.start()
        async with app.worker():
            await until(lambda: "the database refuses to work: RaiseException" in caplog.text, "the line of the log")
            await other.refresh()
            assert other.state is JobState.PENDING
            assert await (await connection.execute(FIRST_IN_LINE)).fetchone() == (first.id, "refused")
            assert isinstance(await app.cancel(first.id), CancelRequested)
            assert await other.result(timeout=30) == 1
