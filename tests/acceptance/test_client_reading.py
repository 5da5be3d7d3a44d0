"""Reading jobs: by queries, page by page, with payloads that can't be decoded, and their progress."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import App, Job, JobQuery, JobState
from perdure.errors import MisuseError, PayloadUndecodable
from perdure.job import JobProgress
from tests.support.clients import Hands, Meta, Needs, Progress


async def test_jobs_come_by_id_without_a_gap_or_a_repetition_while_they_are_read(app: App, task: Any) -> None:
    jobs = await task.start_many(Meta(str(place)) for place in range(25))
    seen = []
    async for job in app.jobs(JobQuery(page_size=4)):
        seen.append(job.id)
        if len(seen) % 7 == 0:  # each becomes another row of another table
            await app.cancel(jobs[len(seen)].id)
            await app.cancel(jobs[len(seen) - 3].id)
    assert seen == [job.id for job in jobs]
    descending = [job.id async for job in app.jobs(JobQuery(page_size=6, order="descending"))]
    assert descending == seen[::-1]


async def test_a_query_finds_what_it_asks_for(app: App, task: Any, hands: Hands) -> None:
    riga = await task.start(Meta("riga"), Progress(1, ["a", "b"]))
    oslo = await task.start(Meta("oslo"), queue="slow", at=timedelta(days=1))
    other: Any = app.tasks["needs.checkpoint"]
    needs = await other.start(None, Needs("t"))
    hands.make(riga, state=JobState.SUSPENDED.code, scheduled_at=None)

    async def find(**query: Any) -> list[int]:
        return [job.id async for job in app.jobs(JobQuery(**query))]

    assert await find() == [riga.id, oslo.id, needs.id]
    assert await find(states=[JobState.SUSPENDED]) == [riga.id]
    assert await find(states=[JobState.SUSPENDED, JobState.PENDING]) == [riga.id, oslo.id, needs.id]
    assert await find(states=[]) == []
    assert await find(names=["orders.import"]) == [riga.id, oslo.id]
    assert await find(queues=["slow", "default"]) == [oslo.id, needs.id]
    assert await find(metadata={"shop": "riga"}) == [riga.id]
    assert await find(metadata={"shop": "oslo"}, names=["needs.checkpoint"]) == []
    assert await find(execution_metadata={"seen": ["b"]}) == [riga.id]
    assert await find(created_after=riga.created_at) == [oslo.id, needs.id]
    assert await find(max_scheduled_at=needs.scheduled_at) == [needs.id]
    assert await find(max_scheduled_at=oslo.scheduled_at, order="descending") == [needs.id, oslo.id]


async def test_a_payload_that_cannot_be_decoded_spoils_neither_page_nor_job(app: App, task: Any, hands: Hands) -> None:
    first, bad, last = await task.start_many([Meta("a"), Meta("b"), Meta("c")])
    hands.make(bad, metadata='{"shop": 5}', error="[]")
    jobs = [job async for job in app.jobs()]
    assert [job.id for job in jobs] == [first.id, bad.id, last.id]
    assert (jobs[1].state, jobs[1].execution_metadata) == (JobState.PENDING, Progress())
    with pytest.raises(PayloadUndecodable, match=rf"job {bad.id}: metadata"):
        _ = jobs[1].metadata
    with pytest.raises(PayloadUndecodable, match=rf"job {bad.id}: error"):
        _ = jobs[1].error
    assert (jobs[0].metadata, jobs[2].metadata) == (Meta("a"), Meta("c"))


async def test_a_job_of_an_unknown_task_shows_plain_json(
    app: App, task: Any, hands: Hands, migrated_database: str
) -> None:
    job = await task.start(Meta("riga"), Progress(2))
    hands.make(job, error='{"error": {"since": "today"}}')
    async with App(migrated_database) as other:
        seen: Job[Any, Any, Any, Any] = await other.job(job.id)
        assert seen.metadata == {"shop": "riga"}
        assert seen.execution_metadata == {"rows": 2, "seen": []}
        assert seen.error == {"since": "today"}
        assert (seen.name, seen.stored_result) == ("orders.import", None)


async def test_a_job_shows_the_progress_that_its_handler_reported(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    assert job.progress is None
    hands.make(job, progress='{"done": 3, "total": null, "note": "pages", "at": "2030-01-01T00:00:00Z"}')
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert (await job.refresh()).progress == JobProgress(done=3, total=None, note="pages", at=at)


@pytest.mark.parametrize("progress", ['{"done": "many"}', "[]", '{"done": 3}', "null"])
async def test_a_progress_that_is_none_is_not_shown_and_spoils_no_page(
    app: App, task: Any, hands: Hands, progress: str
) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, progress=progress)
    assert [each.progress async for each in app.jobs()] == [None]


@pytest.mark.parametrize("given", ["5", "soon", float("nan"), [], True])
async def test_a_time_out_that_is_no_duration_is_refused(app: App, task: Any, given: Any) -> None:
    job = await task.start(Meta("riga"))
    with pytest.raises(MisuseError, match=r"result: timeout: .* is no duration"):
        await job.result(timeout=given)
    with pytest.raises(MisuseError, match=r"result: timeout: .* is no duration"):
        app.blocking.result(job, timeout=given)
    for short in ("00:00:00", 0.001):
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(app.blocking.result, job, timeout=short)


@pytest.mark.parametrize("given", ["orders.import", "", {"shop": "riga"}, {}, 5])
async def test_what_is_no_query_is_refused(app: App, given: Any) -> None:
    with pytest.raises(MisuseError, match=r"jobs: .* is no JobQuery; give JobQuery") as refusal:
        await anext(app.jobs(given))
    with pytest.raises(MisuseError, match=r"jobs: .* is no JobQuery; give JobQuery"):
        next(app.blocking.jobs(given))
    assert repr(given) in str(refusal.value)
