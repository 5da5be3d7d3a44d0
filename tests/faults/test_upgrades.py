"""Fault 18: two versions at once, while the schema is brought from the one to the other. All invariants.

The next version is made for this: this one, with a migration more.

| | schema of this version | schema of the next |
|---|---|---|
| worker of this version | as always | starts; one that has started goes on, through the migration too |
| worker of the next | says what is missing, and ends | works |
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.version import __version__
from tests.support.load import Load
from tests.support.migrated import migrate_database
from tests.support.tiers import count, seeds
from tests.support.versions import NEXT_VERSION, make_next_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
MAIN = "from perdure.cli import main; main()"


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that uses the next version."""
    return {"PYTHONPATH": f"{make_next_version(tmp_path_factory.mktemp('versions'))}:{ROOT}"}


@pytest.mark.parametrize("seed", seeds("test_upgrades", push=1, nightly=6))
async def test_workers_of_both_versions_work_while_the_schema_goes_from_one_to_the_other(
    migrated_database: str, processes: Processes, tmp_path: Path, next_version: dict[str, str], seed: int
) -> None:
    load = Load(migrated_database, tmp_path, processes)
    old = load.start_worker()
    too_new = start_worker(processes, migrated_database, tmp_path, next_version)
    await too_new.line("_next: run `perdure migrate`", within_seconds=60)
    assert await too_new.end() == 1
    async with load.starting():
        await load.until_acknowledged(20 + seed % 50)
        migrator = migrate(processes, migrated_database, next_version)
        assert await migrator.end(within_seconds=120) == 0, migrator.output
        await load.until_acknowledged(count(push=20, nightly=200))
        load.start_worker()
        load.start_worker(env=next_version)
        await load.until_acknowledged(count(push=20, nightly=200))
        assert versions(migrated_database) == {__version__, NEXT_VERSION}
        old.terminate()
        assert await old.end(within_seconds=60) == 0
        await load.until_acknowledged(20)
    await load.rest()
    assert await load.violations() == []


async def test_a_server_that_is_killed_in_the_midst_of_a_migration_has_all_of_it_or_nothing(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, next_version: dict[str, str]
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    dsn = cluster.dsn(database)
    migrate_database(dsn)
    load = Load(dsn, tmp_path, processes)
    load.start_worker()
    async with load.starting():
        await load.until_acknowledged(10)
        migrator = migrate(processes, dsn, {**next_version, "PERDURE_FAILPOINTS": "migration.uncommitted=stop"})
        await migrator.line("failpoint migration.uncommitted: stop", within_seconds=120)
        cluster.kill()
        cluster.start()
        migrator.kill()
        assert len(ledger(dsn)) == 1
        await load.until_acknowledged(20)
        migrator = migrate(processes, dsn, next_version)
        assert await migrator.end(within_seconds=120) == 0, migrator.output
        assert len(ledger(dsn)) == 2
        await load.until_acknowledged(20)
    await load.rest()
    assert await load.violations() == []


def start_worker(processes: Processes, dsn: str, folder: Path, version: dict[str, str]) -> Process:
    environment = {"TEST_DSN": dsn, "TEST_HISTORY": str(folder), **version}
    return processes.python("-m", "tests.support.load_app", env=environment)


def migrate(processes: Processes, dsn: str, version: dict[str, str]) -> Process:
    return processes.python("-c", MAIN, "migrate", "--dsn", dsn, env=version)


def versions(dsn: str) -> set[str]:
    """Return the versions of the workers whose leases are valid."""
    query = "select version from background_tasks.workers where lapsed_at is null and lease_until > clock_timestamp()"
    with psycopg.connect(dsn) as connection:
        return {version for (version,) in connection.execute(query)}


def ledger(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [number for (number,) in connection.execute("select number from background_tasks.migrations")]
