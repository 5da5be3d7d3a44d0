"""Fault 13: rows that somebody has written by hand, wrong in any column that no constraint minds.

Such a job ends, or waits with a reason that can be seen; its neighbours don't feel it (I12), nothing is lost (I1), none
but a handler spends its retries, and the worker is as before.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from perdure import Context  # noqa: TC001 - a handler's annotation is read
from perdure.errors import JobFailed
from tests.support.malformed import ATTEMPTS, EVENTS, JOBS, STEPS, WORKERS, Spoiler
from tests.support.payloads import Meta
from tests.support.tiers import TIER, seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perdure import App, Job

# Each brings a new job into a state that a row may be in: held by a worker that is lost, and waiting in every way.
_STATES = {
    "pending": "state = 0",
    "held": "state = 2, worker_id = '00000000-0000-0000-0000-000000000001', claim = 1, attempt = 1",
    "retrying": "state = 3",
    "suspended": "state = 4",
    "proceeded": "state = 5",
}
# Due, and left without a word. (No worker of this kind takes a job in state 1; what is due in the year 10000 waits.)
_STUCK = """
    select id, state, scheduled_at::text, worker_id::text from {s}.jobs
    where last_error is null and state <> 1 and scheduled_at <= clock_timestamp()
"""
_BEGINNINGS = {
    "events": "insert into {s}.events (job_id, version, event) values (%s, 1, '{\"number\": 1}')",
    "steps": "insert into {s}.steps (job_id, key, result) values (%s, 'step', '1')",
    "attempts": "insert into {s}.attempts (job_id, attempt, ending, woken_by) values (%s, 1, 1, 0)",
}
_WORKER = """
    insert into {s}.workers (id, lease_until, lease_seconds, host, pid, concurrency, version)
    values (gen_random_uuid(), clock_timestamp() + interval '1 s', 1, 'host', 1, 1, '1') returning id
"""

pytestmark = pytest.mark.timeout(240)


class Stored(NamedTuple):
    """A job as it is stored; of one that has ended the scheduler's retries aren't known any more."""

    live: bool
    retry_number: int
    scheduler_retries: int


class Rows:
    """Bad rows and their neighbours."""

    def __init__(self, app: App, spoiler: Spoiler) -> None:
        self.app, self.spoiler = app, spoiler
        self.bad: dict[int, str] = {}
        self._neighbours: list[Job[Any, Any, Any, Any]] = []
        self._run: set[int] = set()
        self._note_runs()

    def _note_runs(self) -> None:
        """Note which of the jobs a handler was called for."""
        task = self.app.tasks["busy"]
        handler = task.handler

        async def noted(ctx: Context[Any, Any]) -> Any:
            self._run.add(ctx.id)
            return await handler(ctx)

        task.handler = noted

    async def add(self, state: str, values: dict[str, str]) -> int:
        """Spoil columns of a new job in this state; every fourth has a neighbour that comes right behind it."""
        job = await self.app.tasks["busy"].start(Meta("riga"))
        await self.spoiler.run(f"update {{s}}.jobs set {_STATES[state]} where id = {job.id}")
        if await self.spoiler.spoil("jobs", f"id = {job.id}", values):
            self.bad[job.id] = f"{state}: {_in_words(values)}"
        else:
            await self.spoiler.run(f"delete from {{s}}.jobs where id = {job.id}")
        if len(self.bad) % 4 == 1:
            self._neighbours.append(await self.app.tasks["neighbour"].start(job.id))
        return job.id

    async def spoil(self, job_id: int, table: str, where: str, values: dict[str, str]) -> None:
        """Spoil what belongs to one of these jobs, and is there; where that is refused, the job isn't bad."""
        assert await self.spoiler.run(f"select count(*) from {{s}}.{table} where {where}") == [(1,)]
        del self.bad[job_id]
        if await self.spoiler.spoil(table, where, values):
            self.bad[job_id] = f"{table}: {_in_words(values)}"

    async def survive(self) -> set[int]:
        """Let a worker have them: every neighbour is done, and none of the bad is left without a word, or lost.

        Returns those of the bad that no handler was called for.
        """
        assert len(self.bad) > 10
        before = await self._stored()
        await self._work()
        after = await self._stored()
        assert [line for job_id in self.bad for line in self._lost(job_id, *before[job_id], after[job_id])] == []
        return self.bad.keys() - self._run

    def _lost(self, job_id: int, before: Stored, after: list[Stored]) -> Iterator[str]:
        """Find what a bad row has lost: itself, or retries that no handler has spent."""
        if len(after) != 1:
            yield f"{self.bad[job_id]}: it is there {len(after)} times"
        elif job_id not in self._run and not _has_kept_its_retries(before, after[0]):
            yield f"{self.bad[job_id]}: no handler has run, and it was {before}, and is {after[0]}"

    async def _stored(self) -> dict[int, list[Stored]]:
        """Read the bad from the view of all jobs."""
        found: dict[int, list[Stored]] = {job_id: [] for job_id in self.bad}
        query = "select id, finished_at is null, retry_number, scheduler_retries from {s}.all_jobs where id = any(%s)"
        for job_id, *row in await self.spoiler.run(query, list(self.bad)):
            found[job_id].append(Stored(*row))
        return found

    async def _work(self) -> None:
        async with self.app.worker():
            for job in self._neighbours:
                await job.result(timeout=60)
            stuck: list[tuple[Any, ...]] = []
            try:
                async with asyncio.timeout(60):
                    while stuck := await self.spoiler.run(_STUCK):  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.1)
            except TimeoutError:
                pytest.fail("\n".join(f"{self.bad.get(row[0])}: {row}" for row in stuck))
            # It still works.
            assert await (await self.app.tasks["neighbour"].start(-1)).result(timeout=60) == -1


def _has_kept_its_retries(before: Stored, after: Stored) -> bool:
    """Whether as many are spent as before; below 0 that is none."""
    return after.retry_number in {before.retry_number, max(0, before.retry_number)} and (
        not after.live or after.scheduler_retries in {before.scheduler_retries, max(0, before.scheduler_retries)}
    )


def _in_words(values: dict[str, str]) -> str:
    return ", ".join(f"{column} = {value[:80]}" for column, value in values.items())


@pytest.mark.parametrize("state", _STATES if TIER == "nightly" else ["pending", "held"])
async def test_each_column_of_a_job(app: App, spoiler: Spoiler, state: str) -> None:
    rows = Rows(app, spoiler)
    for column, values in JOBS.items():
        for value in values:
            await rows.add(state, {column: value})
    assert await rows.survive()


@pytest.mark.parametrize("seed", seeds("test_several_columns_of_a_job", push=1, nightly=60))
async def test_several_columns_of_a_job(app: App, spoiler: Spoiler, seed: int) -> None:
    source = random.Random(seed)
    rows = Rows(app, spoiler)
    for _ in range(150):
        columns = source.sample(sorted(JOBS), source.randint(2, 6))
        await rows.add(source.choice(sorted(_STATES)), {column: source.choice(JOBS[column]) for column in columns})
    assert await rows.survive()


async def test_each_column_of_what_belongs_to_a_job(app: App, spoiler: Spoiler) -> None:
    rows = Rows(app, spoiler)
    for table, columns in (("events", EVENTS), ("steps", STEPS), ("attempts", ATTEMPTS)):
        for column, values in columns.items():
            for value in values:
                for change in ({}, {"key": "'nap'"}) if table == "steps" else ({},):
                    job_id = await rows.add("pending", {})
                    await spoiler.run(_BEGINNINGS[table], job_id)
                    await rows.spoil(job_id, table, f"job_id = {job_id}", {**change, column: value})
    await rows.survive()


async def test_each_column_of_a_worker(app: App, spoiler: Spoiler) -> None:
    # A lease of NaN seconds once stopped every sweep, and with it all rescues.
    rows = Rows(app, spoiler)
    for column, values in WORKERS.items():
        for value in values:
            ((worker,),) = await spoiler.run(_WORKER)
            job_id = await rows.add("held", {"worker_id": f"'{worker}'"})
            await rows.spoil(job_id, "workers", f"id = '{worker}'", {column: value})
    await rows.survive()


async def test_bands_of_nobody(app: App, spoiler: Spoiler) -> None:
    await spoiler.run(
        "insert into {s}.bands select queue, priority from "
        "unnest(array['', repeat('x', 2000), E'\\x1b[2J', 'default']) as queue, "
        "unnest(array[-32768, -101, 0, 101, 32767]) as priority"
    )
    job = await app.tasks["neighbour"].start(1)
    async with app.worker():
        assert await job.result(timeout=60) == 1


async def test_a_job_that_could_never_be_read_waits_as_any_other(app: App, spoiler: Spoiler) -> None:
    # A count of -32768 once made the delay that follows it no number.
    job = await app.tasks["busy"].start(Meta("riga"))
    await spoiler.spoil("jobs", f"id = {job.id}", {"unreadable": "-32768", "version": "9"})
    async with app.worker():
        async with asyncio.timeout(60):
            while (await job.refresh()).last_error is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    assert "it was written by version 9 of the task" in str(job.last_error)


async def test_a_count_at_its_end_goes_on_being_one(app: App, spoiler: Spoiler) -> None:
    # One more than a column holds once broke both lanes of the worker, over and over.
    @app.task("stubborn", retry=lambda _attempt, _error: 0)
    async def stubborn(ctx: Context[None, None]) -> int:
        if ctx.attempt < 3:
            raise RuntimeError
        return ctx.attempt

    job = await stubborn.start()
    await spoiler.spoil("jobs", f"id = {job.id}", {"scheduler_retries": "2147483647"})
    async with app.worker():
        assert await job.result(timeout=60) == 3


async def test_a_count_below_zero_is_nothing_spent(app: App, spoiler: Spoiler) -> None:
    # Of a delay before the first of the list an attempt's end once knew nothing, so it was never written.
    @app.task("hopeless", scheduler_retry_count=1, scheduler_retry_delays=[0], max_retry_count=0)
    async def hopeless(ctx: Context[None, None]) -> None:
        raise RuntimeError

    job = await hopeless.start()
    await spoiler.spoil("jobs", f"id = {job.id}", {"scheduler_retries": "-2147483648", "retry_number": "-7"})
    async with app.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=20)
    assert (await job.refresh()).attempt == 2


async def test_a_job_from_the_future_is_due_when_its_code_comes(app: App, spoiler: Spoiler) -> None:
    job = await app.tasks["busy"].start(Meta("riga"))
    values = {"created_at": "'infinity'", "unreadable": "5", "scheduled_at": "clock_timestamp() + interval '1 h'"}
    await spoiler.spoil("jobs", f"id = {job.id}", values)
    async with app.worker():
        assert await job.result(timeout=60) == "riga"
