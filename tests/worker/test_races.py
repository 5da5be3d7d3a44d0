"""Races and odd handlers that a review of the worker found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure import App, Context, Failed, JobState, LeaseLost, Raised, Suspended
from perdure.worker.claimer import Claimer
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Progress:
    done: int = 0


@dataclass
class Unprintable:
    number: int = 1

    def __repr__(self) -> str:
        message = "no"
        raise RuntimeError(message)


@pytest.mark.parametrize("outcome", [Suspended, lambda: 7])
async def test_an_outcome_claims_nothing_of_a_transaction_that_is_still_open(
    app: App, migrated_database: str, outcome: Callable[[], Any]
) -> None:
    inside, never = asyncio.Event(), asyncio.Event()
    blocks: list[asyncio.Task[None]] = []

    @app.task("t")
    async def task(ctx: Context[None, Progress]) -> int | Suspended:
        async def block() -> None:
            async with ctx.transaction() as connection:
                await connection.execute("insert into effects values (1)")
                ctx.execution_metadata.done = 1
                inside.set()
                await never.wait()

        blocks.append(asyncio.create_task(block()))
        await inside.wait()
        ended: int | Suspended = outcome()
        return ended

    async with await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as connection:
        await connection.execute("create table effects (n int)")
        async with app.worker():
            job = await task.start()
            await job_until(job, lambda job: job.state in {JobState.SUSPENDED, JobState.COMPLETED})
            never.set()
            with pytest.raises(LeaseLost):
                await blocks[0]
        assert (await job.refresh()).execution_metadata == Progress(0)
        row = await (await connection.execute("select count(*) from effects")).fetchone()
        assert row == (0,)


async def test_a_lease_lost_of_the_handlers_own_is_a_raise_like_any_other(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        message = "of another job"
        raise LeaseLost(message)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert job.attempt == 1
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.LeaseLost"


async def test_an_error_that_cant_be_shown_is_stored_all_the_same(app: App) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None | Failed[Unprintable]:  # noqa: RUF036 - as people write it
        return Failed(Unprintable(), retry=False)

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state is JobState.FAILED)
    assert job.last_error is not None
    assert "its repr can't be made" in job.last_error


def test_a_poke_while_a_claim_is_under_way_outlives_its_answer() -> None:
    claimer = Claimer(concurrency=10, batch_size=10)
    claimer.open = True
    pokes = claimer.pokes
    want = claimer.want(0)
    claimer.poke()
    claimer.claimed(want, 0, pokes=pokes)
    assert claimer.want(0) == 10


async def test_a_burst_of_starts_leaves_none_to_the_next_poll(migrated_database: str) -> None:
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    async with app, app.worker():
        for _ in range(40):
            jobs = await asyncio.gather(*(task.start() for _ in range(3)))
            for job in jobs:
                await job.result(timeout=10)
