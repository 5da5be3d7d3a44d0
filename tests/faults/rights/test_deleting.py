"""Deleting finished jobs by the SQL of docs/operations.md: what is old, whole, in batches, by who may work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from perdure.errors import JobNotFoundError
from tests.support.examples import read_page
from tests.support.payloads import Meta, Ping

if TYPE_CHECKING:
    from perdure import App, Job
    from tests.faults.rights.conftest import Users

_PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
_BESIDE = ("attempts", "steps", "events")


def _delete(users: Users, *, at_most: int) -> str:
    """The page's statement, for this schema and smaller batches."""
    (block,) = (block.text for block in read_page(_PAGE).blocks if "finished_jobs" in block.text)
    schema = sql.Identifier(users.schema).as_string(None)
    assert block.count("limit 10000") == 1
    return block.replace("limit 10000", f"limit {at_most}").replace("background_tasks.", f"{schema}.")


def _ids(connection: psycopg.Connection[Any], table: str, column: str = "job_id") -> set[int]:
    query = sql.SQL("select {} from {}").format(sql.Identifier(column), sql.Identifier(table))
    return {row[0] for row in connection.execute(query).fetchall()}


async def _ended(app: App, users: Users, *, days: int) -> Job[Any, Any, Any, Any]:
    """A job that has ended so long ago, with an earlier attempt, a step and an unread event."""
    job = await app.tasks["busy"].start(Meta("riga"))
    assert await job.result(timeout=30) == "riga"
    with users.connect() as superuser:
        superuser.execute(
            "update finished_jobs set finished_at = now() - %s * interval '1 day' where id = %s", [days, job.id]
        )
        superuser.execute("insert into attempts (job_id, attempt, ending, woken_by) values (%s, 0, 2, 0)", [job.id])
        superuser.execute("insert into events (job_id, version, event) values (%s, 1, '{}')", [job.id])
    return job


@pytest.mark.parametrize("kind", ["starter", "viewer"])
def test_who_may_not_work_may_not_delete(users: Users, kind: str) -> None:
    with users.connect(kind) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(_delete(users, at_most=1).encode())


async def test_what_is_old_goes_whole_and_in_batches_and_nothing_else(users: Users) -> None:
    async with users.app("worker") as app:
        async with app.worker():
            old = [await _ended(app, users, days=91) for _ in range(3)]
            recent = await _ended(app, users, days=89)
        waiting = await app.tasks["busy"].start(Meta("riga"))
        assert await app.tasks["busy"].send(waiting.id, Ping(1))
        with users.connect("worker") as connection:
            before = {*(job.id for job in old), recent.id}
            assert [_ids(connection, table) for table in _BESIDE] == [before, before, {*before, waiting.id}]
            counts = [connection.execute(_delete(users, at_most=2).encode()).fetchone() for _ in range(3)]
            assert counts == [(2,), (1,), (0,)]
            assert _ids(connection, "finished_jobs", "id") == {recent.id}
            assert _ids(connection, "jobs", "id") == {waiting.id}
            assert [_ids(connection, table) for table in _BESIDE] == [{recent.id}, {recent.id}, {recent.id, waiting.id}]
        assert (await app.job(recent.id)).stored_result == "riga"
        with pytest.raises(JobNotFoundError):
            await app.job(old[0].id)
