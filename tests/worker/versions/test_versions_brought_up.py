"""Payloads of older code on real workers: brought up, and stored so before the handler runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import perdure.blocking
from perdure import App, Context, JobState, Suspended
from tests.support.proxy import Proxy
from tests.worker.versions.definitions import (
    EXECUTION,
    SCHEDULING,
    UPGRADES,
    Approved,
    Meta,
    Progress,
    Rows,
    task_of_version_1,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.processes import Process


async def test_all_payloads_are_brought_up_through_several_versions(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> tuple[Meta, Progress, Approved]:
        event = await ctx.next_event()
        return ctx.metadata, ctx.execution_metadata, event

    async with old, new:
        job = await old_task.start("riga", 4)
        await old_task.send(job.id, "ann")
        async with new.worker():
            result = await (await new.job(job.id)).result(timeout=15)
        assert result == (Meta("riga", "lv"), Progress([4]), Approved("ann", "?"))


async def test_events_of_several_versions_come_in_their_order(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)

    @new.task("t", version=3, upgrades=UPGRADES, events=Approved)
    async def task(ctx: Context[Meta, Progress]) -> list[Approved] | Suspended:
        return [await ctx.next_event(), await ctx.next_event(), await ctx.next_event()]

    async with old, new:
        job = await old_task.start("riga", 4)
        await old_task.send(job.id, "ann")
        await task.send(job.id, Approved("bob", "because"))
        await old_task.send(job.id, "eve")
        async with new.worker():
            result = await (await new.job(job.id)).result(timeout=15)
        assert result == [Approved("ann", "?"), Approved("bob", "because"), Approved("eve", "?")]


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_both_are_stored_as_the_new_version_before_the_handler_runs(
    make_app: Callable[[], App], rows: Rows, kind: str
) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)
    seen: list[tuple[Any, ...]] = []

    def look(job_id: int) -> None:
        names = "version, metadata, execution_metadata, checkpoint, claim_checkpoint"
        seen.append(
            rows.connection.execute(
                f"select {names} from background_tasks.jobs where id = %s".encode(), [job_id]
            ).fetchone()
            or ()
        )

    if kind == "def":

        @new.task("t", version=3, upgrades=UPGRADES)
        def blocking(ctx: perdure.blocking.Context[Meta, Progress]) -> None:
            look(ctx.id)

    else:

        @new.task("t", version=3, upgrades=UPGRADES)
        async def task(ctx: Context[Meta, Progress]) -> None:
            look(ctx.id)

    async with old, new:
        job = await old_task.start("riga", 4)
        async with new.worker():
            await (await new.job(job.id)).result(timeout=15)
    # It is a checkpoint, but no progress of the attempt: a lost worker counts as it would have.
    assert seen == [(3, {"shop": "riga", "country": "lv"}, {"pages": [4]}, 1, 1)]


async def test_what_a_handler_persists_afterwards_follows_the_upgrade(make_app: Callable[[], App]) -> None:
    old, new = make_app(), make_app()
    old_task = task_of_version_1(old)
    read: list[tuple[int, list[int]]] = []

    @new.task("t", version=3, upgrades=UPGRADES)
    async def task(ctx: Context[Meta, Progress]) -> int:
        read.append((ctx.attempt, list(ctx.execution_metadata.pages)))
        ctx.execution_metadata.pages.append(5)
        await ctx.persist()
        if ctx.attempt == 1:
            message = "once"
            raise RuntimeError(message)
        return len(ctx.execution_metadata.pages)

    async with old, new:
        job = await old_task.start("riga", 4)
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=15) == 3
    assert read == [(1, [4]), (2, [4, 5])]


async def test_killed_right_after_it_the_next_attempt_reads_the_new_version(
    make_app: Callable[[], App], start_process: Callable[..., Process]
) -> None:
    app = make_app()

    @app.task("pages")
    async def pages(ctx: Context[int, list[str]]) -> str: ...

    async with app:
        job = await pages.start(7)
        killed = start_process(2, TEST_DIES="1")
        await killed.line("attempt 1 with Pages")
        assert await killed.end() == -9
        assert killed.output.count("upgrade of") == 2
        await job.refresh()
        assert (job.version, job.state) == (2, JobState.RUNNING)
        second_worker = start_process(2)
        await second_worker.line("attempt 2 with Pages")
        assert await job.result(timeout=20) == "version 2 has done 7"
        assert "upgrade of" not in second_worker.output


@pytest.mark.parametrize("kind", ["before", "after"])
async def test_an_upgrade_whose_answer_is_lost_is_written_once(
    make_app: Callable[[], App], migrated_database: str, rows: Rows, kind: Any
) -> None:
    old = make_app()
    old_task = task_of_version_1(old)
    ran: list[int] = []
    async with Proxy(migrated_database) as proxy:
        new = App(proxy.dsn, scheduling=SCHEDULING, execution=EXECUTION)

        @new.task("t", version=3, upgrades=UPGRADES)
        async def task(ctx: Context[Meta, Progress]) -> tuple[Meta, Progress]:
            ran.append(rows.columns(job, "checkpoint")[0])
            ctx.execution_metadata.pages.append(5)
            await ctx.persist()
            return ctx.metadata, ctx.execution_metadata

        async with old, new:
            job = await old_task.start("riga", 4)
            proxy.arm(b"claim_checkpoint = claim_checkpoint + 1", kind)
            async with new.worker():
                result = await (await new.job(job.id)).result(timeout=20)
            assert proxy.broken.is_set()
            assert result == (Meta("riga", "lv"), Progress([4, 5]))
            assert (await job.refresh()).attempt == 1
    assert ran == [1]


@dataclass
class Shrunk:
    """Has lost a field."""

    page: int = 0


@pytest.mark.parametrize(("step", "left"), [(0, {"page": 1, "gone": 2}), (1, {"page": 2})])
async def test_a_lost_field_stays_stored_in_metadata_and_in_the_checkpoint_until_the_handler_changes_that(
    make_app: Callable[[], App], step: int, left: dict[str, int]
) -> None:
    old, new = make_app(), make_app()

    @old.task("t")
    async def before(ctx: Context[dict[str, int], dict[str, int]]) -> None: ...

    @new.task("t")
    async def task(ctx: Context[Shrunk, Shrunk]) -> int:
        ctx.execution_metadata.page += step
        return ctx.metadata.page

    async with old, new:
        job = await before.start({"page": 5, "gone": 6}, {"page": 1, "gone": 2})
        async with new.worker():
            assert await (await new.job(job.id)).result(timeout=10) == 5
        await job.refresh()
        assert (job.metadata, job.execution_metadata) == ({"page": 5, "gone": 6}, left)
