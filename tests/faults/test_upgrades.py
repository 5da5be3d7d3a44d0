"""Fault 18: two versions at once, while the schema is brought from the one to the other. All invariants.

The next version is made for this: this one, with a migration more.

| | schema of this version | schema of the next |
|---|---|---|
| worker of this version | as always | starts; one that has started goes on, through the migration too |
| worker of the next | says what is missing, and ends | works |
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.version import __version__
from tests.support.migrated import migrate_database
from tests.support.scenario import Scenario
from tests.support.tiers import count, seeds
from tests.support.versions import NEXT_VERSION, make_next_version
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster import Cluster
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(process_definitions.__file__).with_name("process_app.py"))
MAIN = "from perdure.cli import main; main()"


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that uses the next version."""
    return {"PYTHONPATH": f"{make_next_version(tmp_path_factory.mktemp('versions'))}:{ROOT}"}


@pytest.mark.parametrize("seed", seeds("test_upgrades", push=1, nightly=6))
async def test_workers_of_both_versions_work_while_the_schema_goes_from_one_to_the_other(
    migrated_database: str,
    processes: Processes,
    new_scenario: Callable[..., Scenario],
    next_version: dict[str, str],
    seed: int,
) -> None:
    versions: list[dict[str, str]] = []  # of the next workers to be started, the last first; then those of this version

    async def upgrade(struck: Scenario) -> None:
        too_new = start_worker(processes, migrated_database, next_version)
        await too_new.line("_next: run `perdure migrate`", within_seconds=60)
        assert await too_new.end() == 1
        await struck.until_acknowledged(10 + seed % 20)
        migrator = migrate(processes, migrated_database, next_version)
        assert await migrator.end(within_seconds=120) == 0, migrator.output
        await until_ended_by(struck, __version__)  # through the migration, too
        # One is replaced by the next version, one by this version, which starts on the newer schema.
        for worker, version in zip(struck.crew.workers[:2], ({}, next_version), strict=True):
            versions.append(version)
            struck.crew.send(worker, signal.SIGTERM)
            assert await worker.end(within_seconds=60) == 0
        await until_ended_by(struck, NEXT_VERSION)
        await until_ended_by(struck, __version__)
        await struck.until_acknowledged(count(push=10, nightly=200))

    scenario = new_scenario(seed, seconds=1.0, environment=lambda _number: versions.pop() if versions else {})
    await scenario.must_hold(first=upgrade)


async def test_a_server_that_is_killed_in_the_midst_of_a_migration_has_all_of_it_or_nothing(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, next_version: dict[str, str]
) -> None:
    cluster = new_cluster()
    database = cluster.create_database()
    dsn = cluster.dsn(database)
    migrate_database(dsn)
    (folder := tmp_path / "history").mkdir()

    async def break_off(struck: Scenario) -> None:
        await struck.until_acknowledged(10)
        migrator = migrate(processes, dsn, {**next_version, "PERDURE_FAILPOINTS": "migration.uncommitted=stop"})
        await migrator.line("failpoint migration.uncommitted: stop", within_seconds=120)
        await asyncio.to_thread(cluster.kill)
        await asyncio.to_thread(cluster.start)
        migrator.kill()
        assert len(ledger(dsn)) == 1
        await struck.until_acknowledged(20)
        migrator = migrate(processes, dsn, next_version)
        assert await migrator.end(within_seconds=120) == 0, migrator.output
        assert len(ledger(dsn)) == 2
        await struck.until_acknowledged(20)

    [seed] = seeds("test_upgrades_broken_off", push=1, nightly=1)
    await Scenario(dsn, folder, processes, seed=seed, workers=1, seconds=1.0).must_hold(first=break_off)


def start_worker(processes: Processes, dsn: str, version: dict[str, str]) -> Process:
    environment = {"TEST_DSN": dsn, "TEST_GATE": "", **version}
    return processes.python(SCRIPT, env=environment)


async def until_ended_by(struck: Scenario, version: str) -> None:
    """Wait until a worker of this version ends a job that was stored after this."""
    newest = ask(struck.dsn, "select max(id) from background_tasks.all_jobs")[0]
    query = (
        "select count(*) from background_tasks.finished_jobs join background_tasks.workers on workers.id = worker_id "
        f"where workers.version = '{version}' and finished_jobs.id > {newest}"
    )
    await struck.until(lambda: ask(struck.dsn, query)[0] > 0, f"no worker of {version} has ended a job")


def migrate(processes: Processes, dsn: str, version: dict[str, str]) -> Process:
    return processes.python("-c", MAIN, "migrate", "--dsn", dsn, env=version)


def ledger(dsn: str) -> list[int]:
    return ask(dsn, "select number from background_tasks.migrations")


def ask(dsn: str, query: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [number for (number,) in connection.execute(query.encode())]
