"""Fault 4: PostgreSQL crashes under load, and recovers.

Nothing that was acknowledged is lost, nothing is done twice, no page is spoilt: all invariants; and `pg_amcheck` finds
heaps and indexes in order.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.support.account import Account
from tests.support.cluster import DEBIAN_BINARIES, wheel_binaries
from tests.support.migrated import migrate_database
from tests.support.scenario import Scenario
from tests.support.tiers import TIER, count, seeds
from tests.support.waiting import still_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)


def crash_at_once(cluster: Cluster) -> None:
    """As after `pg_ctl stop -m immediate`."""
    cluster.stop("immediate")


def kill_all_processes(cluster: Cluster) -> None:
    """As by the machine's end."""
    cluster.kill()


def kill_the_postmaster(cluster: Cluster) -> None:
    """Its children notice, and end by themselves, wherever they are."""
    children = psutil.Process(cluster.pid).children(recursive=True)
    os.kill(cluster.pid, signal.SIGKILL)
    wait_until(lambda: not still_alive(children), "the postmaster's children outlive it")
    wait_until(lambda: not cluster.is_running, "the server's guard hasn't seen its end")


def kill_a_backend(cluster: Cluster) -> None:
    """One session's process is killed: the postmaster ends all the others, and recovers by itself."""
    query = b"select pid from pg_stat_activity where application_name = 'perdure worker' order by random() limit 1"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        wait_until(lambda: connection.execute(query).rowcount == 1, "no worker is connected")
        [(pid,)] = connection.execute(query).fetchall()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "all server processes terminated; reinitializing" in cluster.tail(200), "no crash was noticed")


CRASHES = (crash_at_once, kill_all_processes, kill_the_postmaster, kill_a_backend)


@pytest.mark.parametrize("binaries", [wheel_binaries(), *([DEBIAN_BINARIES] if TIER == "nightly" else [])])
@pytest.mark.parametrize("seed", seeds("test_server_crashes", push=1, nightly=6))
async def test_a_server_that_crashes_under_load_loses_nothing_and_is_whole(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int, binaries: Path
) -> None:
    if not (binaries / "postgres").exists():
        pytest.skip(f"PostgreSQL isn't installed in {binaries}")
    source = random.Random(seed)
    cluster = new_cluster(binaries)
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    (folder := tmp_path / "history").mkdir()

    async def crash_often(struck: Scenario) -> None:
        for crash in source.sample(CRASHES, count(push=2, nightly=4)):
            await struck.until_acknowledged(source.randrange(10, 60))
            await asyncio.to_thread(crash, cluster)
            if not cluster.is_running:
                await struck.until_unanswered(1)  # the clients have noticed, too
                await asyncio.to_thread(cluster.start)
        await struck.until_acknowledged(20)

    scenario = Scenario(cluster.dsn(database), folder, processes, seed=seed, seconds=1.0)
    await scenario.must_hold(first=crash_often)
    checked = Account.of_servers().run(
        [
            str(cluster.binaries / "pg_amcheck"),
            *("--install-missing", "--heapallindexed", "--parent-check"),
            *("-h", "127.0.0.1", "-p", str(cluster.port), "-U", "postgres", "-d", database),
        ]
    )
    assert (checked.returncode, checked.stdout) == (0, "")
