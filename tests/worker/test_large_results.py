"""Jobs whose results are large hold up nobody else, and wait in memory no more than there are slots for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure import App, Context
from perdure.worker.batch import BATCH_BYTES
from perdure.worker.claimer import Claimer
from perdure.worker.desk import Desk
from perdure.worker.lane import Lane

if TYPE_CHECKING:
    from uuid import UUID

    import pytest

    from perdure.worker.batch import Batch

MIB = 1024 * 1024
CONCURRENCY = 100
JOBS = 150


@dataclass
class Count:
    n: int = 0


async def test_large_results_hold_up_no_checkpoint_and_do_not_pile_up(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database, execution={"concurrency": CONCURRENCY})
    take, exchange = Desk.take, Lane._exchange
    passed_over, waiting_at_claims = 0, [0]
    is_over = asyncio.Event()

    def watched_take(desk: Desk) -> Batch:
        nonlocal passed_over
        has_persist = bool(desk._persists)
        batch = take(desk)
        passed_over += has_persist and not batch.persists
        return batch

    async def watched_exchange(lane: Lane, worker_id: UUID, batch: Batch, want: int, sleeping: bool | None) -> None:  # noqa: FBT001
        if want:
            waiting_at_claims.append(len(lane._desk.finishes))
        await exchange(lane, worker_id, batch, want, sleeping)

    monkeypatch.setattr(Desk, "take", watched_take)
    monkeypatch.setattr(Lane, "_exchange", watched_exchange)

    @app.task("persists", priority=1)
    async def persists(ctx: Context[None, Count]) -> int:
        while not is_over.is_set():
            ctx.execution_metadata.n += 1
            await ctx.persist()
        return ctx.execution_metadata.n

    @app.task("large")
    async def large(ctx: Context[None, None]) -> str:
        return "x" * MIB

    async with app:
        persisting = await persists.start()
        jobs = await large.start_many([None] * JOBS)
        async with app.worker():
            for job in jobs:
                await job.result(timeout=30)
            is_over.set()
            assert await persisting.result(timeout=10) > 1
    assert passed_over == 0
    # What one exchange can write, and a few more as long as their size isn't known for sure.
    assert max(waiting_at_claims) < 2 * BATCH_BYTES // MIB


def test_a_worker_claims_nothing_while_more_outcomes_wait_than_the_next_exchange_can_write() -> None:
    claimer = Claimer(concurrency=100, batch_size=500)
    claimer.open = True
    for _ in range(10):
        claimer.measure(0.001)
        claimer.measure_outcomes(16, 16 * MIB)
    assert claimer.want(0, unwritten=20) == 0
    assert 90 < claimer.want(0, unwritten=5) <= 100 + 2 * 17  # what is claimed ahead will have large results as well


def test_outcomes_that_wait_take_slots_when_they_are_small() -> None:
    claimer = Claimer(concurrency=2_000, batch_size=5_000)
    claimer.open = True
    claimer.measure_outcomes(1_000, 100_000)
    assert claimer.want(0, unwritten=1_500) == 500
