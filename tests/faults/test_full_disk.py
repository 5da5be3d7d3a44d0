"""Fault 8: the disk is full, and has room again. I1 to I3, I8; and the worker says so once, and recovers by itself."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.disk import SmallDisk
from tests.support.load import Load
from tests.support.migrated import migrate_database
from tests.support.tiers import count, seeds
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

# Of what is done seldom trouble is told as over after a minute: hence the patience below.
pytestmark = pytest.mark.timeout(600)

LOUD = re.compile(r"^(WARNING|ERROR|CRITICAL) perdure")


@pytest.mark.parametrize("seed", seeds("test_full_disk", push=1, nightly=5))
async def test_a_full_disk_stops_the_work_and_costs_nothing_but_time(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    with SmallDisk(cluster, megabytes=100) as disk:
        load = Load(cluster.dsn(database), tmp_path, processes)
        worker = load.start_worker()
        async with load.starting():
            for _ in range(count(push=1, nightly=3)):
                await load.until_acknowledged(20 + seed % 30)
                said = loud_lines(worker)
                disk.fill()
                await worker.line("could not extend file", within_seconds=60)
                await load.until_refused(count(push=150, nightly=1000))
                assert len(loud_lines(worker)) - len(said) <= 8, loud_lines(worker)
                disk.free()
                await worker.line("the database is there again", within_seconds=150)
                await load.until_acknowledged(20)
        await load.rest()
        assert await load.violations() == []


async def test_a_server_that_dies_of_a_full_disk_has_kept_what_it_acknowledged(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    with SmallDisk(cluster, megabytes=100, wal=True) as disk:
        load = Load(cluster.dsn(database), tmp_path, processes)
        worker = load.start_worker()
        async with load.starting():
            await load.until_acknowledged(30)
            disk.fill()
            wait_until(lambda: not lives_without_wal(cluster), "the server lives on, without room for its WAL")
            disk.free()
            cluster.start()
            await worker.line("the database is there again", within_seconds=150)
            await load.until_acknowledged(20)
        await load.rest()
        assert await load.violations() == []


def lives_without_wal(cluster: Cluster) -> bool:
    """Use up the WAL, as often as the server only refuses that and lives on; tell whether it does."""
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(cluster.dsn(), autocommit=True) as connection,
    ):
        while True:
            connection.execute("select pg_switch_wal(), pg_logical_emit_message(false, 'a', 'b')")
    return cluster.is_running


def loud_lines(worker: Process) -> list[str]:
    return [line for line in worker.output.splitlines() if LOUD.match(line)]
