"""Faults 13 and 21: whatever stands in a row, it is shown or named: no listing dies of it, no terminal obeys it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import pytest_asyncio

from perdure import App, Job
from perdure.errors import PayloadUndecodable
from perdure.history import AttemptRecord
from tests.cli.conftest import CommandLine
from tests.support.malformed import ATTEMPTS, FINISHED_JOBS, JOBS, Spoiler
from tests.support.payloads import Meta
from tests.support.tiers import SEED, count

if TYPE_CHECKING:
    from pathlib import Path

_END = """
    with ended as (delete from {s}.jobs where id = %s returning *)
    insert into {s}.finished_jobs (id, created_at, finished_at, claim, attempt, retry_number, checkpoint, state,
        priority, queue, task, metadata, execution_metadata, result, woken_by, version)
    select id, created_at, now(), 1, 1, 0, 0, 6, priority, queue, task, metadata, execution_metadata, '"riga"', 0, 1
    from ended
"""
_ATTEMPT = "insert into {s}.attempts (job_id, attempt, ending, woken_by) values (%s, 1, 1, 0)"
_MAY_BE_UNREADABLE = {"metadata", "execution_metadata", "stored_result", "error", "woken_by"}
_COMMANDS = (["jobs", "list", "--limit", "100000"], ["jobs", "list", "--limit", "100000", "--output", "json"])

pytestmark = pytest.mark.timeout(240)


@pytest_asyncio.fixture
async def bad(app: App, spoiler: Spoiler) -> dict[int, str]:
    """Jobs with a bad value in each column in turn, by id."""
    made: dict[int, str] = {}
    for table, columns in (("jobs", JOBS), ("finished_jobs", FINISHED_JOBS), ("attempts", ATTEMPTS)):
        for column, values in columns.items():
            for value in values:
                job = await app.tasks["busy"].start(Meta("riga"))
                if table == "finished_jobs":
                    await spoiler.run(_END, job.id)
                elif table == "attempts":
                    await spoiler.run(_ATTEMPT, job.id)
                key = "job_id" if table == "attempts" else "id"
                await spoiler.spoil(table, f"{key} = {job.id}", {column: value})
                made[job.id] = f"{table}.{column} = {value[:70]}"
    return made


def _look_at(kind: type[Any], shown: Any) -> None:
    """Read every property; of payloads, one that can't be read may say so."""
    for name in (name for name, value in vars(kind).items() if isinstance(value, property)):
        try:
            getattr(shown, name)
        except PayloadUndecodable:
            assert name in _MAY_BE_UNREADABLE


async def test_the_app_shows_each_job_whatever_is_in_its_row(app: App, bad: dict[int, str]) -> None:
    seen: set[int] = set()
    async for job in app.jobs():
        seen.add(job.id)
        try:
            for handle in (job, job.untyped()):
                _look_at(Job, handle)
            for attempt in await job.history():
                _look_at(AttemptRecord, attempt)
        except Exception as error:
            error.add_note(bad[job.id])
            raise
    assert seen == set(bad)


async def test_the_command_line_shows_each_job_whatever_is_in_its_row(
    bad: dict[int, str], tmp_path: Path, every_migrated_database: str
) -> None:
    perdure = CommandLine(tmp_path, {"PERDURE_DSN": every_migrated_database})
    for command in _COMMANDS:
        listed = await asyncio.to_thread(perdure.inside, *command)
        assert (listed.code, listed.err) == (0, "")
        assert "\x1b" not in listed.out
    assert {job["id"] for job in _strict_json(listed.out)} == set(bad)
    some = random.Random(SEED).sample(sorted(bad), count(push=50, nightly=len(bad)))
    for job_id, what in ((job_id, bad[job_id]) for job_id in some):
        shown = await asyncio.to_thread(perdure.inside, "jobs", "show", str(job_id))
        assert (shown.code, shown.err) == (0, ""), what
        assert "\x1b" not in shown.out
        shown = await asyncio.to_thread(perdure.inside, "jobs", "show", str(job_id), "--output", "json", "--traceback")
        assert (shown.code, shown.err) == (0, ""), what
        assert _strict_json(shown.out)["id"] == job_id
        if what.startswith("finished"):
            watched = await asyncio.to_thread(perdure.inside, "jobs", "watch", str(job_id))
            assert watched.code in {0, 1}, what
            assert "should not have happened" not in watched.err


async def test_what_cant_be_read_is_named(
    app: App, spoiler: Spoiler, tmp_path: Path, every_migrated_database: str
) -> None:
    job = await app.tasks["busy"].start(Meta("riga"))
    await spoiler.spoil("jobs", f"id = {job.id}", {"metadata": "(repeat('[', 3000) || repeat(']', 3000))"})
    perdure = CommandLine(tmp_path, {"PERDURE_DSN": every_migrated_database})
    shown = await asyncio.to_thread(perdure.inside, "jobs", "show", str(job.id))
    assert "(can't be read: job 1: metadata: it is nested too deeply, or contains itself)" in shown.out
    shown = await asyncio.to_thread(perdure.inside, "jobs", "show", str(job.id), "--output", "json")
    found = _strict_json(shown.out)
    assert found["metadata"] is None
    assert found["unreadable"] == {"metadata": "job 1: metadata: it is nested too deeply, or contains itself"}


async def test_a_job_that_is_never_due_says_so(
    app: App, spoiler: Spoiler, tmp_path: Path, every_migrated_database: str
) -> None:
    job = await app.tasks["busy"].start(Meta("riga"))
    await spoiler.spoil("jobs", f"id = {job.id}", {"scheduled_at": "null"})
    perdure = CommandLine(tmp_path, {"PERDURE_DSN": every_migrated_database})
    assert "never" in (await asyncio.to_thread(perdure.inside, "jobs", "list")).out


def _strict_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    message = f"{constant} is no JSON"
    raise AssertionError(message)
