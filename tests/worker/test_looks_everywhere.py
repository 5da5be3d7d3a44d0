"""What a look everywhere tells of what is dead, and what it doesn't."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from perdure import App, Context
from perdure.worker.floors import Floors
from perdure.worker.lane import Lane
from tests.support.jobs import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


@pytest_asyncio.fixture
async def app(migrated_database: str) -> AsyncIterator[App]:
    """An open app whose workers as good as never poll."""
    async with App(migrated_database, scheduling={"polling_delay": timedelta(days=1)}) as app:
        yield app


async def test_a_worker_that_has_claimed_nothing_begins_at_the_front_only_when_it_looks_everywhere(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have left dead entries in all its bands: it knows from its first look that there is nothing else."""

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    send, at_front = Lane._send, list[bool]()

    async def noting(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if began and "claim" in calls and not lane._looks_everywhere:
            at_front.append(calls["claim"].parameters["others_at"] is None)
        return await send(lane, calls)

    began = False
    monkeypatch.setattr(Lane, "_send", noting)
    for queue in ("a", "b"):
        await task.start(queue=queue, at=timedelta(hours=1))
    async with app.worker() as worker:
        await until(
            lambda: (
                worker.claimer.sleeping
                and worker._listener.is_listening
                and len(worker.desk._waiters) == len(worker.lanes)
                and not any(lane._looks._everywhere for lane in worker.lanes)
            ),
            "it has looked everywhere, and nothing is under way",
        )
        now_seconds = asyncio.get_running_loop().time()
        worker.claimer.floors.looked_everywhere(now_seconds - 0.7, now_seconds)  # so that the next one isn't due yet
        began = True
        for count in range(3):
            worker.wake()
            await until(lambda count=count: len(at_front) > count, "it claims")  # type: ignore[misc] # its default
        assert not any(at_front)
        job = await task.start(queue="a")
        await job.result(timeout=10)


async def test_a_claim_that_took_nothing_since_there_is_another_band_has_not_brought_all_that_was_due(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    # Another lane's claim beside it, which doesn't look everywhere, would be told the same.
    monkeypatch.setattr("perdure.worker.worker._LANES", 1)
    send, told, others_at = Lane._send, list[bool](), list[float | None]()

    async def noting(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        if any(told) and "claim" in calls:
            others_at.append(lane._claimer.floors._others_at_seconds)
        answers = await send(lane, calls)
        told.extend(bool(answer.other_bands) for call, answer in zip(calls, answers, strict=True) if call == "claim")
        return answers

    async with app.worker() as worker:
        claimer = worker.claimer
        await (await task.start()).result(timeout=10)
        await until(lambda: claimer.only_band and claimer.sleeping and not claimer._maybe_due, "it knows its band")
        claimer.open = False
        job = await task.start(queue="mail")
        claimer.floors._others_at_seconds = None
        monkeypatch.setattr(Lane, "_send", noting)
        claimer.open = True
        claimer.look_everywhere()
        worker.wake()
        await job.result(timeout=10)
    assert others_at[0] is None


async def test_what_is_put_back_behind_a_look_everywhere_under_way_is_found_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task("t")
    async def task(ctx: Context[None, None]) -> None: ...

    send, jobs = Lane._send, list[Any]()

    async def putting_back(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        answers = await send(lane, calls)
        if began and lane._looks_everywhere and not jobs:
            job = await task.start(at=timedelta(hours=1))
            async with app.pool.connection() as connection:
                await connection.execute("update background_tasks.jobs set scheduled_at = now() - interval '1 d'")
            worker.claimer.look_everywhere()
            worker.desk.wake()
            jobs.append(job)
            assert lane.exchange_began_at_seconds is not None
            lane.exchange_began_at_seconds -= 0.7  # it has stepped over a great many dead rows
        return answers

    began = False
    monkeypatch.setattr(Lane, "_send", putting_back)
    async with app.worker() as worker:
        await (await task.start()).result(timeout=10)
        began = True
        worker.claimer.look_everywhere()
        worker.desk.wake()
        await until(lambda: bool(jobs), "it looks everywhere")
        await jobs[0].result(timeout=10)


async def test_what_a_lost_lease_has_looked_at_tells_nothing_under_the_new_one(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost = Lane._send, list[Any]()
    tell, told = Floors.looked_everywhere, list[Floors]()

    def telling(floors: Floors, began_at_seconds: float, now_seconds: float) -> None:
        if now_seconds - began_at_seconds >= 60:
            told.append(floors)
        tell(floors, began_at_seconds, now_seconds)

    async def losing(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        answers = await send(lane, calls)
        if began and lane._looks_everywhere and not lost:
            lost.append(worker.worker_id)
            async with app.pool.connection() as connection:
                await connection.execute("update background_tasks.workers set lapsed_at = clock_timestamp()")
            worker._heartbeat.hurry()
            await until(lambda: worker.worker_id not in {None, *lost}, "it has another lease")
            assert lane.exchange_began_at_seconds is not None
            lane.exchange_began_at_seconds -= 60
        return answers

    began = False
    monkeypatch.setattr(Lane, "_send", losing)
    monkeypatch.setattr(Floors, "looked_everywhere", telling)
    async with app.worker() as worker:
        await until(lambda: worker.claimer.sleeping, "it sleeps")
        old, began = worker.claimer.floors, True
        worker.claimer.look_everywhere()
        worker.wake()
        await until(lambda: bool(told), "the old look is over")
        assert told == [old]
