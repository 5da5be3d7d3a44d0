"""Fault 10: statements fail for others' sake: serialization failures, deadlocks. All invariants.

Some are injected, by a trigger that raises now and then, whatever is written to jobs; some are real, by a session that
takes locks in the opposite order; and the database's default isolation is one in which they come.
"""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from perdure import JobState
from tests.support.tiers import TIER, count, drawn, seeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.scenario import Scenario

pytestmark = pytest.mark.timeout(400)

RAISE = """
    create sequence history.refusals;
    create function history.conflict() returns trigger language plpgsql as $$
    begin
        if random() < {share} then
            perform nextval('history.refusals');
            raise exception 'injected' using errcode = case when random() < 0.5 then '40001' else '40P01' end;
        end if;
        return case when tg_op = 'DELETE' then old else new end;
    end
    $$;
"""
TRIGGERS = (
    (
        "create trigger conflict before insert or update or delete on background_tasks.jobs "
        "for each row execute function history.conflict()"
    ),
    (
        "create trigger conflict before insert on background_tasks.finished_jobs "
        "for each row execute function history.conflict()"
    ),
    (
        "create trigger conflict before insert or update on background_tasks.workers "
        "for each row execute function history.conflict()"
    ),
)
INJECTED, LATE = 20, 3
# All that a caller's own transactions may have; where snapshots are kept they are older than what a worker has written.
ISOLATIONS = ("read committed", "repeatable read", "serializable")
# A handler's transaction is refused again and again: of few retries most jobs would only fail.
SCHEDULING = {"scheduler_retry_count": 30}


@pytest.mark.parametrize("isolation", drawn("isolations", ISOLATIONS[1:], push=1) if TIER == "push" else ISOLATIONS)
@pytest.mark.parametrize("seed", seeds("test_conflicts", push=1, nightly=5))
async def test_conflicts_cost_nothing_but_time(
    migrated_database: str, new_scenario: Callable[..., Scenario], seed: int, isolation: str
) -> None:
    """With events, proceeds, suspensions, cancels, retries: of callers and handlers in every isolation."""
    with psycopg.connect(migrated_database, autocommit=True) as connection:
        name = migrated_database.rpartition("/")[2]
        connection.execute(f"alter database {name} set default_transaction_isolation = '{isolation}'".encode())
        connection.execute(f"alter database {name} set deadlock_timeout = '20ms'".encode())

    async def conflict(struck: Scenario) -> None:
        """Let statements be refused, to the run's end; go on when enough were, and a deadlock has come about."""
        # Before any is injected: what is refused here, perdure has refused.
        late = 0
        while late < LATE:
            late += await struck.clients[0].send_late()
        await asyncio.to_thread(inject, migrated_database, 0.02)
        with opposite_locks(migrated_database, seed) as deadlocks:
            await struck.until(lambda: deadlocks[0] > 0, "no deadlock came about")
            await struck.until(lambda: injected(migrated_database) >= INJECTED, f"not {INJECTED} were refused")
            await struck.until_unanswered(1)
            await struck.until_acknowledged(count(push=20, nightly=200))

    history = await new_scenario(seed, seconds=1.0, scheduling=SCHEDULING).must_hold(first=conflict)
    assert any(move.states[1] is JobState.SUSPENDED for moves in history.moves.values() for move in moves)


def inject(dsn: str, share: float) -> None:
    """Let a share of all writes to jobs, and of renewals, fail."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(RAISE.format(share=share).encode())
        for trigger in TRIGGERS:  # each lock by itself, else this would be a deadlock of its own
            connection.execute(trigger.encode())


def injected(dsn: str) -> int:
    """Count the refusals: a sequence isn't rolled back."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select last_value from history.refusals").fetchone()
        assert row is not None
        return int(row[0])


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
