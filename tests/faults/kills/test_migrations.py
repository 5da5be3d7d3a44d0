"""Migrators that are killed or frozen: the next one finds whole steps, and does the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from perdure.store.migrate import migrations
from tests.support.tiers import drawn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)
_STEPS = range(1, len(migrations()) + 1)
_POINTS = [(point, step) for point in ("migration.uncommitted", "migration.committed") for step in _STEPS]
_SCHEMA = """
    select 'column', table_name::text, column_name::text, data_type::text, column_default::text
    from information_schema.columns where table_schema = 'background_tasks'
    union all
    select 'index', tablename::text, indexname::text, indexdef, null
    from pg_indexes where schemaname = 'background_tasks'
    union all
    select 'function', proname::text, prosrc, null, null
    from pg_proc where pronamespace = 'background_tasks'::regnamespace
    union all
    select 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), null
    from pg_constraint where connamespace = 'background_tasks'::regnamespace
    union all
    select 'migration', name, checksum, number::text, null from background_tasks.migrations
    order by 1, 2, 3, 4, 5
"""


def _migrate(processes: Processes, dsn: str, failpoint: str = "") -> Process:
    environment = {"PERDURE_DSN": dsn} | ({"PERDURE_FAILPOINTS": failpoint} if failpoint else {})
    return processes.perdure("migrate", env=environment)


def _schema(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(_SCHEMA).fetchall()


def _applied(dsn: str) -> int | None:
    """Count the migrations that are applied; None without a ledger."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("select to_regclass('background_tasks.migrations')").fetchone() == (None,):
            return None
        row = connection.execute("select count(*) from background_tasks.migrations").fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize(("point", "step"), drawn("migrators killed", _POINTS, push=2))
def test_after_a_killed_migrator_the_next_finds_whole_steps_and_does_the_rest(
    database: str, migrated_database: str, processes: Processes, point: str, step: int
) -> None:
    killed = _migrate(processes, database, f"{point}=kill@{step}")
    assert killed.wait(within_seconds=60) == -9
    done = step if point == "migration.committed" else step - 1
    assert _applied(database) == (done or None)  # the ledger comes with the first migration
    following = _migrate(processes, database)
    assert following.wait(within_seconds=60) == 0
    assert _schema(database) == _schema(migrated_database)


@pytest.mark.parametrize(("point", "step"), drawn("migrators frozen", _POINTS, push=1))
def test_beside_a_frozen_migrator_the_other_waits_or_goes_on_and_both_end_well(
    database: str, migrated_database: str, processes: Processes, point: str, step: int
) -> None:
    frozen = _migrate(processes, database, f"{point}=stop@{step}")
    frozen.wait_until_frozen(within_seconds=60)
    other = _migrate(processes, database)
    if point == "migration.committed":
        assert other.wait(within_seconds=60) == 0
    else:
        _wait_for_the_lock(database)
    frozen.thaw()
    assert frozen.wait(within_seconds=60) == 0
    assert other.wait(within_seconds=60) == 0
    assert _schema(database) == _schema(migrated_database)


def _wait_for_the_lock(dsn: str) -> None:
    waits = "select from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
    with psycopg.connect(dsn, autocommit=True) as connection:
        wait_until(lambda: connection.execute(waits).fetchone() is not None, "the other migrator doesn't wait")
