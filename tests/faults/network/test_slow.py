"""A network that is slow, not broken: what is too large to get through within a lease gets through in pieces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure import App, Context
from perdure.worker.desk import Desk
from tests.support.jobs import until
from tests.support.proxy import Proxy, Weather

if TYPE_CHECKING:
    import pytest

    from perdure.worker.batch import Batch

LEASE_SECONDS = 2
MIB = 1024 * 1024
JOBS = 12


async def test_outcomes_that_are_too_large_together_for_a_lease_are_written_one_after_the_other(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got_stuck, stuck_bytes = Desk.got_stuck, list[int]()
    begun, may_end = list[int](), asyncio.Event()

    def noted(desk: Desk, batch: Batch) -> None:
        stuck_bytes.append(batch.size_bytes)
        got_stuck(desk, batch)

    monkeypatch.setattr(Desk, "got_stuck", noted)
    async with Proxy(migrated_database) as proxy:
        app = App(proxy.dsn, execution={"lease_duration": LEASE_SECONDS, "concurrency": JOBS})

        @app.task("large")
        async def large(ctx: Context[None, None]) -> str:
            begun.append(ctx.id)
            await may_end.wait()
            return "x" * (MIB // 2)

        async with app, app.worker():
            jobs = await large.start_many([None] * JOBS)
            await until(lambda: len(begun) == JOBS, "all run")
            proxy.weather_of["perdure worker"] = Weather(rate=MIB)
            may_end.set()
            await asyncio.gather(*(job.result(timeout=50) for job in jobs))
            proxy.weather_of.clear()
    assert max(stuck_bytes) > LEASE_SECONDS * MIB
    assert len(begun) == JOBS  # no attempt was made twice
