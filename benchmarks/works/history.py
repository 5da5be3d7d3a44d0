"""What claims cost when there is a past: millions of finished jobs, and of such that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.works.draining import watch_drain

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Figures
    from benchmarks.contenders import Contender
    from benchmarks.server import Database

__all__ = ["history"]

_FINISHED = 10_000_000
_WAITING = 5_000_000
_FILL_FINISHED = """
insert into background_tasks.finished_jobs (
    id, scheduled_at, created_at, started_at, finished_at, claim, attempt, retry_number, checkpoint, state, priority,
    queue, task, metadata, execution_metadata, result, woken_by, version)
select nextval('background_tasks.job_ids'), now(), now(), now(), now(), 1, 1, 0, 0, 6, 0,
    'default', 'bench.noop', '{{"number": 1, "sent_at_seconds": 0, "note": "old"}}', 'null', '{{"number": 1}}', 0, 1
from generate_series(1, {rows})
"""
# One half waits for somebody, the other for a day to come: those are in the index that claims read.
_FILL_WAITING = """
insert into background_tasks.jobs (
    scheduled_at, created_at, attempt, state, priority, queue, task, metadata, execution_metadata)
select case when i % 2 = 0 then now() + interval '1 year' end, now(), 1, 4, 0,
    'default', 'bench.noop', '{{"number": 1, "sent_at_seconds": 0, "note": "waits"}}', 'null'
from generate_series(1, {rows}) i
"""
_UNFINISHED = (
    "select exists (select from background_tasks.jobs where worker_id is not null) or exists ("
    "select from background_tasks.jobs where state in (0, 3, 4, 5) and scheduled_at is not null and not suspect "
    "and queue = 'default' and priority = 0 and scheduled_at <= now())"
)
_DONE = "select count(*) from background_tasks.finished_jobs where id > {last}"


async def history(bench: Bench, contender: Contender) -> Figures:
    """Drain a queue; the contender's settings say whether there is a past."""
    jobs = bench.size(contender.jobs)
    if not contender.settings["past"]:
        async with bench.database(contender.side) as database:
            return await _drain(bench, contender, database, jobs)
    # Filling takes minutes: all rounds share it.
    if "history" not in bench.kept:
        bench.kept["history"] = database = await bench.clone(contender.side)
        for fill, full in ((_FILL_FINISHED, _FINISHED), (_FILL_WAITING, _WAITING)):
            await database.execute(fill.format(rows=max(1, int(full * bench.history_scale))))
    return await _drain(bench, contender, bench.kept["history"], jobs)


async def _drain(bench: Bench, contender: Contender, database: Database, jobs: int) -> Figures:
    last = await database.value("select case when is_called then last_value else 0 end from background_tasks.job_ids")
    async with bench.producer(contender, database) as producer:
        await producer.call("start_many", count=jobs)
    await database.settle_down()
    queries = {"unfinished": _UNFINISHED, "finished": _DONE.format(last=last)}
    return await watch_drain(bench, contender, database, jobs, queries=queries)
