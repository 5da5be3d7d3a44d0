"""How workers ask for a database that is away: ever more seldom, never in step, and found by them when it is back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.operations.nights import AT_NIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process

WORKERS = 3
OUTAGE_SECONDS = 60
# Once the delays have grown: two lanes and the listener every 5 s or so, the heartbeat every second.
MOST_A_SECOND = 2.5
FIRST_SECONDS = 4


async def knocks(port: int, seconds: float) -> list[float]:
    """Stand where the server was, hang up on whoever comes, and return when they came."""
    at_seconds: list[float] = []

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_seconds.append(time.monotonic() - began_at_seconds)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", port)
    began_at_seconds = time.monotonic()
    async with server:
        await asyncio.sleep(seconds)
    return at_seconds


@AT_NIGHT
@pytest.mark.timeout(200)
async def test_attempts_grow_rare_and_dont_come_in_step(
    private_cluster: Cluster, private_dsn: str, start_worker: Callable[..., Process]
) -> None:
    workers = [start_worker(private_dsn) for _ in range(WORKERS)]
    for worker in workers:
        await worker.line("^ready", within_seconds=60)
    private_cluster.stop()
    at_seconds = await knocks(private_cluster.port, OUTAGE_SECONDS)
    private_cluster.start()
    early = [at for at in at_seconds if at < FIRST_SECONDS]
    late = [at for at in at_seconds if at >= FIRST_SECONDS]
    late_a_second = len(late) / (OUTAGE_SECONDS - FIRST_SECONDS)
    told = f"{len(early)} attempts in the first {FIRST_SECONDS} s, then {late_a_second:.1f} a second"
    assert late, told  # they do try
    assert len(early) / FIRST_SECONDS > late_a_second, told
    assert late_a_second < MOST_A_SECOND * WORKERS, told
    # In step, three workers would come within the same twentieth of a second, again and again.
    moments = {int(at * 20) for at in late}
    assert len(moments) > len(late) / 2, told
    for worker in workers:
        await worker.line("the database is there again", within_seconds=60)
        worker.terminate()
    for worker in workers:
        assert await worker.end() == 0
