"""Fault 8: the disk is full, and has room again. All invariants; the worker says so once, and recovers by itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.disk import SmallDisk
from tests.support.migrated import migrate_database
from tests.support.scenario import Scenario
from tests.support.tiers import count, seeds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

# Of what is done seldom trouble is told as over after a minute: hence the patience below.
pytestmark = pytest.mark.timeout(600)

LOUD = re.compile(r"^[-\d]+ [:,\d]+ perdure")  # its workers write what is a warning or worse
# Of the rows between the others that can't be read.
SPOILT = "can't be read here"


@pytest.mark.parametrize("seed", seeds("test_full_disk", push=1, nightly=5))
async def test_a_full_disk_stops_the_work_and_costs_nothing_but_time(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    (folder := tmp_path / "history").mkdir()
    with SmallDisk(cluster, megabytes=100) as disk:

        async def fill(struck: Scenario) -> None:
            for _ in range(count(push=1, nightly=3)):
                await struck.until_acknowledged(20 + seed % 30)
                [worker] = struck.crew.workers
                said = loud_lines(worker)
                await asyncio.to_thread(disk.fill)
                await worker.line("could not extend file", within_seconds=60)
                await struck.until_unanswered(count(push=50, nightly=300))
                assert len(loud_lines(worker)) - len(said) <= 8, loud_lines(worker)
                disk.free()
                await worker.line("the database is there again", within_seconds=150)
                await struck.until_acknowledged(20)

        scenario = Scenario(cluster.dsn(database), folder, processes, seed=seed, workers=1, clients=4, seconds=1.0)
        await scenario.must_hold(first=fill)


async def test_a_server_that_dies_of_a_full_disk_has_kept_what_it_acknowledged(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    (folder := tmp_path / "history").mkdir()
    with SmallDisk(cluster, megabytes=100, wal=True) as disk:

        async def fill(struck: Scenario) -> None:
            await struck.until_acknowledged(30)
            [worker] = struck.crew.workers
            await struck.until(
                lambda: not lives_without_wal(disk, cluster), "the server lives on, without room for its WAL"
            )
            disk.free()
            await asyncio.to_thread(cluster.start)
            await worker.line("the database is there again", within_seconds=150)
            await struck.until_acknowledged(20)

        [seed] = seeds("test_full_wal", push=1, nightly=1)
        scenario = Scenario(cluster.dsn(database), folder, processes, seed=seed, workers=1, seconds=1.0)
        await scenario.must_hold(first=fill)


def lives_without_wal(disk: SmallDisk, cluster: Cluster) -> bool:
    """Use up the WAL, as often as the server only refuses that and lives on; tell whether it does.

    The disk is filled each time: a server that has recovered makes room, since it needs no more what it has replayed.
    """
    disk.fill()
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(cluster.dsn(), autocommit=True) as connection,
    ):
        while True:
            connection.execute("select pg_switch_wal(), pg_logical_emit_message(false, 'a', 'b')")
    return cluster.is_running


def loud_lines(worker: Process) -> list[str]:
    return [line for line in worker.output.splitlines() if LOUD.match(line) and SPOILT not in line]
