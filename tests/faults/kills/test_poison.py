"""Jobs that harm the worker which runs them: it ends as is specified, and its neighbours come through."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from perdure import App, Job, JobFailed, JobState, Raised
from tests.faults.kills import poison_app
from tests.support.jobs import job_until
from tests.support.tiers import TIER, drawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)
_ROOT = Path(__file__).parents[3]
_LONG_SECONDS = 120.0
_BY_NIGHT = pytest.mark.skipif(TIER == "push", reason="takes long, and another is much like it: see `make faults`")
_MEGABYTES = 1024 * 1024


@pytest.fixture
def start_worker(processes: Processes, migrated_database: str) -> Callable[..., Process]:
    def start(memory: int = 0, **execution: Any) -> Process:
        environment = {"TEST_DSN": migrated_database, "TEST_EXECUTION": json.dumps(execution)}
        if memory:
            environment["TEST_MEMORY"] = str(memory)
        return processes.python("-m", "tests.faults.kills.poison_app", env=environment, cwd=_ROOT)

    return start


@pytest_asyncio.fixture
async def client(migrated_database: str) -> AsyncIterator[App]:
    async with poison_app.make(migrated_database) as app:
        yield app


async def _neighbours(client: App, count: int = 6) -> list[Job[Any, Any, Any, Any]]:
    return await client.tasks["neighbour"].start_many(range(count))


async def _assert_unharmed(neighbours: list[Job[Any, Any, Any, Any]], client: App) -> None:
    for n, neighbour in enumerate(neighbours):
        assert await neighbour.result(timeout=_LONG_SECONDS) == n
        assert (await neighbour.refresh()).retry_number == 0
        endings = {record.ending.value for record in await client.history(neighbour.id)}
        assert endings <= {"lapsed", "stopped", "job completed"}


async def _end(worker: Process) -> None:
    worker.terminate()
    assert await worker.end(within_seconds=_LONG_SECONDS) == 0, worker.output


# --- it takes the process with it ---


@pytest.mark.parametrize("max_lapses", drawn("max lapses", [2, 3, 4], push=1))
@pytest.mark.parametrize("poison", drawn("deadly", list(poison_app.DEADLY), push=1))
async def test_a_deadly_job_takes_down_max_lapses_workers_and_its_neighbours_come_through(
    client: App, start_worker: Callable[..., Process], poison: str, max_lapses: int
) -> None:
    before = await _neighbours(client)
    job = await client.tasks[poison].start(None)
    after = await _neighbours(client)
    deaths = 0
    worker = start_worker(max_lapses=max_lapses)
    async with asyncio.timeout(_LONG_SECONDS):
        while not (await job.refresh()).state.is_final:
            if not worker.is_running:
                deaths += 1
                assert deaths <= max_lapses, worker.output
                worker = start_worker(max_lapses=max_lapses)
            await asyncio.sleep(0.05)
    await _assert_unharmed(before, client)
    await _assert_unharmed(after, client)
    assert deaths == max_lapses
    assert (job.state, job.attempt, job.retry_number) == (JobState.FAILED, max_lapses, 0)
    assert isinstance(job.error, Raised)
    assert job.error.type == "perdure.errors.WorkerLost"
    await _end(worker)


@_BY_NIGHT
async def test_two_deadly_jobs_at_once_take_down_no_more_workers_than_one_after_the_other(
    client: App, start_worker: Callable[..., Process]
) -> None:
    jobs = [await client.tasks["exits"].start(None) for _ in range(2)]
    neighbours = await _neighbours(client)
    deaths = 0
    worker = start_worker()
    async with asyncio.timeout(_LONG_SECONDS):
        while not all([(await job.refresh()).state.is_final for job in jobs]):
            if not worker.is_running:
                deaths += 1
                assert deaths <= 6, worker.output
                worker = start_worker()
            await asyncio.sleep(0.05)
    await _assert_unharmed(neighbours, client)
    assert [(job.state, job.attempt) for job in jobs] == [(JobState.FAILED, 3)] * 2
    await _end(worker)


# --- it takes the memory ---


@pytest.mark.parametrize("poison", drawn("greedy", ["takes all memory", "takes all memory in a thread"], push=1))
async def test_a_job_that_takes_all_memory_fails_and_its_neighbours_come_through(
    client: App, start_worker: Callable[..., Process], poison: str
) -> None:
    worker = start_worker(memory=300 * _MEGABYTES)
    await worker.line("worker ready", within_seconds=_LONG_SECONDS)
    neighbours = await _neighbours(client)
    job = await client.tasks[poison].start(None)
    neighbours += await _neighbours(client)
    with pytest.raises(JobFailed):
        await job.result(timeout=_LONG_SECONDS)
    await job.refresh()
    assert isinstance(job.error, Raised), worker.output
    assert job.error.type == "MemoryError"
    for neighbour in neighbours:
        await neighbour.result(timeout=_LONG_SECONDS)
    await _end(worker)


# --- it takes the thread of control ---


@_BY_NIGHT
async def test_a_job_that_blocks_the_event_loop_for_longer_than_the_lease_keeps_it(
    client: App, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker()
    neighbours = await _neighbours(client, 3)
    job = await client.tasks["blocks the event loop"].start(None)
    await worker.line("blocks", within_seconds=_LONG_SECONDS)
    other = start_worker()
    assert await job.result(timeout=_LONG_SECONDS) == 1
    await _assert_unharmed(neighbours, client)
    await _end(worker)
    await _end(other)


@_BY_NIGHT
async def test_a_job_that_blocks_the_event_loop_for_good_ends_each_worker_and_then_itself(
    client: App, start_worker: Callable[..., Process]
) -> None:
    job = await client.tasks["blocks the event loop for good"].start(None)
    neighbours = await _neighbours(client)
    for _ in range(3):
        worker = start_worker(max_stall=10)
        await worker.line("blocks", within_seconds=_LONG_SECONDS)
        await worker.line("the event loop hasn't turned for 1. s", within_seconds=_LONG_SECONDS)
        assert await worker.end() == 1
    worker = start_worker(max_stall=10)
    await job_until(job, lambda job: job.state.is_final)
    assert isinstance(job.error, Raised)
    assert (job.error.type, job.attempt) == ("perdure.errors.WorkerLost", 3)
    await _assert_unharmed(neighbours, client)
    await _end(worker)


async def test_a_job_that_keeps_the_gil_for_longer_than_the_lease_loses_it_and_nothing_else_does_harm(
    client: App, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker()
    await worker.line("worker ready", within_seconds=_LONG_SECONDS)
    neighbours = await _neighbours(client, 3)
    job = await client.tasks["keeps the GIL"].start(None)
    await worker.line("keeps the GIL", within_seconds=_LONG_SECONDS)
    other = start_worker()
    assert await job.result(timeout=_LONG_SECONDS) == 2
    await _assert_unharmed(neighbours, client)
    await worker.line("has lost its lease", within_seconds=_LONG_SECONDS)
    await _end(other)
    await _assert_unharmed(await _neighbours(client, 3), client)  # the first works again, under another lease
    await _end(worker)


# --- it doesn't listen ---


@pytest.mark.parametrize(
    "poison", drawn("stubborn", ["ignores its cancellation", "can't hear of its cancellation"], push=1)
)
async def test_a_job_that_ignores_its_cancellation_is_left_behind_and_keeps_nobody_waiting(
    client: App, start_worker: Callable[..., Process], poison: str
) -> None:
    worker = start_worker(concurrency=1)
    job = await client.tasks[poison].start(None)
    await worker.line("running", within_seconds=_LONG_SECONDS)
    neighbours = await _neighbours(client, 2)
    await client.cancel(job.id)
    await worker.line("is left behind", within_seconds=_LONG_SECONDS)
    await _assert_unharmed(neighbours, client)
    assert (await job.refresh()).state is JobState.CANCELLED
    await _end(worker)


async def test_a_job_that_ignores_its_time_out_is_left_behind_and_has_raised(
    client: App, start_worker: Callable[..., Process]
) -> None:
    worker = start_worker(concurrency=1)
    job = await client.tasks["times out and ignores it"].start(None)
    neighbours = await _neighbours(client, 2)
    await worker.line("is left behind", within_seconds=_LONG_SECONDS)
    await _assert_unharmed(neighbours, client)
    await job.refresh()
    assert isinstance(job.error, Raised)
    assert (job.state, job.error.type) == (JobState.FAILED, "perdure.errors.JobTimeout")
    await _end(worker)
