"""The worker's own connections: a process that is frozen in a transaction must not keep its rows from being rescued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.store.sessions import WorkerConnection

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


async def frozen(lane: WorkerConnection, bench: Workbench) -> None:
    """Lock a row, and do nothing any more: until somebody else could lock it."""
    async with lane.transaction() if lane.session_is_ours else lane.transaction_of_its_own():
        await lane.execute("select from background_tasks.jobs for update")
        bench.sql("set lock_timeout = '20s'")
        bench.sql("select id from {s}.jobs for update")
