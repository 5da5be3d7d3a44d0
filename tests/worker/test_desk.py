"""The worker's outbox by itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure import LeaseLost
from perdure.store.settles import Persist
from perdure.worker.desk import Desk, PendingPersist


def pending(job_id: int) -> PendingPersist:
    attempt: Any = SimpleNamespace(job=SimpleNamespace(id=job_id, attempt=1))
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return PendingPersist(Persist(job_id, 1, 0, b"{}"), cast("Any", attempt), written)


async def test_a_checkpoint_that_comes_when_all_is_closed_is_refused_and_not_kept() -> None:
    desk = Desk()
    desk.close()
    late = pending(7)
    desk.persist(late)
    with pytest.raises(LeaseLost, match="job 7, attempt 1: the lease is lost"):
        await late.written
    assert desk.is_empty


async def test_closing_leaves_nobody_waiting() -> None:
    desk = Desk()
    early = pending(7)
    desk.persist(early)

    async def work(_connection: object) -> None: ...

    errand = asyncio.create_task(desk.run(work))
    await asyncio.sleep(0)  # it comes in
    desk.close()
    with pytest.raises(LeaseLost):
        await early.written
    with pytest.raises(LeaseLost, match="the worker has stopped"):
        await errand
    with pytest.raises(LeaseLost, match="the worker has stopped"):
        await desk.run(work)
    assert desk.is_empty
