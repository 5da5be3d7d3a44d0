"""Payloads and events that a worker's code can't read: they wait for other code, without harm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, Context, JobState
from tests.support.jobs import until
from tests.worker.versions.definitions import UPGRADES, Approved, Meta, Progress, Rows, task_of_version_1

if TYPE_CHECKING:
    from collections.abc import Callable


def newer(app: App) -> None:
    task_of_version_1(app)


def undecodable(app: App) -> None:
    @app.task("t", version=3, events=Approved)
    async def task(ctx: Context[int, Progress]) -> None: ...


def without_upgrade(app: App) -> None:
    @app.task("t", version=4, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> None: ...


def raising(app: App) -> None:
    def upgrade(kind: str, data: Any) -> Any:
        if kind == "execution_metadata":
            message = "no way"
            raise LookupError(message)
        return data

    @app.task("t", version=4, upgrades={3: upgrade}, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> None: ...


def unknown(app: App) -> None:
    @app.task("another")
    async def another(ctx: Context[None, None]) -> None: ...


WAITING: dict[Callable[[App], None], str] = {
    newer: "t: metadata: it was written by version 3 of the task, and this code is version 1, so it takes newer code "
    "to read it",
    undecodable: "t: metadata: expected int, got object",
    without_upgrade: "t: metadata: it was written by version 3 of the task, and this code, version 4, has no upgrade "
    "from it (upgrades: none)",
    raising: "t: execution metadata: its upgrade from version 3 to 4 raised LookupError: no way",
    unknown: "no task named 't' is registered in this worker's app; it waits for one that has it",
}


def knowing(app: App) -> Any:
    @app.task("t", version=3, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> int:
        return ctx.attempt

    return task


@pytest.mark.parametrize(("define", "said"), WAITING.items(), ids=[each.__name__ for each in WAITING])
async def test_it_waits_with_a_clear_error_at_growing_delays_and_spends_nothing(
    make_app: Callable[[], App], rows: Rows, define: Callable[[App], None], said: str
) -> None:
    starter, worker = make_app(), make_app()
    task = knowing(starter)
    define(worker)

    @worker.task("neighbour")
    async def neighbour(ctx: Context[int, None]) -> int:
        return ctx.metadata

    async with starter, worker:
        async with worker.worker(concurrency=1) as running:
            await until(lambda: not running._short_tasks, "it has made due what waited for its code")
            job = await task.start(Meta("riga", "lv"), Progress([1]))
            began_at_seconds = time.monotonic()
            for number in (1, 2, 3):
                seen: list[Any] = []

                def is_deferred(number: int = number, seen: list[Any] = seen) -> bool:
                    # In one look, since it is claimed again soon. The delay is counted from the claim, just before.
                    delay = "extract(epoch from scheduled_at - started_at)"
                    seen[:] = rows.columns(job, f"unreadable >= {number} and state = 0, unreadable, {delay}")
                    return bool(seen[0])

                await until(is_deferred, f"deferred {number} times")
                assert int(seen[2]) == 2 ** (seen[1] - 1)
                neighbours = await neighbour.start_many(range(5))
                assert [await each.result(timeout=10) for each in neighbours] == list(range(5))
                if number == 2:
                    assert time.monotonic() - began_at_seconds >= 1
                    rows.set(job, "scheduled_at = clock_timestamp()")  # the first delay was waited for; that is enough
            assert rows.columns(job, "claim - unreadable, attempt, retry_number, scheduler_retries") == (0, 0, 0, 0)
            await job.refresh()
            assert (job.state, job.last_error) == (JobState.PENDING, said)
            assert rows.columns(job, "version, metadata, checkpoint") == (3, {"shop": "riga", "country": "lv"}, 0)
            # However often: a minute at most.
            rows.set(job, "unreadable = 40, scheduled_at = clock_timestamp()")
            await rows.until_deferred(job, 41)
            assert 58 <= rows.columns(job, "extract(epoch from scheduled_at - clock_timestamp())")[0] <= 60
        # A worker that starts with the code doesn't leave it waiting for that.
        async with starter.worker():
            assert await job.result(timeout=10) == 1
        assert (await job.refresh()).retry_number == 0


async def test_an_event_of_newer_code_waits_likewise_and_is_kept(make_app: Callable[[], App], rows: Rows) -> None:
    old, new = make_app(), make_app()

    @old.task("t", events=str)
    async def old_handler(ctx: Context[str, int]) -> str | None:
        return await ctx.next_event()

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> str:
        event = await ctx.next_event()
        return event.by

    async with old, new:
        job = await old_handler.start("riga", 4)
        await task.send(job.id, Approved("ann", "because"))
        async with old.worker():
            await rows.until_deferred(job, 1)
            await job.refresh()
            assert job.last_error is not None
            assert job.last_error.startswith("t: event 1: it was written by version 3 of the task")
            assert (job.retry_number, rows.columns(job, "scheduler_retries")) == (0, (0,))
        rows.set(job, "unreadable = 40, scheduled_at = clock_timestamp() + interval '60 s'")
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=10) == "ann"
