"""Who gets a slot that comes free."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from perdure import App, Context  # noqa: TC001 - the tasks' annotations are evaluated
from perdure.store.claims import Claimed
from perdure.worker.executor import Executor
from perdure.worker.port import WorkerPort
from tests.support.jobs import until


def claimed(job_id: int, *, lapses: int = 0) -> Claimed:
    return Claimed(job_id, "t", 1, 1, 0, 0, lapses, 0, "default", b"null", b"null", 0, 1e9, 0, 1, None)


@pytest.mark.parametrize("comes", [True, False], ids=["the suspect comes", "somebody else has taken it"])
async def test_the_slot_that_was_kept_for_a_suspect_is_the_suspects_and_else_is_filled(
    app: App, *, comes: bool
) -> None:
    gates = {number: asyncio.Event() for number in (1, 2, 3)}

    @app.task("t")
    async def task(ctx: Context[None, None]) -> None:
        await gates[ctx.id].wait()

    worker = app.worker(concurrency=1)
    worker._worker_id = worker_id = uuid.uuid4()
    worker.executor = executor = Executor(worker, WorkerPort(worker), concurrency=1, threads=1)
    executor.take([claimed(1), claimed(2)], worker_id)
    await asyncio.sleep(0)  # it begins
    executor.keep_slot_free(keeps=True)
    gates[1].set()
    async with asyncio.timeout(10):
        await executor.wait_until_idle()  # though the second job waits
    executor.keep_slot_free(keeps=False)
    if comes:
        executor.take([claimed(3, lapses=9)], worker_id)
    await asyncio.sleep(0)
    assert list(executor.running) == [3 if comes else 2]
    for gate in gates.values():
        gate.set()
    async with asyncio.timeout(10):
        await executor.wait_until_idle()


class Bench:
    """A worker's executor without its lanes: what it is given runs, what ends stays at the desk."""

    def __init__(self, app: App, *, concurrency: int) -> None:
        self.gates = {number: asyncio.Event() for number in (1, 2, 3)}
        self.began: list[int] = []

        @app.task("t")
        async def task(ctx: Context[None, None]) -> int:
            self.began.append(ctx.id)
            try:
                await self.gates[ctx.id].wait()
            except asyncio.CancelledError:
                return ctx.id  # all the same
            return ctx.id

        self.worker = app.worker(concurrency=concurrency)
        self.worker._worker_id = self.lease = uuid.uuid4()
        self.executor = Executor(self.worker, WorkerPort(self.worker), concurrency=concurrency, threads=1)
        self.worker.executor = self.executor

    async def end(self, *job_ids: int) -> None:
        """Let these end."""
        for job_id in job_ids:
            self.gates[job_id].set()
        async with asyncio.timeout(10):
            await self.executor.wait_until_idle()


async def test_one_suspect_runs_at_a_time(app: App) -> None:
    bench = Bench(app, concurrency=3)
    bench.executor.take([claimed(1)], bench.lease)
    assert bench.executor.has_room_for_suspect
    bench.executor.take([claimed(2, lapses=9)], bench.lease)
    assert not bench.executor.has_room_for_suspect
    await bench.end(1, 2)
    assert bench.executor.has_room_for_suspect


async def test_a_suspect_that_waits_for_a_slot_leaves_no_room_for_another(app: App) -> None:
    bench = Bench(app, concurrency=1)
    bench.executor.take([claimed(1), claimed(2, lapses=9)], bench.lease)
    await asyncio.sleep(0)
    assert list(bench.executor.running) == [1]
    bench.executor.keep_slot_free(keeps=True)
    assert bench.executor.in_hand == 2  # none is kept
    bench.gates[1].set()
    await bench.end(2)
    assert bench.executor.has_room_for_suspect


async def test_suspects_begin_one_by_one_and_nothing_else_waits_for_them(app: App) -> None:
    bench = Bench(app, concurrency=3)
    bench.executor.take([claimed(1, lapses=9), claimed(2, lapses=9), claimed(3, lapses=1)], bench.lease)
    await asyncio.sleep(0)
    assert list(bench.executor.running) == [1, 3]
    bench.gates[1].set()
    await until(lambda: list(bench.executor.running) == [3, 2], "the second suspect follows the first")
    await bench.end(2, 3)
    assert bench.executor.has_room_for_suspect


async def test_what_was_claimed_under_a_lease_that_is_lost_isnt_begun(app: App) -> None:
    bench = Bench(app, concurrency=3)
    bench.worker.take_claimed([claimed(1)], uuid.uuid4())
    bench.worker.take_claimed([claimed(2)], bench.lease)
    await asyncio.sleep(0)
    assert bench.began == list(bench.executor.running) == [2]
    await bench.end(2)


async def test_what_waits_for_a_slot_under_a_lease_that_is_lost_isnt_begun(app: App) -> None:
    bench = Bench(app, concurrency=1)
    bench.executor.take([claimed(1), claimed(2)], bench.lease)
    await asyncio.sleep(0)
    bench.worker._worker_id = uuid.uuid4()
    await bench.end(1)
    await asyncio.sleep(0)
    assert (bench.began, bench.executor.in_hand) == ([1], 0)


async def test_what_ends_under_a_lease_that_is_lost_has_no_outcome(app: App) -> None:
    bench = Bench(app, concurrency=1)
    bench.executor.take([claimed(1)], bench.lease)
    await asyncio.sleep(0)
    assert bench.executor.lose_lease(bench.lease) == [1]
    await bench.end()
    assert bench.worker.desk.is_empty
