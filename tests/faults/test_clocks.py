"""Fault 9: clocks that are wrong, and clocks that are set. Only the database's decides what is due and what has lapsed.

I4 and I8: nothing begins before it is due, nothing is stuck, and a lease is never longer than it lasts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from perdure import App, Context, JobFailed, JobState, Raised, Suspended
from tests.faults import clock_client
from tests.support.clocks import ServerClock, off_by
from tests.support.history import read_folder
from tests.support.history.lines import Began
from tests.support.jobs import job_until
from tests.support.migrated import migrate_database
from tests.support.scenario import Scenario, faults
from tests.support.tiers import TIER, count, seeds
from tests.worker import process_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster
    from tests.support.history import History
    from tests.support.processes import Processes

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(process_definitions.__file__).with_name("process_app.py"))
SAY_THE_TIME_AND_RUN = """
import runpy, sys, time
print("it is", time.time(), flush=True)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LATE_SECONDS = 3600.0  # less than a clock is wrong, more than a busy machine takes
CLAIMABLE = {JobState.PENDING, JobState.RETRYING, JobState.PROCEEDED, JobState.SUSPENDED}


def begun_early(history: History) -> Iterator[str]:
    """Find attempts that began before their job was due, or long after, by the database's clock."""
    for job, moves in history.moves.items():
        for before, after in moves:
            if before is None or after is None or before.state not in CLAIMABLE or after.state is not JobState.RUNNING:
                continue
            if before.due is None or after.at < before.due:
                yield f"job {job} began at {after.at}, and was due at {before.due}"
            elif after.at - before.due > LATE_SECONDS:
                yield f"job {job} began {after.at - before.due} s after it was due"


def is_off(said_at: float, offset: timedelta, *, then: float | None = None) -> bool:
    """Whether a process that has said what time it is (`then`; else: just now) has a clock that is wrong by so much."""
    return abs(said_at - (time.time() if then is None else then) - offset.total_seconds()) < LATE_SECONDS


# --- a worker's clock ---


def begun_by(folder: Path) -> set[int]:
    """Tell which processes have begun a handler."""
    return {line.pid for lines in read_folder(folder).values() for line in lines if isinstance(line, Began)}


def clocks_seen(history: History) -> set[timedelta | None]:
    """Tell by how much the clocks were wrong by which handlers noted their beginning; None: by anything else.

    The attempt was claimed just before, by the database's clock.
    """
    seen: set[timedelta | None] = set()
    for job, moves in history.moves.items():
        for _, after in moves:
            if after is None or after.state is not JobState.RUNNING:
                continue
            for line in history.began.get((job, after.attempt), []):
                seen.add(next((offset for offset in (DAY, -DAY) if is_off(line.at, offset, then=after.at)), None))
    return seen


def set_early(history: History) -> Iterator[str]:
    """Find naps and sleeps whose end isn't as far away as they last, by the database's clock."""
    for job, moves in history.moves.items():
        for before, after in moves:
            if before is None or after is None or (before.state, after.state) != (JobState.RUNNING, JobState.SUSPENDED):
                continue
            if after.due is not None and abs(after.due - after.at) > LATE_SECONDS:
                yield f"job {job} sleeps at {after.at} until {after.due}"


def sleepers(history: History) -> set[bool]:
    """Tell which kinds of waiting for a time there were: `ctx.sleep` (True), `Suspended(until=…)` (False)."""
    afters = [after for moves in history.moves.values() for _, after in moves if after is not None]
    return {after.asleep for after in afters if after.state is JobState.SUSPENDED and after.due is not None}


@pytest.mark.parametrize("seed", seeds("test_clocks_of_workers", push=1, nightly=6))
async def test_workers_whose_clocks_are_days_off_do_all_in_time(
    new_scenario: Callable[..., Scenario], tmp_path: Path, seed: int
) -> None:
    """All that a scenario does, of workers that are a day ahead and a day behind: naps, sleeps, retries, deadlines."""
    clocks = [off_by(DAY), off_by(-DAY)]

    async def kill_one(struck: Scenario) -> None:
        await struck.clients[0].start(count(push=5, nightly=20), acts=["sleep", "nap"], threaded=False)
        await struck.until_acknowledged(count(push=15, nightly=100))
        both = {worker.pid for worker in struck.crew.workers}
        await struck.until(lambda: both <= begun_by(tmp_path), f"not both of {both} have begun something")
        await faults.kill_a_holder(struck)
        await struck.until_acknowledged(count(push=15, nightly=100))
        # A lease that is renewed by a clock that is wrong all the time is kept; under load one may be lost.
        assert all(worker.output.count("has lost its lease") <= 2 for worker in struck.crew.workers)

    scenario = new_scenario(seed, workers=2, seconds=1.0, environment=lambda number: clocks[(seed + number) % 2])
    history = await scenario.must_hold(first=kill_one)
    assert [*begun_early(history), *set_early(history)] == []
    assert sleepers(history) == {True, False}
    assert clocks_seen(history) == {DAY, -DAY}


@pytest.mark.parametrize("offset", [DAY] if TIER == "push" else [DAY, -DAY], ids=lambda offset: f"{offset.days} d")
async def test_a_deadline_is_told_by_the_databases_clock(
    migrated_database: str, processes: Processes, offset: timedelta
) -> None:
    environment = {
        "TEST_DSN": migrated_database,
        "TEST_EXECUTION": json.dumps({"lease_duration": 3, "shutdown_grace": 0, "cancel_grace": 1}),
        "TEST_GATE": "",
        **off_by(offset),
    }
    worker = processes.python("-c", SAY_THE_TIME_AND_RUN, SCRIPT, env=environment)
    said = await worker.line(r"^it is ([\d.]+)$", within_seconds=60)
    assert is_off(float(said[1]), offset)
    await worker.line("worker ready", within_seconds=60)
    async with process_definitions.make(migrated_database) as client:
        sleepy = client.tasks["sleepy"]
        hours = await sleepy.start(None, deadline=2 * HOUR)
        soon = await sleepy.start(None, deadline=timedelta(seconds=3))
        for _ in range(2):
            await worker.line("sleepy")
        with pytest.raises(JobFailed):
            await soon.result(timeout=30)
        await soon.refresh()
        assert isinstance(soon.error, Raised)
        assert soon.error.type == "perdure.errors.DeadlineExceeded"
        await hours.refresh()
        assert hours.state is JobState.RUNNING
    worker.terminate()
    assert await worker.end() == 0


# --- a client's clock ---


@pytest.mark.parametrize("offset", [DAY] if TIER == "push" else [DAY, -DAY], ids=lambda offset: f"{offset.days} d")
async def test_a_duration_is_added_to_the_databases_clock(
    migrated_database: str, processes: Processes, offset: timedelta
) -> None:
    app = App(migrated_database, scheduling={"polling_delay": 0.1})
    task = clock_client.define(app)
    async with app, app.worker():
        suspended = await task.start(0)
        await job_until(suspended, lambda job: job.state is JobState.SUSPENDED)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "TEST_DSN": migrated_database,
        "TEST_SUSPENDED": str(suspended.id),
        **off_by(offset),
    }
    client = processes.python("-m", "tests.faults.clock_client", env=environment)
    said = await client.line("^{.*}$", within_seconds=60)
    assert await client.end() == 0
    answer = json.loads(said[0])
    assert is_off(answer["now"], offset)
    query = (
        "select extract(epoch from scheduled_at - clock_timestamp())::float8, "
        "extract(epoch from deadline_at - scheduled_at)::float8 from background_tasks.jobs where id = %s"
    )
    with psycopg.connect(migrated_database) as connection:
        for verb, job in answer["jobs"].items():
            [(due_seconds, deadline_seconds)] = connection.execute(query.encode(), [job]).fetchall()
            after_seconds = clock_client.AFTER.total_seconds()
            assert after_seconds - LATE_SECONDS < due_seconds <= after_seconds, verb
            assert verb == "proceed" or deadline_seconds == clock_client.DEADLINE.total_seconds(), verb


# --- the database's clock ---


@pytest.mark.parametrize("seed", seeds("test_clock_of_the_database", push=1, nightly=6))
async def test_a_database_whose_clock_is_set_an_hour_on_and_back_loses_nothing_and_holds_up_nobody_for_long(
    new_cluster: Callable[..., Cluster], processes: Processes, tmp_path: Path, seed: int
) -> None:
    cluster = new_cluster()
    clock = ServerClock(cluster, cluster.folder)
    database = cluster.create_database()
    migrate_database(cluster.dsn(database))
    dsn = cluster.dsn(database)
    (folder := tmp_path / "history").mkdir()

    async def set_on_and_back(struck: Scenario) -> None:
        victim, _ = struck.crew.workers
        await struck.until_acknowledged(20 + seed % 30)
        clock.set(HOUR)  # all leases have lapsed
        # The other one may not have noticed: set back, the clock makes a lease valid under which attempts were refused.
        await victim.line("has lost its lease", within_seconds=60)
        await struck.until_acknowledged(count(push=30, nightly=100))
        clock.set(timedelta(0))  # all leases lie an hour ahead
        # It had lost its lease and had come back: whoever has stood still is forgiven, so its lapses may not count.
        struck.crew.send(victim, signal.SIGSTOP)
        struck.crew.send(victim, signal.SIGKILL)
        await struck.until_acknowledged(count(push=30, nightly=100))
        await until_nobody_holds_what_the_dead_held(dsn, victim.pid)
        clock.set(HOUR)  # else what was started at the wrong time would be due in an hour

    scenario = Scenario(
        dsn,
        folder,
        processes,
        seed=seed,
        workers=2,
        seconds=1.0,
        deadlines_given=False,  # those that lie ahead are past all at once
    )
    history = await scenario.must_hold(first=set_on_and_back)
    assert any(is_off(pulse.database_at, HOUR, then=pulse.at) for pulse in history.pulses)


async def until_nobody_holds_what_the_dead_held(dsn: str, pid: int) -> None:
    """Wait until the dead worker's lease has ended, far sooner than in an hour, and its jobs are free."""
    query = (
        "select not exists (select from background_tasks.workers where pid = %(pid)s and lapsed_at is null) "
        "and not exists (select from background_tasks.jobs join background_tasks.workers on workers.id = worker_id "
        "where pid = %(pid)s)"
    )
    await until_true(dsn, query, {"pid": pid})


async def until_true(dsn: str, query: str, values: dict[str, Any]) -> None:
    async with asyncio.timeout(60), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        while (await (await connection.execute(query.encode(), values)).fetchone()) != (True,):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


# --- zones ---

ZONES = (
    "America/New_York",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
)


def around_changes(zone: ZoneInfo, year: int) -> Iterator[datetime]:
    """Return local times beside each change of the zone's offset in a year, also those that aren't there, or twice."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=number) for number in range(366 * 24)]
    for before, after in pairwise(hours):
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            for minutes in range(-150, 151, 30):
                local = (after + timedelta(minutes=minutes)).astimezone(zone).replace(fold=0)
                yield from (local, local.replace(fold=1))
                # By the clock on the wall, which may not show this time at all.
                yield (before.astimezone(zone).replace(fold=0) + timedelta(minutes=minutes)).replace(
                    fold=int(minutes % 60 == 0)
                )


@pytest.mark.parametrize("name", ZONES if TIER == "push" else sorted(zoneinfo.available_timezones()))
async def test_a_time_of_any_zone_is_the_instant_that_it_names(migrated_database: str, name: str) -> None:
    zone, year = ZoneInfo(name), datetime.now(UTC).year + 1
    times = [*around_changes(zone, year), datetime(year, 7, 1, 12, 30, tzinfo=zone)]
    app = App(migrated_database, scheduling={"polling_delay": 0.1})

    @app.task("of later")
    async def of_later(ctx: Context[datetime, None]) -> Suspended:
        return Suspended(until=times[ctx.metadata.minute % len(times)])

    async with app:
        for at in times:
            job = await of_later.start(at, at=at)
            assert (await job.refresh()).scheduled_at == at.astimezone(UTC)
        now = await of_later.start(datetime(year, 1, 1, 0, 17, tzinfo=UTC))
        async with app.worker():
            await job_until(now, lambda job: job.state is JobState.SUSPENDED)
        assert now.scheduled_at == times[17 % len(times)].astimezone(UTC)
