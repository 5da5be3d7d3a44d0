"""What lets a job go on: an event, a proceed, the time of its suspension, a retry. perdure alone does these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.bench import check_finished, waits
from benchmarks.tasks import Steps, Tasks, Tick
from benchmarks.works.draining import watch_drain

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.server import Database

__all__ = ["events", "proceed", "resume", "retry"]

_LONE_JOBS = 150
_MANY_JOBS = 2_000
_CALLERS = 50
_PAUSE_SECONDS = 0.010
_LOOK_SECONDS = 0.010
_RESUMING_JOBS = 2_000
_TIMES = 4
_SUSPENDED = "select count(*) from background_tasks.jobs where state = 4"
_LIVE = "select count(*) from background_tasks.jobs"

Wake: TypeAlias = Callable[[Tasks, int], Awaitable[None]]


async def events(bench: Bench, contender: Contender) -> Figures:
    """Send events to jobs that wait for one."""

    async def send(tasks: Tasks, job_id: int) -> None:
        await tasks["listen"].send(job_id, Tick(time.monotonic()))

    return await _wake(bench, contender.having(task="listen"), send)


async def proceed(bench: Bench, contender: Contender) -> Figures:
    """Proceed jobs that wait, with a change of their checkpoint."""

    async def let_go(tasks: Tasks, job_id: int) -> None:
        now_seconds = time.monotonic()
        await tasks["pause"].proceed(job_id, lambda position: replace(position, sent_at_seconds=now_seconds))

    return await _wake(bench, contender.having(task="pause"), let_go)


async def resume(bench: Bench, contender: Contender) -> Figures:
    """Let jobs suspend themselves until now, four times each."""
    return await _again(bench, contender.having(task="resume"))


async def retry(bench: Bench, contender: Contender) -> Figures:
    """Let handlers raise, four times for each job, with no delay before the retry."""
    return await _again(bench, contender.having(task="flaky"))


async def _again(bench: Bench, contender: Contender) -> Figures:
    """Let every job run four times more; how many runs a second."""
    jobs = bench.size(_RESUMING_JOBS)
    async with bench.database(contender.side) as database:
        async with bench.producer(contender, database) as producer:
            await producer.call("start_steps", jobs=jobs, times=_TIMES)
        await database.settle_down()
        figures = await watch_drain(bench, contender, database, jobs, runs=jobs * (1 + _TIMES))
    return {"per_second": figures["jobs_per_second"] * (1 + _TIMES)}


async def _wake(bench: Bench, contender: Contender, wake: Wake) -> Figures:
    """Wake one by one, for the wait until the handler begins; then all others by 50 callers, until all have ended."""
    lone, many = bench.size(_LONE_JOBS), bench.size(_MANY_JOBS, _CALLERS)
    async with bench.database(contender.side) as database:
        tasks = Tasks(database.dsn)
        async with tasks.app, bench.workers(contender, database, slots=lone) as workers:
            started = await tasks[contender.settings["task"]].start_many([Steps(1)] * (lone + many))
            await workers.go()
            await _until(database, _SUSPENDED, lone + many)
            await database.settle_down()
            for job in started[:lone]:
                await asyncio.sleep(_PAUSE_SECONDS)
                await wake(tasks, job.id)
            await workers.reach(lone)
            before = time.perf_counter()
            await _wake_all(tasks, [job.id for job in started[lone:]], wake)
            await _until(database, _LIVE, 0)
            seconds = time.perf_counter() - before
            found = workers.all[0].probe.waits_seconds()
        await check_finished(contender, database, (await bench.facts(contender.side))["finished"], lone + many)
    return {**waits(found), "per_second": many / seconds}


async def _wake_all(tasks: Tasks, ids: list[int], wake: Wake) -> None:
    left = iter(ids)

    async def caller() -> None:
        for job_id in left:
            await wake(tasks, job_id)

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))


async def _until(database: Database, query: str, count: int) -> None:
    while await database.value(query) != count:  # noqa: ASYNC110 - nothing would tell
        await asyncio.sleep(_LOOK_SECONDS)
