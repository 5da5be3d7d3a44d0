"""Waiting for what a job's row says: nobody is notified of that but waiters of results, so it is looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure import Job, JobState
    from perdure.worker.worker import Worker

__all__ = ["is_in", "job_until", "settled_in", "until"]

_DEADLINE_SECONDS = 15.0
_LOOK_SECONDS = 0.01


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It wasn't within the deadline.
    """
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        message = f"not within {_DEADLINE_SECONDS} s: {what}"
        raise AssertionError(message) from None


async def job_until(job: Job[Any, Any, Any, Any], condition: Callable[[Job[Any, Any, Any, Any]], bool]) -> None:
    """Refresh the job until it is as wanted.

    Raises:
        AssertionError: It wasn't within the deadline; tells the state that it is in.
    """
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            while not condition(await job.refresh()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        message = f"job {job.id} wasn't as wanted within {_DEADLINE_SECONDS} s: {job.state}, {job.last_error}"
        raise AssertionError(message) from None


async def is_in(job: Job[Any, Any, Any, Any], state: JobState) -> None:
    """Wait until the job is in a state."""
    await job_until(job, lambda job: job.state is state)


async def settled_in(worker: Worker) -> None:
    """Wait until all lanes are connected and the lease is renewed: each lane that connects has it renew once more."""
    heartbeat = worker._heartbeat

    def is_quiet() -> bool:
        has_renewed = heartbeat._asked_at_seconds is None and not heartbeat._hurried.is_set()
        return has_renewed and all(lane._connection is not None for lane in worker.lanes)

    await until(is_quiet, "the worker has settled in")
