"""Results that don't come in time: since the database doesn't answer, or is away, or nobody looks soon enough."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App
from perdure.blocking import Blocking
from perdure.errors import DatabaseUnavailable
from perdure.pools import _TRIAL_SECONDS
from perdure.waiting import LAST_LOOK_SECONDS, Waiters
from tests.support.clients import Hands, Imported, Meta, define
from tests.support.marks import mark
from tests.support.proxy import Proxy, Weather

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

UNANSWERED = r"has not ended within {} s, as far as is known: the database didn't answer in time; it was pending"
LOCK = "lock table background_tasks.jobs in access exclusive mode"
LOCKED_SECONDS = 20
"""Far longer than any of those who wait here want to."""


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Tells when who waits without an event loop has looked."""
    read, event = Blocking._read, threading.Event()

    def read_and_tell(self: Blocking, job_id: int, limit_seconds: float = math.inf) -> Any:
        row = read(self, job_id, limit_seconds)
        event.set()
        return row

    monkeypatch.setattr(Blocking, "_read", read_and_tell)
    return event


async def test_who_waits_for_a_locked_table_is_told_when_the_time_is_over(task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"))
    await own.execute(LOCK)
    async with asyncio.timeout(LOCKED_SECONDS):
        for timeout in (0, 0.2):
            with pytest.raises(TimeoutError, match=UNANSWERED.format(timeout)):
                await job.result(timeout=timeout)
    await own.rollback()
    with pytest.raises(TimeoutError, match=r"within 0 s; it is pending"):
        await job.result(timeout=0)


async def test_who_waits_for_a_frozen_server_is_told_when_the_time_is_over(private_cluster: Cluster) -> None:
    async with App(private_cluster.dsn(private_cluster.create_database())) as app:
        task = define(app)
        await app.migrate()
        job = await task.start(Meta("riga"))
        private_cluster.freeze()
        try:
            async with asyncio.timeout(LOCKED_SECONDS):
                with pytest.raises(TimeoutError, match=UNANSWERED.format(0.2)):
                    await job.result(timeout=0.2)
        finally:
            private_cluster.thaw()


async def test_a_job_of_which_the_database_tells_nothing_is_not_said_to_be_missing(
    app: App, task: Any, own: Any
) -> None:
    job = await task.start(Meta("riga"), connection=own)
    await own.execute(LOCK)
    async with asyncio.timeout(LOCKED_SECONDS):
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await job.result(timeout=0)
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await asyncio.to_thread(app.blocking.result, job, 0)
    assert not job.is_certain


async def test_an_error_of_the_last_look_is_told_as_no_answer(migrated_database: str, own: Any) -> None:
    joint = "&" if "?" in migrated_database else "?"
    async with App(f"{migrated_database}{joint}options=-c%20lock_timeout%3D100ms") as app:
        job = await define(app).start(Meta("riga"))
        await own.execute(LOCK)
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await job.result(timeout=0)
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await asyncio.to_thread(app.blocking.result, job, 0)
        await own.rollback()


async def test_a_look_when_the_time_is_over_waits_behind_others_as_long_as_they_are_answered(
    app: App, task: Any, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await task.start_many([Meta("riga")] * 30)
    for job in jobs:
        hands.end(job, 6, result='{"rows": 5}')
    read = Waiters._read_many

    async def read_slowly(self: Waiters, job_ids: list[int]) -> Any:
        await asyncio.sleep(LAST_LOOK_SECONDS / 20)
        return await read(self, job_ids)

    monkeypatch.setattr("perdure.gathering._BATCH", 1)
    monkeypatch.setattr(Waiters, "_read_many", read_slowly)
    async with App(app.dsn) as other:
        define(other)
        waiting = [other._client.verbs.job(job._row).result(timeout=0) for job in jobs]
        assert await asyncio.gather(*waiting) == [Imported(5)] * 30


async def test_a_look_when_the_time_is_over_isnt_given_up_since_the_event_loop_was_blocked(
    app: App, task: Any, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await task.start(Meta("riga"))
    hands.end(job, 6, result='{"rows": 5}')
    read = Waiters._read_many

    async def block_and_read(self: Waiters, job_ids: list[int]) -> Any:
        await asyncio.sleep(LAST_LOOK_SECONDS / 5)
        sleep(LAST_LOOK_SECONDS)  # noqa: ASYNC251 - what is tested
        return await read(self, job_ids)

    monkeypatch.setattr(Waiters, "_read_many", block_and_read)
    async with App(app.dsn) as other:
        define(other)
        assert await other._client.verbs.job(job._row).result(timeout=0) == Imported(5)


async def test_a_first_look_that_is_not_answered_is_told_as_the_database_unavailable(
    migrated_database: str, own: Any
) -> None:
    joint = "&" if "?" in migrated_database else "?"
    async with App(f"{migrated_database}{joint}options=-c%20lock_timeout%3D100ms") as app:
        job = await define(app).start(Meta("riga"))
        await own.execute(LOCK)
        said = r"result: the database didn't answer \(canceling statement due to lock timeout\); it can be read again"
        with pytest.raises(DatabaseUnavailable, match=said):
            await job.result(timeout=600)
        with pytest.raises(DatabaseUnavailable, match=said):
            await asyncio.to_thread(app.blocking.result, job, 600)
        await own.rollback()


async def test_who_waits_survives_broken_connections_and_one_line_tells_so(
    migrated_database: str, hands: Hands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, seen, all_seen = Waiters._read_many, set[int](), asyncio.Event()

    async def read_and_tell(self: Waiters, job_ids: list[int]) -> Any:
        rows = await read(self, job_ids)
        seen.update(job_ids)
        if len(seen) == 3:
            all_seen.set()
        return rows

    monkeypatch.setattr(Waiters, "_read_many", read_and_tell)
    async with Proxy(migrated_database) as proxy, App(proxy.dsn, scheduling={"polling_delay": 0.05}) as app:
        jobs = await define(app).start_many([Meta("riga")] * 3)
        waiting = [asyncio.create_task(job.result(timeout=600)) for job in jobs]
        async with asyncio.timeout(LOCKED_SECONDS):
            await all_seen.wait()
            for _ in range(3):
                proxy.arm(mark("get_many"), "after")
            with hands.connection.transaction():  # a poll finds them ended all at once
                for job in jobs:
                    hands.end(job, 6, result='{"rows": 5}')
            assert await asyncio.gather(*waiting) == [Imported(5)] * 3
    said = [record.getMessage() for record in caplog.records if "waiting for 3 jobs" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("waiting for 3 jobs: DatabaseUnavailable: result: the connection to the database broke")
    assert said[0].endswith("; it can be read again")


# --- without an event loop ---


async def test_a_thread_that_waits_for_a_locked_table_is_told_when_the_time_is_over(
    app: App, task: Any, own: Any, looked: threading.Event
) -> None:
    job = await task.start(Meta("riga"))
    waiting = asyncio.create_task(asyncio.to_thread(app.blocking.result, job, 3))
    assert await asyncio.to_thread(looked.wait, 20)
    await own.execute(LOCK)
    async with asyncio.timeout(LOCKED_SECONDS):
        with pytest.raises(TimeoutError, match=UNANSWERED.format(3)):
            await waiting
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0.2)):
            await asyncio.to_thread(app.blocking.result, job, 0.2)


async def test_a_thread_that_waits_survives_a_broken_connection(
    app: App,
    task: Any,
    hands: Hands,
    looked: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 3600.0)  # so that a look meets it
    job = await task.start(Meta("riga"))
    waiting = asyncio.create_task(asyncio.to_thread(app.blocking.result, job, 60))
    assert await asyncio.to_thread(looked.wait, 20)
    hands.sql(
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    with hands.connection.transaction():  # the end and the result are seen together
        hands.end(job, 6, result='{"rows": 5}')
    assert await waiting == Imported(5)
    assert f"waiting for job {job.id}: DatabaseUnavailable: read a job: the connection" in caplog.text


async def test_a_thread_that_waits_is_told_when_the_time_is_over_and_the_database_away(
    private_cluster: Cluster, looked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with App(private_cluster.dsn(private_cluster.create_database())) as app:
        task = define(app)
        await app.migrate()
        job = await task.start(Meta("riga"))
        monkeypatch.setattr("perdure.connections.WAIT_SECONDS", 0.1)
        waiting = asyncio.create_task(asyncio.to_thread(app.blocking.result, job, 3))
        assert await asyncio.to_thread(looked.wait, 20)
        private_cluster.stop("immediate")
        with pytest.raises(TimeoutError, match=UNANSWERED.format(3)):
            await waiting
        with pytest.raises(DatabaseUnavailable):  # the first look tells at once
            await asyncio.to_thread(app.blocking.result, job, 60)


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_a_thread_that_begins_to_wait_while_nobody_answers_is_told_when_the_time_is_over(
    private_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("perdure.pools._TRUSTED_SECONDS", 0.0)  # each connection is tried, in vain
    async with App(private_cluster.dsn(private_cluster.create_database())) as app:
        task = define(app)
        await app.migrate()
        job = await task.start(Meta("riga"))
        await asyncio.to_thread(app.blocking.refresh, job)
        private_cluster.freeze() if fault == "frozen" else private_cluster.stop("immediate")
        try:
            began_at_seconds = monotonic()
            with pytest.raises(TimeoutError, match=UNANSWERED.format(0.2)):
                await asyncio.to_thread(app.blocking.result, job, 0.2)
            waited_seconds = monotonic() - began_at_seconds
        finally:
            private_cluster.thaw() if fault == "frozen" else private_cluster.start()
    assert waited_seconds < _TRIAL_SECONDS


async def test_a_threads_first_connection_on_a_slow_network_is_there_in_time_for_its_only_look(
    app: App, task: Any, hands: Hands
) -> None:
    job = await task.start(Meta("riga"))
    hands.end(job, 6, result='{"rows": 5}')
    async with Proxy(app.dsn) as proxy:
        proxy.weather = Weather(delay_seconds=0.08)  # each way
        far = App(proxy.dsn)
        try:
            assert await asyncio.to_thread(far.blocking.result, job, 0) == Imported(5)
        finally:
            await asyncio.to_thread(far.blocking.close)


def test_a_thread_that_waits_looks_often_whatever_the_polling_delay(
    migrated_database: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(migrated_database, scheduling={"polling_delay": timedelta(days=1)})
    job = app.blocking.start(define(app), Meta("riga"))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:
            hands.end(job, 6, result='{"rows": 5}')

    monkeypatch.setattr("perdure.polling.sleep", wait)
    try:
        assert app.blocking.result(job) == Imported(5)
    finally:
        app.blocking.close()
    assert max(waits) <= 1
