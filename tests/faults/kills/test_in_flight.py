"""What a worker has sent and never heard of again: it is killed or frozen while the server works on it.

The server is kept from going on by a lock, the test's own; so it writes after its client has died, in time or too late.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import psutil
import psycopg
import pytest

from perdure.core.history import AttemptEnding
from tests.faults.kills.checks import assert_all_is_well, everything_stored
from tests.faults.kills.workshop import Workshop
from tests.support.tiers import drawn, seeds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.faults.kills.workshop import Victim
    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)
_LOOK_SECONDS = 0.01

_ROW = "select from background_tasks.jobs for update"
_TABLE = "lock table background_tasks.jobs in share row exclusive mode"
_WAITS = "exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())"
_SENT = {
    "fence and COMMIT, by the row": ("transaction", "transaction.unsent", _ROW),
    "fence and COMMIT, by the table": ("transaction", "transaction.unsent", _TABLE),
    "fence and COMMIT of a thread": ("thread", "transaction.unsent", _ROW),
    "checkpoint": ("persist", "persist.unsent", _TABLE),
    "result": ("plain", "finish.unsent", _TABLE),
    "retry": ("retries", "release.unsent", _TABLE),
    "suspension": ("suspend", "release.unsent", _TABLE),
}
_FENCES = [sent for sent in _SENT if sent.startswith("fence")]
_OTHERS = [sent for sent in _SENT if sent not in _FENCES]


def _cases() -> list[Any]:
    """On a push a few, among them a COMMIT that must land and one that comes too late."""
    drawings = [
        drawn(f"{kind}, {when}", [(sent, fate, when) for sent in sents for fate in ("killed", "frozen")], push=push)
        for kind, sents in (("fences", _FENCES), ("others", _OTHERS))
        for when, push in (("in time", 1), ("too late", 1))
    ]
    return [(*case, seed) for cases in drawings for case in cases for seed in seeds("in flight", push=1, nightly=3)]


@pytest.mark.parametrize(("sent", "fate", "when", "seed"), _cases())
async def test_what_was_sent_lands_in_time_or_never(
    migrated_database: str,
    processes: Processes,
    sent: str,
    fate: Literal["killed", "frozen"],
    when: Literal["in time", "too late"],
    seed: int,
) -> None:
    kind, point, lock = _SENT[sent]
    async with Workshop(migrated_database, processes, seed) as workshop:
        await workshop.start(kind, [0.0] if kind == "plain" else [None])
        victim = workshop.victim(point, "stop", nth=1)
        await workshop.until_hit([victim], ())
        held = await workshop.rows("select attempt, checkpoint, execution_metadata from jobs")
        async with _locked(migrated_database, lock):
            victim.process.thaw()
            await workshop.until(_WAITS)
            await _until_it_rests(victim)
            if fate == "killed":
                victim.process.kill()
            else:
                victim.process.freeze()
            if when == "too late":
                await _let_the_lease_end(workshop, lock)
        await workshop.until(f"not {_WAITS}")
        await workshop.finish()
        await assert_all_is_well(workshop)
        if sent.startswith("fence"):  # whose COMMIT is in the same message, so it has certainly been sent
            by = await workshop.rows("select attempt from effects where n = 0")
            # What waits for the row may land late, for nobody can have had the job meanwhile.
            assert by in _allowed(when, lock)
        if when == "too late" and lock is _TABLE:
            await _assert_it_never_landed(workshop, held)
        if fate == "frozen":
            before = await everything_stored(workshop, workshop.ids)
            victim.process.thaw()
            await workshop.leave(victim)
            assert await everything_stored(workshop, workshop.ids) == before


async def _until_it_rests(victim: Victim) -> None:
    """Until it has sent what it has to send: behind the statement that waits, the end of its transaction."""
    process = psutil.Process(victim.process.pid)
    async with asyncio.timeout(90):
        while process.status() == psutil.STATUS_RUNNING:  # noqa: ASYNC110 - of another process, which tells nobody
            await asyncio.sleep(_LOOK_SECONDS)


async def _let_the_lease_end(workshop: Workshop, lock: str) -> None:
    if lock is _TABLE:
        # Now: at its own time the server ends a transaction that has lasted for as long, and with it what was sent.
        await workshop.table.execute("update workers set lease_until = clock_timestamp()")
    await workshop.until("not exists (select from workers where lease_until > clock_timestamp())")


async def _assert_it_never_landed(workshop: Workshop, held: list[tuple[Any, ...]]) -> None:
    """The first attempt was lost with all that it held when it sent the write, and another has ended the job."""
    ((number, ending), *_) = await workshop.rows("select attempt, ending from attempts order by attempt")
    assert (number, ending) == (1, AttemptEnding.LAPSED.code)
    (lost, *_) = [image for image in workshop.history().images if image.rescued]
    assert [(lost.attempt, lost.checkpoint, lost.place or None)] == held
    assert await workshop.rows("select from finished_jobs where attempt > 1")


@asynccontextmanager
async def _locked(dsn: str, lock: str) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(lock.encode())
        yield
        await connection.rollback()


def _allowed(when: str, lock: str) -> Sequence[list[tuple[int]]]:
    """Say which attempt may have written the first row, which was sent by the first."""
    if when == "in time":
        return [[(1,)]]
    return [[(2,)]] if lock is _TABLE else [[(1,)], [(2,)]]
