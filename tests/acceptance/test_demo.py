"""`perdure demo`: real faults, survived, and counted by a verdict that can be `NO`; and it never leaves a process."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure.demo.faults import Kind, plan_faults

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes

# The work is real: on a busy machine it takes its time.
pytestmark = pytest.mark.timeout(300)
_LONG = 150.0


def seed_that_begins_with(kind: Kind, faults: int) -> int:
    return next(seed for seed in range(100) if plan_faults(random.Random(seed), faults, 1000)[0].kind is kind)


def start_demo(processes: Processes, dsn: str, *, seed: int, faults: int) -> Process:
    arguments = ["--plain", "--seed", str(seed), "--faults", str(faults)]
    return processes.perdure("demo", *arguments, env={"PERDURE_DSN": dsn})


def interrupt(demo: Process) -> None:
    demo.send(signal.SIGINT)
    assert demo.wait(within_seconds=_LONG) == 1, demo.output
    assert "Traceback" not in demo.output
    demo.assert_no_child_left()


def schemas(dsn: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        query = "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)' order by 1"
        return [row[0] for row in connection.execute(query)]


def test_every_kind_of_fault_is_survived_exactly_once(migrated_database: str, processes: Processes) -> None:
    before = schemas(migrated_database)
    demo = start_demo(processes, migrated_database, seed=7, faults=3)
    assert demo.wait(within_seconds=_LONG) == 0, demo.output
    lines = demo.output.splitlines()
    assert lines[-1] == "exactly once: yes"
    for struck in ("SIGTERM stops", "SIGKILL kills", "SIGSTOP freezes"):
        assert sum(struck in line for line in lines) == 1, demo.output
    assert sum(" goes on after " in line for line in lines) == 3, demo.output
    assert sum("wants to write" in line and "LeaseLost" in line for line in lines) == 1, demo.output
    assert any("3 survived" in line for line in lines), demo.output
    demo.assert_no_child_left()
    assert schemas(migrated_database) == before


def test_a_changed_table_is_told_and_kept(database: str, processes: Processes) -> None:
    demo = start_demo(processes, database, seed=seed_that_begins_with(Kind.STOP, 1), faults=1)
    demo.wait_for_line("goes on after", within_seconds=_LONG)
    with psycopg.connect(database, autocommit=True) as connection:
        first = "(select min(path) from perdure_demo_library.modules)"
        connection.execute(f"delete from perdure_demo_library.names where path = {first}")
        connection.execute(
            "insert into perdure_demo_library.modules select * from perdure_demo_library.modules limit 1"
        )
    assert demo.wait(within_seconds=_LONG) == 1, demo.output
    assert demo.output.splitlines()[-1] == "exactly once: NO"
    assert "modules: 1 row is there once too often" in demo.output
    assert "names: " in demo.output
    demo.assert_no_child_left()
    assert schemas(database) == ["perdure_demo", "perdure_demo_library", "public"]


def test_ctrl_c_ends_a_frozen_worker_too(database: str, processes: Processes) -> None:
    demo = start_demo(processes, database, seed=seed_that_begins_with(Kind.FREEZE, 3), faults=3)
    demo.wait_for_line("SIGSTOP freezes", within_seconds=_LONG)
    interrupt(demo)
    assert schemas(database) == ["public"]


def test_a_killed_demo_takes_its_workers_with_it_the_frozen_one_too(database: str, processes: Processes) -> None:
    demo = start_demo(processes, database, seed=seed_that_begins_with(Kind.FREEZE, 3), faults=3)
    demo.wait_for_line("SIGSTOP freezes", within_seconds=_LONG)
    assert len(demo.family()) >= 3
    demo.kill()
    demo.assert_no_child_left(within_seconds=20)
    # What it has left in the database doesn't disturb the next one.
    again = start_demo(processes, database, seed=1, faults=0)
    again.wait_for_line(r"[1-9]\d* of \d+ modules", within_seconds=_LONG)
    interrupt(again)


def test_two_demos_at_once_in_one_database_are_refused(database: str, processes: Processes) -> None:
    first = start_demo(processes, database, seed=1, faults=0)
    first.wait_for_line("begins", within_seconds=_LONG)
    second = start_demo(processes, database, seed=1, faults=0)
    assert second.wait(within_seconds=_LONG) == 1
    assert "another demo is running in this database" in second.output
    assert first.is_running
    interrupt(first)
