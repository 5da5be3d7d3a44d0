"""The worker's own connections: a process that is frozen in a transaction must not keep its rows from being rescued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from perdure.store.sessions import WorkerConnection, session_is_ours, session_is_ours_blocking

if TYPE_CHECKING:
    from tests.store.workbench import Workbench


@pytest.mark.parametrize("may_keep", [True, False], ids=["a session of its own", "behind a pooler"])
async def test_a_lanes_transaction_lasts_no_longer_than_a_lease(
    bench: Workbench, store_dsn: str, *, may_keep: bool
) -> None:
    bench.start()
    async with await WorkerConnection.open(store_dsn, bench.names, lease_seconds=1, may_keep=may_keep) as lane:
        with pytest.raises(psycopg.Error, match=r"transaction timeout|closed"):
            await frozen(lane, bench)
    assert bench.sql("select id from {s}.jobs for update")


async def test_what_the_dsn_says_of_time_outs_is_kept_to(bench: Workbench, store_dsn: str) -> None:
    theirs = {"connect_timeout": "3", "keepalives_idle": "7", "tcp_user_timeout": "4000"}
    dsn = make_conninfo(store_dsn, **theirs)
    async with await WorkerConnection.open(dsn, bench.names, lease_seconds=1, may_keep=True) as lane:
        settings = lane.info.get_parameters()
    assert settings | theirs == settings
    assert settings["keepalives_count"] == "3"  # ours, of which the dsn says nothing


async def test_whose_the_session_is_is_told_whatever_rows_and_cursors_its_connection_has(store_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(store_dsn, row_factory=refuse, autocommit=True) as own:
        own.cursor_factory = psycopg.AsyncRawCursor
        assert await session_is_ours(own)
    with psycopg.connect(store_dsn, row_factory=refuse, autocommit=True) as same:
        same.cursor_factory = psycopg.RawCursor
        assert session_is_ours_blocking(same)


def refuse(_cursor: object) -> Any:
    """Make rows of no answer."""
    message = "these rows are for nobody else"
    raise TypeError(message)


async def frozen(lane: WorkerConnection, bench: Workbench) -> None:
    """Lock a row, and do nothing any more: until somebody else could lock it."""
    async with lane.transaction() if lane.session_is_ours else lane.transaction_of_its_own():
        await lane.execute("select from background_tasks.jobs for update")
        bench.sql("set lock_timeout = '20s'")
        bench.sql("select id from {s}.jobs for update")
