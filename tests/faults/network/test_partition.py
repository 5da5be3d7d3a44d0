"""Two hosts, one of which loses the network for longer than a lease: packets vanish, no connection is reset."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.hosts import Host, another_host
from tests.support.migrated import migrate_database
from tests.support.waiting import wait_until
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

WORKER = str(Path(process_definitions.__file__).with_name("process_app.py"))
EXECUTION = {"lease_duration": 2, "shutdown_grace": 0, "cancel_grace": 1}


@pytest.fixture
def host() -> Iterator[Host]:
    with another_host() as host:
        yield host


@pytest.fixture
def cluster(host: Host, new_cluster: Callable[..., Cluster]) -> Cluster:
    cluster = new_cluster(settings={"listen_addresses": f"127.0.0.1,{host.address_here}"})
    with (cluster.data / "pg_hba.conf").open("a", encoding="utf-8") as file:
        file.write("host all all 10.213.0.0/16 trust\n")
    cluster.restart()
    return cluster


@pytest.mark.timeout(180)
async def test_the_other_host_takes_over_and_the_zombie_is_fenced_when_it_is_back(
    host: Host, cluster: Cluster, processes: Processes, tmp_path: Path
) -> None:
    dsn = cluster.dsn(cluster.create_database())
    migrate_database(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create table effects (job bigint, n int)")

    def worker(dsn: str, *prefix: str) -> Process:
        environment = {
            "TEST_DSN": dsn,
            "TEST_EXECUTION": json.dumps(EXECUTION),
            "TEST_GATE": str(tmp_path / "gate"),
        }
        return processes.start(*prefix, sys.executable, WORKER, env=environment)

    far = worker(dsn.replace("127.0.0.1", host.address_here), *host.prefix)
    await far.line("worker ready", within_seconds=40)
    client = process_definitions.make(dsn)
    async with client:
        job = await client.tasks["zombie"].start({"total": 0, "stop_at": 0})
        await far.line("inside")
        near = worker(dsn)
        await near.line("worker ready", within_seconds=40)
        host.part()
        assert await job.result(timeout=60) == 2
        host.heal()
        (tmp_path / "gate").touch()
        await far.line("^LeaseLost in the transaction$", within_seconds=60)
        await far.line("^LeaseLost in persist$", within_seconds=60)
        assert (await job.refresh()).attempt == 2
        assert _effects(dsn) == [(job.id, 2)]
        near.terminate()
        assert await near.end() == 0
        # It registers anew, and takes jobs again.
        assert await (await client.tasks["nothing"].start(7)).result(timeout=60) == 7
        far.terminate()
        assert await far.end(within_seconds=40) == 0
    wait_until(lambda: not _open_transactions(dsn), "nothing is held for the zombie", within_seconds=60)


def _effects(dsn: str) -> list[tuple[int, int]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("select job, n from effects order by n").fetchall()


def _open_transactions(dsn: str) -> int:
    with psycopg.connect(dsn, application_name="looks") as connection:
        [(count,)] = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and xact_start is not null "
            "and application_name <> 'looks'"
        ).fetchall()
        return int(count)
