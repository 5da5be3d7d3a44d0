"""Cancelling jobs: those that don't run end at once, those that run are asked to."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import App, CancelRequested, JobEnded, JobState, NotSuspended
from tests.support.clients import WORKER, Hands, Meta


@pytest.mark.parametrize(
    "state",
    [JobState.PENDING, JobState.ENQUEUED, JobState.RETRYING, JobState.SUSPENDED, JobState.PROCEEDED],
)
async def test_cancel_ends_a_job_that_is_not_running_at_once(
    app: App, task: Any, hands: Hands, state: JobState
) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, state=state.code)
    match await app.cancel(job.id):
        case CancelRequested(cancelled):
            assert cancelled.state is JobState.CANCELLED
            assert cancelled.finished_at is not None
        case other:
            pytest.fail(f"{other}")
    match await app.cancel(job.id):
        case JobEnded(ended):
            assert ended.state is JobState.CANCELLED
        case other:
            pytest.fail(f"{other}")
    assert isinstance(await app.proceed(job.id), NotSuspended)


async def test_cancel_of_a_running_job_is_requested(app: App, task: Any, hands: Hands) -> None:
    job = await task.start(Meta("riga"))
    hands.make(job, state=JobState.RUNNING.code, worker_id=WORKER)
    for _ in range(2):
        match await app.cancel(job.id):
            case CancelRequested(running):
                assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
            case other:
                pytest.fail(f"{other}")
