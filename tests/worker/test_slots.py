"""Who gets a slot that comes free."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from perdure import App, Context  # noqa: TC001 - the tasks' annotations are evaluated
from perdure.store.claims import Claimed
from perdure.worker.executor import Executor
from perdure.worker.port import WorkerPort


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
