"""A claim that was given up arrives after all, while jobs are due: it takes them for a worker that doesn't know of it.

That worker is busy and stays so: it finds them among its own, gives them back, and another does each of them, once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from perdure import App, Context  # noqa: TC001 - a task's annotation is evaluated
from tests.faults.network.late import make_app
from tests.support.clients import Hands
from tests.support.jobs import until
from tests.support.marks import mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Proxy

_RESULT_SECONDS = 40
_HELD = "select id from background_tasks.jobs where worker_id = %s and not id = any(%s)"


@pytest.fixture
def hands(proxy: Proxy) -> Iterator[Hands]:
    hands = Hands(proxy.direct_dsn)
    yield hands
    hands.close()


class Office:
    """Two apps, one of them behind the proxy, with a task that lasts until it is told to end, and one that doesn't."""

    def __init__(self, proxy: Proxy, hands: Hands) -> None:
        self.began: Counter[int] = Counter()
        self.end = asyncio.Event()
        self.app, self.other = (make_app(dsn) for dsn in (proxy.dsn, proxy.direct_dsn))
        self._hands = hands
        for app in (self.app, self.other):
            self._define(app)

    def _define(self, app: App) -> None:
        @app.task("lasts")
        async def lasts(ctx: Context[None, None]) -> None:
            self.began[ctx.id] += 1
            await self.end.wait()

        @app.task("quick")
        async def quick(ctx: Context[None, None]) -> None:
            self.began[ctx.id] += 1

    async def start(self, name: str, *, queue: str = "default", suspect: bool = False) -> int:
        """Start a job, one that has taken down two workers if it is a suspect; return its id."""
        after = timedelta(days=1) if suspect else timedelta()
        job = await self.other.tasks[name].start(None, queue=queue, at=after)
        if suspect:
            self._hands.make(job, suspect=True, lapses=2)
            self._hands.sql("update background_tasks.jobs set scheduled_at = now() where id = %s", job.id)
        return int(job.id)

    async def begun(self, *jobs: int) -> None:
        """Wait until these have begun."""
        await until(lambda: all(self.began[job] for job in jobs), f"{jobs} have begun")

    async def ended(self, *jobs: int) -> None:
        """Wait until these have ended."""
        for job in jobs:
            await (await self.other.job(job)).result(timeout=_RESULT_SECONDS)


@pytest.mark.parametrize("statement", ["claim", "claim_band", "claim_suspect"])
async def test_jobs_that_a_late_claim_takes_go_on_and_none_is_done_twice(
    proxy: Proxy, hands: Hands, statement: str
) -> None:
    office = Office(proxy, hands)
    suspect = statement == "claim_suspect"
    async with office.app, office.other, office.app.worker(concurrency=3) as busy:
        lasting = [await office.start("lasts")]
        lasting += [await office.start("lasts", queue="another" if statement == "claim" else "default")]
        await office.begun(*lasting)
        proxy.arm(mark(statement), "late")  # by which it wants one job: it has room for one
        if suspect:
            lasting += [await office.start("lasts", suspect=True)]
        await until(proxy.broken.is_set, "a claim is cut")
        if not suspect:
            lasting += [await office.start("lasts")]
        await office.begun(*lasting)
        due = [await office.start("quick", suspect=suspect) for _ in range(3)]
        assert _held_unknown(hands, busy, lasting) == []
        answers = await proxy.deliver()
        assert answers[-1] == ("UPDATE 1" if suspect else "SELECT 2")  # the last row is no job
        assert len(_held_unknown(hands, busy, lasting)) == 1
        busy._strays.poke()  # after a lost answer it looks often, but not as often
        async with office.other.worker():
            await office.ended(*due)
        office.end.set()
        await office.ended(*lasting)
    assert office.began == Counter([*lasting, *due])
    assert hands.sql("select distinct attempt from background_tasks.finished_jobs") == [(1,)]


def _held_unknown(hands: Hands, worker: Any, known: list[int]) -> list[tuple[Any, ...]]:
    return hands.sql(_HELD, worker.worker_id, known)
