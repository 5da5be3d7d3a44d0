"""What a worker has sent before it lost its lease arrives when another has its job: nothing of it is done any more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.jobs import until
from tests.support.marks import mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from perdure.worker.worker import Worker
    from tests.faults.network.late import Late
    from tests.support.proxy import Proxy

_TRIES = 50  # of a statement, each of which is cut: until nobody can connect any more
_LEASE = "select lapsed_at, lease_until, xmin::text from background_tasks.workers where id = %s"
_LAPSE = "update background_tasks.workers set lease_until = clock_timestamp() - interval '1 s' where id = %s"


def _hold_back(proxy: Proxy, statement: str) -> None:
    """Let what comes next of a statement come late, and cut each further try."""
    proxy.arm(mark(statement), "late")
    for _ in range(_TRIES):
        proxy.arm(mark(statement), "before")


@contextlib.asynccontextmanager
async def _cut_off(late: Late, worker: Worker) -> AsyncIterator[UUID]:
    """Wait for that, cut the worker off for the length of the block, and let its lease run out; give its id."""
    proxy, lost = late.proxy, worker.worker_id
    assert lost is not None
    await until(proxy.broken.is_set, "it is cut")
    proxy.weather.refuses = True
    proxy.cut_all()
    proxy.disarm()
    late.hands.sql(_LAPSE, lost)
    try:
        yield lost
    finally:
        proxy.weather.refuses = False


@pytest.mark.parametrize(
    ("statement", "act", "answer"),
    [("persist", "persist and raise", "SELECT 0"), ("finish", "return", "SELECT 1"), ("release", "raise", "SELECT 0")],
)
async def test_a_late_write_of_a_zombie_changes_nothing(
    late: Late, proxy: Proxy, statement: str, act: str, answer: str
) -> None:
    async with late.app.worker(concurrency=1) as zombie:
        _hold_back(proxy, statement)
        job = await late.start(act)
        async with _cut_off(late, zombie), late.other.worker():
            await late.gate.reached()
            before = late.rows(job)
            assert (await proxy.deliver())[0] == answer
            assert late.rows(job) == before
            late.gate.open()
            assert await job.result(timeout=60) == 2
    assert late.gate.began == [1, 2]


async def test_a_late_claim_of_a_zombie_takes_nothing(late: Late, proxy: Proxy) -> None:
    async with late.app.worker(concurrency=1) as zombie:
        _hold_back(proxy, "claim")
        async with _cut_off(late, zombie):
            job = await late.start("nothing")
            before = late.rows(job)
            assert (await proxy.deliver())[-1] == "SELECT 1"  # the last row is no job
            assert late.rows(job) == before
            async with late.other.worker():
                await late.gate.reached()
                late.gate.open()
                assert await job.result(timeout=60) == 1
    assert late.gate.began == [1]


async def test_a_late_renewal_revives_no_lease(late: Late, proxy: Proxy) -> None:
    async with late.app.worker() as zombie:
        _hold_back(proxy, "renew_lease")
        zombie._heartbeat.hurry()  # it isn't time for one
        async with _cut_off(late, zombie) as lost:
            before = late.hands.sql(_LEASE, lost)
            assert before[0][0] is None  # nobody has marked it
            assert await proxy.deliver() == ["UPDATE 0"]
            assert late.hands.sql(_LEASE, lost) == before
