"""A backup is restored: what was begun since is begun again, what was started since isn't there, and ids come again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from perdure import App, Context
from perdure.errors import JobNotFoundError

if TYPE_CHECKING:
    from tests.support.cluster import Cluster


def _app(dsn: str, ran: list[str]) -> App:
    app = App(dsn, scheduling={"polling_delay": 0.1})

    @app.task("note")
    async def note(ctx: Context[str, None]) -> str:
        ran.append(ctx.metadata)
        return ctx.metadata

    return app


async def test_jobs_begun_since_the_backup_are_begun_again_and_ids_come_again(
    cluster: Cluster, migrated_database: str
) -> None:
    ran: list[str] = []
    async with _app(migrated_database, ran) as app:
        note = app.tasks["note"]
        async with app.worker():
            ended = await note.start("ended")
            await ended.result(timeout=30)
        waiting, held = await note.start("waiting"), await note.start("held")
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        # A backup that is made while workers work has jobs of workers in it that are long gone when it is restored.
        connection.execute(
            "update background_tasks.jobs set state = 2, worker_id = gen_random_uuid(), claim = 1, attempt = 1, "
            "started_at = now() where id = %s",
            [held.id],
        )
    backup = cluster.create_database(template=str(conninfo_to_dict(migrated_database)["dbname"]))
    try:
        async with _app(migrated_database, ran) as app, app.worker():
            lost = await app.tasks["note"].start("lost")
            jobs = [await app.job(job.id) for job in (waiting, held, lost)]
            assert [await job.result(timeout=30) for job in jobs] == ["waiting", "held", "lost"]
        async with _app(cluster.dsn(backup), ran) as app:
            with pytest.raises(JobNotFoundError):
                await app.job(lost.id)
            async with app.worker():
                jobs = [await app.job(job.id) for job in (waiting, held)]
                assert [await job.result(timeout=30) for job in jobs] == ["waiting", "held"]
                assert (await app.tasks["note"].start("another")).id == lost.id
    finally:
        cluster.drop_database(backup)
    assert sorted(name for name in ran if name != "another") == ["ended", "held", "held", "lost", "waiting", "waiting"]
