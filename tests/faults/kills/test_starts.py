"""Starters of many jobs that are killed or frozen between, before and after their batches."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.faults.kills.starter import TOTAL
from tests.support.tiers import drawn, seeds
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes

pytestmark = pytest.mark.timeout(400)
_ROOT = Path(__file__).parents[3]
_BATCH = 1_000
_WAYS = ("async", "blocking", "in a transaction")
_KILLED = [(way, point) for way in _WAYS for point in ("batch.unsent", "batch.committed")]


def _start(processes: Processes, dsn: str, way: str, failpoint: str) -> Process:
    environment = {"TEST_DSN": dsn, "PERDURE_FAILPOINTS": failpoint}
    return processes.python("-m", "tests.faults.kills.starter", way, env=environment, cwd=_ROOT)


def _stored(dsn: str) -> list[float]:
    with psycopg.connect(dsn) as connection:
        return [n for (n,) in connection.execute("select metadata::float8 from background_tasks.jobs order by id")]


def _told(process: Process) -> int:
    return sum(line.startswith("stored 1000: ") for line in process.output.splitlines()) * _BATCH


@pytest.mark.parametrize(("way", "point"), drawn("starter killed", _KILLED, push=2))
@pytest.mark.parametrize("seed", seeds("starter killed", push=1, nightly=5))
def test_of_a_killed_starter_whole_batches_are_stored_in_order_and_nothing_that_was_told_is_lost(
    migrated_database: str, processes: Processes, way: str, point: str, seed: int
) -> None:
    nth = random.Random(f"{seed} {way} {point}").randint(1, TOTAL // _BATCH)
    process = _start(processes, migrated_database, way, f"{point}=kill@{nth}")
    assert process.wait(within_seconds=120) == -9
    sent = nth if point == "batch.committed" else nth - 1
    expected = 0 if way == "in a transaction" else sent * _BATCH
    assert _stored(migrated_database) == [float(n) for n in range(expected)]
    assert _told(process) == (nth - 1) * _BATCH


@pytest.mark.parametrize("way", drawn("starter frozen", _WAYS, push=1))
@pytest.mark.parametrize("seed", seeds("starter frozen", push=1, nightly=3))
def test_a_frozen_starter_goes_on_where_it_was(
    migrated_database: str, processes: Processes, way: str, seed: int
) -> None:
    source = random.Random(f"{seed} {way}")
    nth, point = source.randint(1, TOTAL // _BATCH), source.choice(["batch.unsent", "batch.committed"])
    process = _start(processes, migrated_database, way, f"{point}=stop@{nth}")
    process.wait_until_frozen(within_seconds=120)
    process.thaw()
    assert process.wait(within_seconds=120) == 0
    assert _stored(migrated_database) == [float(n) for n in range(TOTAL)]
    assert _told(process) == TOTAL


@pytest.mark.parametrize("way", drawn("starter in flight", ["async", "blocking"], push=1))
@pytest.mark.parametrize("seed", seeds("starter in flight", push=1, nightly=3))
def test_a_batch_that_was_under_way_when_its_starter_died_is_stored_wholly(
    migrated_database: str, processes: Processes, way: str, seed: int
) -> None:
    # Not the first one: its statement is prepared before it is sent, and that would wait for the lock.
    nth = random.Random(f"{seed} {way}").randint(2, TOTAL // _BATCH)
    process = _start(processes, migrated_database, way, f"batch.unsent=stop@{nth}")
    process.wait_until_frozen(within_seconds=120)
    with psycopg.connect(migrated_database) as locking, psycopg.connect(migrated_database, autocommit=True) as looking:
        locking.execute("lock table background_tasks.jobs in share row exclusive mode")
        process.thaw()
        waits = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        wait_until(lambda: looking.execute(waits).fetchone() is not None, "the batch isn't under way")
        process.kill()
        locking.rollback()
        wait_until(lambda: looking.execute(waits).fetchone() is None, "the batch isn't done")
        there = "select from pg_stat_activity where application_name = 'perdure' and datname = current_database()"
        wait_until(lambda: looking.execute(there).fetchone() is None, "its session is still there")
    assert _stored(migrated_database) == [float(n) for n in range(nth * _BATCH)]
