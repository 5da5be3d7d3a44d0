"""What a handler returns in answer to its deadline's stop: an end of its own stands, and nothing else goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure import Cancelled, Context, Failed, JobState, Suspended
from tests.support.jobs import job_until

if TYPE_CHECKING:
    from perdure import App

EXCEEDED = "perdure.errors.DeadlineExceeded"


@pytest.mark.parametrize(
    ("answer", "state", "error"),
    [
        ("done", JobState.COMPLETED, None),
        (Cancelled("no use"), JobState.CANCELLED, "no use"),
        (Failed("too late", retry=False), JobState.FAILED, "too late"),
        (Failed("too late"), JobState.FAILED, EXCEEDED),
        (Suspended(), JobState.FAILED, EXCEEDED),
    ],
    ids=["a value", "Cancelled", "Failed without retries", "Failed with retries left", "Suspended"],
)
async def test_a_handler_may_end_its_job_in_answer_to_the_deadline_and_else_it_is_failed_by_it(
    app: App, answer: Any, state: JobState, error: str | None
) -> None:
    begun: list[int] = []

    @app.task("t", deadline=timedelta(milliseconds=200), max_retry_count=9)
    async def task(ctx: Context[None, None]) -> str | Failed[str] | Cancelled[str] | Suspended:
        begun.append(ctx.attempt)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return answer  # type: ignore[no-any-return]
        return "never"

    async with app.worker():
        job = await task.start()
        await job_until(job, lambda job: job.state.is_final)
    assert (job.state, getattr(job.error, "type", job.error)) == (state, error)
    assert begun == [1]  # an attempt past the deadline may be counted, but its handler isn't called
