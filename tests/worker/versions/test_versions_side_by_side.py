"""Old and new code at work on one queue, as in a rolling deploy."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from perdure import App, Context  # noqa: TC001 - a task's annotation is evaluated
from tests.support.jobs import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.processes import Process


class Deploy:
    """Apps of two versions; their handlers note who runs what, and need three attempts, each of which is anybody's."""

    def __init__(self, make_app: Callable[[], App]) -> None:
        self.ran: dict[int, list[int]] = defaultdict(list)
        self._both_have_begun = asyncio.Event()
        self._make_app = make_app

    def old(self) -> App:
        """Make an app of version 1."""
        app = self._make_app()

        @app.task("t")
        async def task(ctx: Context[int, int]) -> int:
            return await self._run(ctx, 1, ctx.metadata)

        return app

    def new(self) -> App:
        """Make an app of version 2."""
        app = self._make_app()

        @app.task("t", version=2, upgrades={1: lambda kind, data: [data] if kind == "metadata" else data})
        async def task(ctx: Context[list[int], int]) -> int:
            return await self._run(ctx, 2, ctx.metadata[0])

        return app

    async def _run(self, ctx: Context[Any, int], version: int, number: int) -> int:
        self.ran[ctx.id].append(version)
        if {1, 2} <= {each for versions in self.ran.values() for each in versions}:
            self._both_have_begun.set()
        await self._both_have_begun.wait()
        ctx.execution_metadata += 1
        await ctx.persist()
        if ctx.execution_metadata < 3:
            message = "not yet"
            raise RuntimeError(message)
        return number


async def test_old_and_new_workers_side_by_side_complete_every_job_and_the_old_never_runs_what_the_new_has_upgraded(
    make_app: Callable[[], App],
) -> None:
    deploy = Deploy(make_app)
    old, new, last = deploy.old(), deploy.new(), deploy.new()
    async with old, new, last:
        jobs = await old.tasks["t"].start_many(range(12), 0)
        jobs_of_new = await new.tasks["t"].start_many([[number] for number in range(12, 15)], 0)
        async with new.worker(concurrency=4):
            async with old.worker(concurrency=4):
                # Those of the new version may meet the old worker several times, and wait longer each time.
                await until(lambda: {job.id for job in jobs} <= deploy.ran.keys(), "the old version's jobs were begun")
            async with last.worker(concurrency=4):  # the last old one has been replaced
                results = [await job.result(timeout=15) for job in [*jobs, *jobs_of_new]]
        assert results == list(range(15))
        for versions in deploy.ran.values():
            assert versions == sorted(versions)
            assert len(versions) >= 3
        assert any(1 in versions for versions in deploy.ran.values())
        for job in jobs_of_new:
            assert set(deploy.ran[job.id]) == {2}


async def test_processes_of_two_versions_share_a_queue(
    make_app: Callable[[], App], start_process: Callable[..., Process]
) -> None:
    app = make_app()

    @app.task("pages")
    async def pages(ctx: Context[int, list[str]]) -> str: ...

    async with app:
        workers = [start_process(1), start_process(2)]
        jobs = await pages.start_many(range(200))
        for number, job in enumerate(jobs):
            said = await job.result(timeout=20)
            assert said in (f"version 1 has done {number}", f"version 2 has done {number}")
        for worker in workers:
            worker.terminate()
            assert await worker.end() == 0
