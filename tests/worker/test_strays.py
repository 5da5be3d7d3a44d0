"""The search for strays: what it lets go, what may be on its way here, and how often it looks."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from perdure import App, Context  # noqa: TC001 - a task's annotation is evaluated
from perdure.store import calls
from perdure.store.leases import Stray
from perdure.store.settles import Finish, PutBack
from perdure.store.sql import names_of
from perdure.worker import inquiry
from perdure.worker.strays import Strays
from tests.support.jobs import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.store.calls import Call

STRAY = Stray(7, 1, 0, cancel_requested=False)


class Lane:
    def __init__(self) -> None:
        self.exchange_began_at_seconds: float | None = None


class Worker:
    """Stands for the worker, its desk and its executor: the database always says that it holds this job."""

    def __init__(self, stray: Stray = STRAY) -> None:
        self.names = names_of("background_tasks")
        self.lease_seconds = 30.0
        self.worker_id = uuid.uuid4()
        self.lanes = [Lane(), Lane()]
        self.stray = stray
        self.known: set[int] = set()
        self.running: dict[int, Any] = {}
        self.during_the_look: Callable[[], None] = lambda: None
        self.look_seconds = 0.0
        self.let_go: list[PutBack | Finish] = []
        self.desk = self.executor = self

    async def look(self, _work: object, *, what: str) -> tuple[list[Stray], float]:
        assert what == "search for strays"
        self.during_the_look()
        return [self.stray], self.look_seconds

    def ids(self) -> set[int]:
        return set()

    def known_ids(self) -> set[int]:
        return self.known

    def put_back(self, entry: PutBack) -> None:
        self.let_go.append(entry)

    def finish(self, entry: Finish) -> None:
        self.let_go.append(entry)


@pytest.mark.parametrize("cancelled", [False, True], ids=["put back", "cancelled"])
async def test_a_job_is_a_stray_when_it_was_seen_twice(*, cancelled: bool) -> None:
    worker = Worker(STRAY._replace(cancel_requested=cancelled))
    strays = Strays(cast("Any", worker))
    await strays.run_once()
    assert worker.let_go == []
    await strays.run_once()
    (entry,) = worker.let_go
    assert (entry.id, entry.claim, isinstance(entry, Finish)) == (7, 1, cancelled)


async def test_a_job_whose_claim_may_be_on_its_way_here_is_no_stray() -> None:
    worker = Worker()
    strays = Strays(cast("Any", worker))
    worker.lanes[1].exchange_began_at_seconds = 0.0  # before the first look
    await strays.run_once()
    await strays.run_once()
    assert worker.let_go == []
    worker.lanes[1].exchange_began_at_seconds = None
    await strays.run_once()
    assert worker.let_go == [PutBack(7, 1)]


async def test_a_job_that_an_exchange_has_claimed_which_began_while_the_look_waited_is_no_stray() -> None:
    worker = Worker()
    strays = Strays(cast("Any", worker))

    def begin_exchange() -> None:
        worker.lanes[1].exchange_began_at_seconds = asyncio.get_running_loop().time()

    worker.during_the_look = begin_exchange
    await strays.run_once()
    worker.during_the_look = lambda: None
    await strays.run_once()
    assert worker.let_go == []


async def test_a_job_that_came_here_during_the_look_is_no_stray() -> None:
    worker = Worker()
    strays = Strays(cast("Any", worker))
    await strays.run_once()
    worker.during_the_look = lambda: worker.known.add(7)
    await strays.run_once()
    assert worker.let_go == []


async def test_a_job_that_came_here_and_ended_during_the_look_is_no_stray() -> None:
    worker = Worker()
    strays = Strays(cast("Any", worker))
    strays.arrived([cast("Any", worker.stray)])  # no look is under way: it says nothing
    await strays.run_once()
    worker.during_the_look = lambda: strays.arrived([cast("Any", worker.stray)])
    await strays.run_once()
    assert worker.let_go == []


async def test_a_look_that_takes_claims_for_strays_isnt_repeated_at_once() -> None:
    worker = Worker()
    strays = Strays(cast("Any", worker))
    again_seconds = await strays.run_once()
    worker.during_the_look = lambda: strays.arrived([cast("Any", worker.stray)])
    assert again_seconds < 1 < worker.lease_seconds / 3 == await strays.run_once()


def worker_whose_looks_take(seconds: float) -> Worker:
    """A worker that knows all that it holds."""
    worker = Worker()
    worker.known.add(7)
    worker.look_seconds = seconds
    return worker


async def test_a_look_that_costs_much_comes_seldom() -> None:
    worker = worker_whose_looks_take(0.2)
    assert await Strays(cast("Any", worker)).run_once() == pytest.approx(200)


async def test_after_a_lost_answer_it_is_looked_for_until_it_cant_land_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = worker_whose_looks_take(0.2)
    strays = Strays(cast("Any", worker))
    strays.suspect()
    assert await strays.run_once() == pytest.approx(20)
    later_seconds = asyncio.get_running_loop().time() + 2 * worker.lease_seconds
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later_seconds)
    assert await strays.run_once() == pytest.approx(200)


async def test_when_a_lost_answer_cant_land_any_more_it_is_looked_once_again_whatever_that_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = worker_whose_looks_take(2.0)
    strays, now_seconds = Strays(cast("Any", worker)), asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_seconds)
    strays.suspect()
    assert await strays.run_once() == pytest.approx(2 * worker.lease_seconds)
    now_seconds += 2 * worker.lease_seconds
    assert await strays.run_once() == pytest.approx(300)


async def test_a_busy_worker_seldom_searches_for_strays(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, running, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    sights: list[list[Stray]] = []
    rests_seconds: asyncio.Queue[float] = asyncio.Queue()
    run_once = Strays.run_once

    async def look_long(connection: psycopg.AsyncConnection[Any], call: Call[list[Stray]]) -> list[Stray]:
        looking.set()
        await running.wait()
        sights.append(await calls.run(connection, call))
        ended.set()
        await job.result(timeout=30)
        await until(lambda: not (worker.in_hand or worker.desk.ids()), "the worker has forgotten it")
        return sights[-1]

    async def remember_rest(strays: Strays) -> float:
        rest_seconds = await run_once(strays)
        if sights:
            rests_seconds.put_nowait(rest_seconds)
        return rest_seconds

    @app.task("job")
    async def task(ctx: Context[None, None]) -> None:
        running.set()
        await ended.wait()

    monkeypatch.setattr("perdure.worker.strays.calls", SimpleNamespace(run=look_long))
    monkeypatch.setattr(Strays, "run_once", remember_rest)
    async with app.worker() as worker:
        worker.claims_uncertain()  # else the first look comes after a third of the lease
        await asyncio.wait_for(looking.wait(), 30)
        job = await task.start(None)
        await job.result(timeout=30)
        assert await rests_seconds.get() >= worker.lease_seconds / 3
        assert [stray.id for stray in sights[0]] == [job.id]


async def test_what_is_claimed_is_no_stray_while_it_is_asked_what_became_of_an_outcome_beside_it(
    app: App, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    running, may_end = asyncio.Event(), asyncio.Event()

    @app.task("job")
    async def task(ctx: Context[None, None]) -> None:
        begun.append(ctx.id)
        running.set()
        await may_end.wait()

    async def look_twice_and_inquire(*arguments: Any) -> None:
        for _ in range(2):
            await worker._strays.run_once()
        await inquiry.inquire(*arguments)

    monkeypatch.setattr("perdure.worker.lane.inquire", look_twice_and_inquire)
    async with app.worker(concurrency=1) as worker:
        await task.start(None)
        await asyncio.wait_for(running.wait(), 30)
        with psycopg.connect(migrated_database, autocommit=True) as connection:  # its outcome will find no row
            connection.execute("update background_tasks.jobs set claim = claim + 1")
        second = await task.start(None)
        may_end.set()
        await second.result(timeout=30)
    assert begun.count(second.id) == 1
    assert len(await app.history(second.id)) == 1
