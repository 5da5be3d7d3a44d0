"""Cancel requests are found in the rows, and nowhere else: at once where one is notified, else within a second."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from perdure import App, Context, JobState
from perdure.store import leases
from perdure.store.calls import Call
from perdure.store.claims import Claimed
from perdure.worker import cancels
from perdure.worker.ahead import Ahead
from perdure.worker.cancels import Cancels
from perdure.worker.lane import Lane
from tests.support.jobs import is_in, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEVER_SECONDS = 3600.0


@asynccontextmanager
async def nobody(dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of a role that may do nothing."""
    role = sql.Identifier(f"nobody_{uuid4().hex}")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(sql.SQL("create role {}").format(role))
        await connection.execute(sql.SQL("set role {}").format(role))
        try:
            yield connection
        finally:
            await connection.execute("reset role")
            await connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When cancel requests were looked for."""
    found, cancelling = list[float](), leases.cancelling

    def noted(*arguments: Any) -> Call[Any]:
        found.append(time.monotonic())
        return cancelling(*arguments)

    monkeypatch.setattr(leases, "cancelling", noted)
    return found


def sleeper(app: App) -> Any:
    """A task that ends by a cancel."""

    @app.task("sleeper")
    async def task(ctx: Context[None, None]) -> None:
        await asyncio.Event().wait()

    return task


async def test_whoever_has_no_rights_cancels_nothing_by_a_notification(app: App, migrated_database: str) -> None:
    task = sleeper(app)
    async with app.worker() as worker:
        job, another = await task.start(), await task.start()
        await is_in(job, JobState.RUNNING)
        await is_in(another, JobState.RUNNING)
        async with nobody(migrated_database) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("update background_tasks.jobs set cancel_requested = true")
            await connection.execute("select pg_notify(%s, %s)", [app.names.cancel_channel, str(job.id)])
        await app.cancel(another.id)  # whoever is told of that has been told of the other
        await is_in(another, JobState.CANCELLED)
        assert worker.executor.running[job.id].stop_reason is None
        assert (await job.refresh()).state is JobState.RUNNING


async def test_a_flood_of_false_notifications_shares_a_few_looks(
    app: App, migrated_database: str, looks: list[float]
) -> None:
    task = sleeper(app)
    async with app.worker():
        job = await task.start()
        await is_in(job, JobState.RUNNING)
        async with nobody(migrated_database) as connection:
            looks.clear()
            began_at_seconds = time.monotonic()
            for number in range(500):
                await connection.execute("select pg_notify(%s, %s)", [app.names.cancel_channel, str(number)])
            await app.cancel(job.id)
            await is_in(job, JobState.CANCELLED)
        took_seconds = time.monotonic() - began_at_seconds
    assert looks
    assert len(looks) <= took_seconds / 0.05 + 2


async def test_who_has_nothing_in_hand_doesnt_look(
    migrated_database: str, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancels, "_EVERY_SECONDS", 0.01)
    runs, run_once = 0, Cancels.run_once

    async def counted(service: Cancels) -> float:
        nonlocal runs
        runs += 1
        return await run_once(service)

    monkeypatch.setattr(Cancels, "run_once", counted)
    async with App(migrated_database) as app, app.worker() as worker:
        await until(lambda: worker.claimer.sleeping, "it is idle")
        before = runs
        looks.clear()
        await until(lambda: runs > before + 50, "it might have looked fifty times")
    assert len(looks) < 10  # while a poll or a sweep is under way there may be jobs


async def test_a_look_that_fails_is_made_again_though_nothing_is_in_hand_any_more(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker would tell for a minute that the database refuses to work."""
    full, release = Call(b"do $$ begin raise sqlstate '53100'; end $$", {}, list), asyncio.Event()

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await release.wait()

    async with app.worker() as worker:
        with monkeypatch.context() as patch:
            patch.setattr(leases, "cancelling", lambda *_: full)
            job = await task.start()
            await until(lambda: worker.condition.trouble is not None, "a look has failed")
            await worker._cancels.stop()
        release.set()
        await job.result(timeout=10)
        await until(lambda: not worker.may_hold_jobs, "nothing is in hand")
        assert await worker._cancels.run_once() < cancels._EVERY_SECONDS
        await until(lambda: not worker.may_hold_jobs, "nothing is in hand")
        assert await worker._cancels.run_once() == cancels._EVERY_SECONDS


async def test_a_cancel_that_is_notified_waits_for_no_look_of_its_own_time(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancels, "_EVERY_SECONDS", NEVER_SECONDS)
    task = sleeper(app)
    async with app.worker():
        job = await task.start()
        await is_in(job, JobState.RUNNING)
        await app.cancel(job.id)
        await is_in(job, JobState.CANCELLED)


async def test_without_notifications_cancels_are_told_within_a_second(
    migrated_database: str, looks: list[float]
) -> None:
    assert cancels._EVERY_SECONDS < 1.0
    app = App(migrated_database, scheduling={"notifications": False, "polling_delay": 0.05})
    task = sleeper(app)
    async with app, app.worker():
        job = await task.start()
        await is_in(job, JobState.RUNNING)
        looks.clear()
        # Nothing but the rhythm brings a look; on a busy machine one may come late, but not each.
        await until(lambda: any(b - a < 1.0 for a, b in pairwise(looks)), "one look follows another within a second")
        await app.cancel(job.id)
        await is_in(job, JobState.CANCELLED)


@pytest.mark.parametrize("which", ["running", "claimed ahead"])
async def test_a_cancel_that_comes_before_the_claims_answer_is_told_soon_after_it(
    app: App, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sleeper(app)
    answered, go_on, send, awaits = asyncio.Event(), asyncio.Event(), Lane._send, Cancels._awaits_any_of
    missed = asyncio.Event()

    async def send_slowly(lane: Lane, calls: dict[str, Any]) -> list[Any]:
        answers = await send(lane, calls)
        if "claim" in calls and answers[list(calls).index("claim")].jobs:
            answered.set()
            await go_on.wait()
        return answers

    def noted(service: Cancels, found: list[leases.CancelRequest]) -> bool:
        result = awaits(service, found)
        if found:
            missed.set()
        return result

    monkeypatch.setattr(Lane, "_send", send_slowly)
    monkeypatch.setattr(Cancels, "_awaits_any_of", noted)
    monkeypatch.setattr(cancels, "_EVERY_SECONDS", NEVER_SECONDS)
    async with app.worker(concurrency=1) as worker:
        if which == "claimed ahead":
            worker.claimer.measure(0.0001)  # as if jobs were short
        jobs = await task.start_many([None] * 2)
        await answered.wait()
        job = jobs[which == "claimed ahead"]
        await is_in(job, JobState.RUNNING)
        await app.cancel(job.id)
        await missed.wait()
        go_on.set()
        await is_in(job, JobState.CANCELLED)


def test_a_job_that_never_comes_isnt_looked_for_all_the_time() -> None:
    nothing_in_hand = SimpleNamespace(executor=SimpleNamespace(known_ids=list), desk=SimpleNamespace(ids=list))
    service = Cancels(cast("Any", nothing_in_hand))
    stray, another = leases.CancelRequest(7, 1), leases.CancelRequest(8, 1)
    assert [service._awaits_any_of([stray]) for _ in range(30)] == [True] * 20 + [False] * 10
    assert service._awaits_any_of([stray, another])


async def test_a_cancel_of_an_earlier_claim_cancels_no_later_one(app: App) -> None:
    running = asyncio.Event()

    @app.task("t", scheduler_retry_count=1)
    async def task(ctx: Context[None, None]) -> None:
        if ctx.attempt == 1:
            raise ValueError
        running.set()
        await asyncio.Event().wait()

    async with app.worker() as worker:
        job = await task.start()
        await running.wait()
        claim = worker.executor.running[job.id].job.claim
        worker.executor.cancel(job.id, claim - 1)  # of which the answer came late
        assert worker.executor.running[job.id].stop_reason is None
        worker.executor.cancel(job.id, claim)
        await is_in(job, JobState.CANCELLED)


def test_a_cancel_of_an_earlier_claim_takes_no_later_one_from_what_was_claimed_ahead() -> None:
    ahead, worker_id = Ahead(), uuid4()
    job = Claimed(7, "t", 2, 1, 0, 0, 0, 0, "default", b"null", b"null", 0, 0.0, 0, 1, None)
    ahead.add(job, worker_id)
    assert ahead.take(7, 1, worker_id) is None
    assert ahead.take(7, 2, uuid4()) is None
    assert ahead.take(7, 2, worker_id) == job
