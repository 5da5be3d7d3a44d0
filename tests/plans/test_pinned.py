"""While somebody holds a snapshot no dead row can be removed: what is known to be dead costs no sweep and no claim."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.store import claims
from perdure.store.claims import EVERYWHERE, Band, Front
from perdure.store.sessions import ISOLATION, PLANNER
from perdure.worker.floors import Floors
from tests.plans.explain import explain
from tests.store.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


_DONE = """
    insert into {s}.jobs (created_at, scheduled_at, state, priority, queue, task, metadata, execution_metadata)
    select now() - interval '1 min', now() - interval '1 min', 0, 0, 'default', 'task', '{}', '{}'
    from generate_series(1, %s)
"""


def _blocks(bench: Workbench, statement: str, values: Mapping[str, object]) -> int:
    connection = bench.connect()
    for setting, value in (ISOLATION | PLANNER).items():
        connection.execute("select set_config(%s, %s, false)", [setting, value])
    explain(connection, bench.names, statement, values)  # the catalogue is read by now
    return explain(connection, bench.names, statement, values).blocks_hit


def _sweep_blocks(bench: Workbench, *, scans: bool = True) -> int:
    return _blocks(bench, "sweep", {"worker": uuid.uuid4(), "scans": scans, "queues": None})


def _claim_blocks(bench: Workbench, worker: uuid.UUID, front: Front) -> dict[str, int]:
    """Return what claims cost that begin there: from all bands, and from the only one."""
    at_seconds = front.others_at_seconds
    nowhere = {"floor_queues": [], "floor_priorities": [], "floor_ats": [], "floor_ids": []}
    band = {"queue": "default", "priority": 0, "floor_at": at_seconds, "floor_id": 0}
    values = {"worker": worker, "want": 10, "queues": None}
    return {
        "claim": _blocks(bench, "claim", {**values, **nowhere, "others_at": at_seconds}),
        "claim_band": _blocks(bench, "claim_band", {**values, **band}),
    }


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


def test_a_claim_of_a_worker_that_has_claimed_nothing_steps_over_nothing_that_was_dead_when_it_looked_everywhere(
    pinned: Workbench,
) -> None:
    worker = pinned.register()
    before = _claim_blocks(pinned, worker, EVERYWHERE)
    pinned.sql("insert into {s}.bands values ('default', 0)")
    pinned.sql(_DONE, _JOBS)
    pinned.sql("delete from {s}.jobs")
    found = pinned.run(claims.claim_band(pinned.names, worker, want=10, queues=None, band=Band("default", 0)))
    assert (found.jobs, found.left_out) == ([], False)
    floors = Floors()
    floors.took_all(found.asked_at_seconds)
    floors.choose(0.0, may_look_everywhere=True)
    after = _claim_blocks(pinned, worker, floors.choose(0.0, may_look_everywhere=True))
    everywhere = _claim_blocks(pinned, worker, EVERYWHERE)
    for statement, blocks in before.items():
        assert after[statement] - blocks < 10
        assert everywhere[statement] - blocks > 40
