"""A worker that serves one band claims from that alone, and notices others as soon as their first job comes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from perdure import App, Context
from perdure.store.claims import Band, Claims
from perdure.worker.claimer import Claimer
from tests.support.jobs import until

A_DAY = {"polling_delay": timedelta(days=1)}
DEFAULT, MAIL = Band("default", 0), Band("mail", 3)


def told(*, other_bands: bool | None, jobs: int = 0) -> Claims:
    return Claims([None] * jobs, left_out=False, asked_at_seconds=0.0, other_bands=other_bands)  # type: ignore[list-item] # they are counted


def new_claimer(queues: tuple[str, ...] | None = None) -> Claimer:
    return Claimer(concurrency=10, batch_size=10, queues=queues)


def test_only_a_band_that_is_served_alone_is_claimed_from_alone() -> None:
    claimer = new_claimer()
    assert (claimer.only_band, claimer.asks_for_bands) == (None, True)
    claimer.bands_are([DEFAULT, DEFAULT])  # two starts at once may both have made it known
    assert (claimer.only_band, claimer.asks_for_bands) == (DEFAULT, False)
    claimer.bands_are([DEFAULT, MAIL])
    assert (claimer.only_band, claimer.asks_for_bands) == (None, False)
    claimer = new_claimer(("mail",))
    claimer.bands_are([DEFAULT, MAIL])
    assert claimer.only_band == MAIL


def test_other_bands_are_asked_about_and_looked_for() -> None:
    claimer = new_claimer()
    claimer.bands_are([DEFAULT])
    pokes = claimer.pokes
    claimer.bands_told(told(other_bands=False, jobs=3))
    assert (claimer.only_band, claimer.pokes) == (DEFAULT, pokes)
    claimer.bands_told(told(other_bands=True))
    assert (claimer.only_band, claimer.asks_for_bands, claimer.pokes) == (None, True, pokes + 1)
    assert claimer.floors.everywhere_in_seconds(0.0) == 0.0


def test_the_first_band_is_asked_for_when_a_job_of_it_was_claimed() -> None:
    claimer = new_claimer()
    claimer.bands_are([])
    claimer.bands_told(told(other_bands=None))
    assert not claimer.asks_for_bands  # or an idle worker would ask with each poll
    claimer.bands_told(told(other_bands=None, jobs=1))
    assert claimer.asks_for_bands


def test_a_new_lease_knows_of_no_band() -> None:
    claimer = new_claimer()
    claimer.bands_are([DEFAULT])
    claimer.reset()
    assert (claimer.only_band, claimer.asks_for_bands) == (None, True)


@pytest.mark.parametrize("queues", [None, ["default", "mail"]])
async def test_the_first_job_of_another_band_runs_at_once(migrated_database: str, queues: list[str] | None) -> None:
    app = App(migrated_database, scheduling=A_DAY)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return ctx.id

    async with app, app.worker(queues=queues) as worker, asyncio.timeout(20):
        for _ in range(3):
            await (await task.start()).result()
        await until(lambda: worker.claimer.only_band == DEFAULT, "it knows its band")
        await until(lambda: worker.claimer.sleeping, "it sleeps")
        for options in ({"queue": "mail"}, {"priority": -7}, {"queue": "mail", "priority": 7}):
            job = await task.start(**options)  # type: ignore[arg-type] # mypy takes both for either
            assert await job.result() == job.id
        assert worker.claimer.only_band is None
        await (await task.start()).result()


async def test_a_band_of_a_queue_that_it_doesnt_serve_changes_nothing(migrated_database: str) -> None:
    app = App(migrated_database, scheduling=A_DAY)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return ctx.id

    async with app, app.worker(queues=["default"]) as worker, asyncio.timeout(20):
        await (await task.start()).result()
        await task.start(queue="mail")
        for _ in range(3):
            await (await task.start()).result()
        await until(lambda: worker.claimer.only_band == DEFAULT, "it knows its band")


async def test_a_job_that_the_only_bands_claim_left_out_runs_as_soon_as_it_is_free(migrated_database: str) -> None:
    app = App(migrated_database, scheduling=A_DAY)

    @app.task("t")
    async def task(ctx: Context[None, None]) -> int:
        return ctx.id

    async with (
        app,
        app.worker() as worker,
        asyncio.timeout(20),
        await psycopg.AsyncConnection.connect(migrated_database, autocommit=True) as table,
    ):
        await (await task.start()).result()
        claimer = worker.claimer
        await until(lambda: claimer.only_band == DEFAULT and claimer.sleeping, "it knows its band, and sleeps")
        claimer.open = False
        job = await task.start()
        async with table.transaction():
            await table.execute("select from background_tasks.jobs where id = %s for update", [job.id])
            claimer.open = True
            pokes = claimer.pokes
            worker.wake()
            await until(lambda: claimer.pokes > pokes + 3, "it looks again and again")
        assert await job.result() == job.id
