"""Where looks at everything are dear, they come once a minute: what isn't told of comes to light so late. I8.

As in a database in which somebody holds a snapshot: such a look steps over millions of dead rows. Here the workers only
believe that it does. Whoever comes anew looks at everything, and would hide what the others miss: nobody does here.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.tiers import seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.scenario import Scenario
    from tests.support.scenario.phases import Struck

pytestmark = pytest.mark.timeout(300)


def _dear(_number: int) -> dict[str, str]:
    return {"SCENARIO_DEAR_LOOKS": "1"}


_ENOUGH = 3  # one that was cancelled, or is past its deadline, doesn't go on


async def lose_one(struck: Struck, dsn: str) -> None:
    """SIGKILL to one worker that holds jobs; it is missing from then on."""
    await asyncio.sleep(struck.random.uniform(1.0, 2.0))
    while True:
        await asyncio.sleep(struck.random.uniform(0.05, 0.2))
        worker = struck.crew.pick(struck.random)
        assert worker is not None
        struck.crew.send(worker, signal.SIGSTOP)
        # What it has sent is done by the second look.
        if await _held_by(dsn, worker.pid) >= _ENOUGH:
            await asyncio.sleep(0.2)
            if await _held_by(dsn, worker.pid) >= _ENOUGH:
                struck.crew.lose(worker)
                return
        struck.crew.send(worker, signal.SIGCONT)


async def _held_by(dsn: str, pid: int) -> int:
    query = (
        "select count(*) from background_tasks.jobs join background_tasks.workers on workers.id = worker_id "
        "where pid = %s"
    )
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        [(count,)] = await (await connection.execute(query, [pid])).fetchall()
        return int(count)


async def freeze_over_and_over(struck: Struck) -> None:
    """SIGSTOP to the one worker, for a bit longer than its lease."""
    [worker] = struck.crew.workers
    while True:
        await asyncio.sleep(struck.random.uniform(0.5, 1.5))
        struck.crew.send(worker, signal.SIGSTOP)
        await asyncio.sleep(struck.random.uniform(1.05, 1.3) * struck.lease_seconds)
        struck.crew.send(worker, signal.SIGCONT)


@pytest.mark.parametrize("seed", seeds("a loss where looks are dear", push=1, nightly=10))
async def test_what_a_lost_worker_held_is_found_at_once(
    new_scenario: Callable[..., Scenario], migrated_database: str, seed: int
) -> None:
    scenario = new_scenario(seed, environment=_dear)
    history = await scenario.must_hold(first=lambda struck: lose_one(struck, migrated_database))
    assert any(move.is_rescue for moves in history.moves.values() for move in moves)


@pytest.mark.parametrize("seed", seeds("a freeze where looks are dear", push=1, nightly=10))
async def test_what_a_worker_that_is_back_had_held_is_found_at_once(
    new_scenario: Callable[..., Scenario], seed: int
) -> None:
    history = await new_scenario(seed, workers=1, seconds=8, environment=_dear).must_hold(freeze_over_and_over)
    assert any(move.is_rescue for moves in history.moves.values() for move in moves)
