"""The clients of a scenario: each asks for one thing after the other, at random, and writes down what is answered."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from perdure.errors import DatabaseUnavailable, JobCancelled, JobFailed
from tests.support.history.lines import Answered, Asked
from tests.support.scenario.plans import Note, Place, Plan, Trouble, draw_acts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from random import Random

    from perdure import App, Job, Task
    from tests.support.history import Recorder
    from tests.support.scenario.tasks import Tasks

__all__ = ["Client"]

_KNOWN, _NEWEST = 200, 20
_THREADED, _ROLLED_BACK, _AWAITED = 0.15, 0.3, 0.2
_RESULT_SECONDS = 30.0
_VERBS = {
    "start": 12,
    "start many": 2,
    "start with a row": 2,
    "send": 10,
    "proceed": 8,
    "cancel": 2,
    "retry": 1,
    "retry afresh": 1,
}


class Client:
    """One client: its questions follow each other, so its events have an order."""

    def __init__(
        self,
        name: str,
        app: App,
        tasks: Tasks,
        recorder: Recorder,
        random: Random,
        *,
        most_at_once: int = 8,
        share_of_short: float = 0.0,
    ) -> None:
        """Make a client of an app that is open.

        Args:
            name: Begins all its keys.
            app: The app.
            tasks: Its tasks.
            recorder: Takes questions and answers.
            random: What is asked is drawn from it.
            most_at_once: How many jobs it starts in one call.
            share_of_short: How many of the jobs have at most one act, one that waits for nobody.
        """
        self.name = name
        self._app = app
        self._recorder = recorder
        self._random = random
        self._most_at_once, self._share_of_short = most_at_once, share_of_short
        self._calls = itertools.count(1)
        self._keys = itertools.count(1)
        # Of many jobs the last are of interest.
        self._known: deque[tuple[int, str]] = deque(maxlen=_KNOWN)
        self._waiters: set[asyncio.Task[None]] = set()
        self._tasks = {task.name: task for task in tasks}

    async def act(self) -> None:
        """Ask for something."""
        [verb] = self._random.choices(list(_VERBS), list(_VERBS.values()))
        match verb:
            case "start":
                await self.start(1)
            case "start many":
                await self.start(self._random.randint(2, self._most_at_once))
            case "start with a row":
                await self._start_with_a_row(rolled_back=self._random.random() < _ROLLED_BACK)
            case _ if self._known:
                # Rather one that hasn't ended yet.
                newest = self._random.choice([_NEWEST, _KNOWN])
                job, name = self._random.choice(list(self._known)[-newest:])
                await self.ask(verb, job, name)

    async def start(self, count: int, *, acts: Sequence[str] | None = None, threaded: bool | None = None) -> None:
        """Start jobs, one or many at once: of these acts, in a thread or not, or what is drawn."""
        task, plans = self._draw(count, acts=acts, threaded=threaded)
        async with self._call("start", tuple(plan.key for plan in plans)) as answer:
            jobs = [await task.start(plans[0])] if count == 1 else await task.start_many(plans)
            answer("Started", tuple(job.id for job in jobs))
            self._note(jobs)
            if self._random.random() < _AWAITED:
                self._waiters.add(asyncio.create_task(self._await(jobs[0])))

    async def ask(self, verb: str, job: int, name: str) -> None:
        """Send an event to a job, proceed, cancel or retry it."""
        note = Note(f"{self.name}.e{next(self._keys)}")
        async with self._call(verb, (note.key,) if verb == "send" else (), (job,)) as answer:
            match verb:
                case "send":
                    said: object = await self._tasks[name].send(job, note)
                case "proceed":
                    said = await self._app.proceed(job)
                case "cancel":
                    said = await self._app.cancel(job)
                case _:
                    said = await self._app.retry(job, afresh=verb == "retry afresh")
            answer(type(said).__name__)

    async def settle(self) -> None:
        """Wait for the results that are awaited, for a while, and leave the jobs alone that were started until now."""
        if self._waiters:
            _, waiting = await asyncio.wait(self._waiters, timeout=_RESULT_SECONDS)
            for waiter in waiting:
                waiter.cancel()
            await asyncio.gather(*self._waiters)
        self._waiters.clear()
        self._known.clear()

    async def _await(self, job: Job[Any, Any, Any, Any]) -> None:
        async with self._call("await", (), (job.id,)) as answer:
            try:
                await job.result()
            except (JobFailed, JobCancelled) as error:
                answer("failed" if isinstance(error, JobFailed) else "cancelled")
            except asyncio.CancelledError:
                answer("nothing")
            else:
                answer("completed")

    async def _start_with_a_row(self, *, rolled_back: bool) -> None:
        task, [plan] = self._draw(1)
        async with self._call("start and roll back" if rolled_back else "start with a row", (plan.key,)) as answer:
            async with self._app.pool.connection() as connection, connection.transaction(force_rollback=rolled_back):
                await connection.execute("insert into history.orders values (%s)", [plan.key])
                job = await task.start(plan, connection=connection)
            answer("RolledBack" if rolled_back else "Started", () if rolled_back else (job.id,))
            if not rolled_back:
                self._note([job])

    def _draw(
        self, count: int, *, acts: Sequence[str] | None = None, threaded: bool | None = None
    ) -> tuple[Task[Plan, Place, int, Trouble], list[Plan]]:
        """Draw a task and plans for it, or take what is given."""
        if threaded is None:
            threaded = self._random.random() < _THREADED
        plans = [
            Plan(
                f"{self.name}.{next(self._keys)}",
                self._draw_acts(threaded=threaded) if acts is None else list(acts),
            )
            for _ in range(count)
        ]
        return self._tasks["plan.threaded" if threaded else "plan"], plans

    def _draw_acts(self, *, threaded: bool) -> list[str]:
        if self._random.random() < self._share_of_short:
            return self._random.choice([[], [], ["row"], ["effect"]])
        return draw_acts(self._random, threaded=threaded)

    def _note(self, jobs: Sequence[Job[Any, Any, Any, Any]]) -> None:
        self._known.extend((job.id, job.name) for job in jobs)

    @asynccontextmanager
    async def _call(self, verb: str, keys: tuple[str, ...], jobs: tuple[int, ...] = ()) -> AsyncIterator[Any]:
        """Write down the question, and the answer if one comes."""
        call = next(self._calls)
        self._recorder.write(Asked(call, verb, keys, jobs))
        try:
            yield lambda answer, jobs=(): self._recorder.write(Answered(call, answer, jobs))
        except (DatabaseUnavailable, psycopg.OperationalError, psycopg.InternalError):
            # InternalError: what the driver makes of a BEGIN that a pooler answers with its end, too.
            # Whether it was done isn't known; and a database that is away is given a moment.
            await asyncio.sleep(0.05)
