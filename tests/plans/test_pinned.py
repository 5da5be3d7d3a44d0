"""While somebody holds a snapshot no dead row can be removed: what a live worker has held costs a sweep nothing."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.store.sessions import ISOLATION, PLANNER
from tests.plans.explain import explain
from tests.store.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

_JOBS = 8_000
_HELD = """
    insert into {s}.jobs (
        created_at, scheduled_at, state, worker_id, priority, queue, task, metadata, execution_metadata)
    select now(), now(), 2, %s, 0, 'default', 'task', '{}', '{}' from generate_series(1, %s)
"""


@pytest.fixture
def pinned(migrated_database: str) -> Iterator[Workbench]:
    """A schema with a snapshot held open."""
    with (
        Workbench(migrated_database) as bench,
        psycopg.connect(migrated_database) as pin,
    ):
        pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        pin.execute("select count(*) from pg_class")
        yield bench


def _sweep_blocks(bench: Workbench, *, scans: bool = True) -> int:
    connection = bench.connect()
    for setting, value in (ISOLATION | PLANNER).items():
        connection.execute("select set_config(%s, %s, false)", [setting, value])
    values = {"worker": uuid.uuid4(), "scans": scans, "queues": None}
    explain(connection, bench.names, "sweep", values)  # the catalogue is read by now
    return explain(connection, bench.names, "sweep", values).blocks_hit


def test_a_sweep_doesnt_step_over_what_live_workers_have_held(pinned: Workbench) -> None:
    before = _sweep_blocks(pinned)
    for holder in (pinned.register(), pinned.register()):
        pinned.sql(_HELD, holder, _JOBS)
    pinned.sql("delete from {s}.jobs where id %% 100 <> 0")
    assert _sweep_blocks(pinned) - before < 10


def test_a_sweep_that_doesnt_scan_steps_over_nobodys(pinned: Workbench) -> None:
    before = _sweep_blocks(pinned)
    pinned.sql(_HELD, uuid.uuid4(), _JOBS)
    pinned.sql("delete from {s}.jobs")
    assert _sweep_blocks(pinned) - before > 40
    assert _sweep_blocks(pinned, scans=False) - before < 10
