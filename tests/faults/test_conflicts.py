"""Fault 10: statements fail for others' sake: serialization failures, deadlocks. I1 to I5, I8.

Some are injected, by a trigger that raises now and then, whatever is written to jobs; some are real, by a session that
takes locks in the opposite order; and the database's default isolation is one in which they come.
"""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.load import Load
from tests.support.tiers import TIER, count, seeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)

RAISE = """
    create function history.conflict() returns trigger language plpgsql as $$
    begin
        if random() < {share} then
            raise exception 'injected' using errcode = case when random() < 0.5 then '40001' else '40P01' end;
        end if;
        return case when tg_op = 'DELETE' then old else new end;
    end
    $$;
    create trigger conflict before insert or update or delete on background_tasks.jobs
        for each row execute function history.conflict();
    create trigger conflict before insert on background_tasks.finished_jobs
        for each row execute function history.conflict();
    create trigger conflict before insert or update on background_tasks.workers
        for each row execute function history.conflict();
"""
ISOLATIONS = ("serializable",) if TIER == "push" else ("read committed", "repeatable read", "serializable")


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("seed", seeds("test_conflicts", push=1, nightly=5))
async def test_conflicts_cost_nothing_but_time(
    migrated_database: str, processes: Processes, tmp_path: Path, seed: int, isolation: str
) -> None:
    load = Load(migrated_database, tmp_path, processes)
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        name = migrated_database.rpartition("/")[2]
        connection.execute(f"alter database {name} set default_transaction_isolation = '{isolation}'".encode())
        connection.execute(f"alter database {name} set deadlock_timeout = '20ms'".encode())
        connection.execute(RAISE.format(share=0.02).encode())
        for _ in range(2):
            load.start_worker()
        with opposite_locks(migrated_database, seed) as deadlocks:
            async with load.starting():
                await load.until_acknowledged(count(push=100, nightly=600))
                await load.until(lambda: deadlocks[0] > 0, "no deadlock came about")
                await load.until(lambda: load.refused > 0, "the trigger has refused no start")
        await load.rest()
        assert await load.violations() == []


@contextmanager
def opposite_locks(dsn: str, seed: int) -> Iterator[list[int]]:
    """Lock a job's row and then the handlers' table, as often as can be: handlers do it the other way round.

    Gives the number of deadlocks of which this session was the victim.
    """
    over, deadlocks, source = threading.Event(), [0], random.Random(seed)

    def lock() -> None:
        with psycopg.connect(dsn) as connection:
            while not over.wait(source.uniform(0, 0.05)):
                try:
                    connection.execute("set transaction isolation level read committed")
                    connection.execute(
                        "select from background_tasks.jobs where state = 2 order by random() limit 3 for update"
                    )
                    connection.execute("lock table history.effects in share row exclusive mode")
                except psycopg.errors.DeadlockDetected:
                    deadlocks[0] += 1
                finally:
                    connection.rollback()

    thread = threading.Thread(target=lock, name="opposite locks")
    thread.start()
    try:
        yield deadlocks
    finally:
        over.set()
        thread.join()
