"""Results that don't come in time: since the database doesn't answer, or is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App
from tests.support.clients import Meta, define

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

UNANSWERED = r"has not ended within {} s, as far as is known: the database didn't answer in time; it was pending"
LOCK = "lock table background_tasks.jobs in access exclusive mode"
LOCKED_SECONDS = 20
"""Far longer than any of those who wait here want to."""


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


async def test_a_job_of_which_the_database_tells_nothing_is_not_said_to_be_missing(task: Any, own: Any) -> None:
    job = await task.start(Meta("riga"), connection=own)
    await own.execute(LOCK)
    async with asyncio.timeout(LOCKED_SECONDS):
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await job.result(timeout=0)
    assert not job.is_certain


async def test_an_error_of_the_last_look_is_told_as_no_answer(migrated_database: str, own: Any) -> None:
    joint = "&" if "?" in migrated_database else "?"
    async with App(f"{migrated_database}{joint}options=-c%20lock_timeout%3D100ms") as app:
        job = await define(app).start(Meta("riga"))
        await own.execute(LOCK)
        with pytest.raises(TimeoutError, match=UNANSWERED.format(0)):
            await job.result(timeout=0)
        await own.rollback()
