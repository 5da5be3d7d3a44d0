"""The clients of a scenario: each asks for one thing after the other, at random, and writes down what is answered."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from perdure import JobState
from perdure.errors import DatabaseUnavailable, JobCancelled, JobFailed
from tests.support.history.lines import Answered, Asked
from tests.support.scenario.plans import Note, Place, Plan, Trouble, draw_acts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from random import Random

    from perdure import App, Job, Task
    from perdure.answers import SendAnswer
    from tests.support.history import Recorder
    from tests.support.scenario.tasks import Tasks

__all__ = ["Client"]

_KNOWN, _NEWEST = 200, 20
_THREADED, _ROLLED_BACK, _AWAITED, _IN_TRANSACTION, _OWED = 0.15, 0.3, 0.2, 0.3, 0.3
_RESULT_SECONDS = 30.0
_DEADLINE_SECONDS = 0.1, 3.0
_SNAPSHOT_SECONDS = 0.3
_LOOK_SECONDS = 0.05
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
_GRANTED = {
    "start": "Started",
    "start many": "Started",
    "start with a row": "Started",
    "send": "Sent",
    "proceed": "Proceeded",
    "cancel": "CancelRequested",
    "retry": "Retried",
    "retry afresh": "Retried",
}
_AWAIT = "await"
_ON_THE_WAY = {JobState.PENDING, JobState.RUNNING, JobState.RETRYING}


class Client:
    """One client: its questions follow each other, so its events have an order.

    Attributes:
        owed: The verbs that haven't been granted to it yet: it asks for these more often.
        acknowledged: How many jobs it knows to be stored.
        unanswered: How many of its calls had no answer.
    """

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
        share_of_limited: float = 0.0,
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
            share_of_limited: How many of its starts are of jobs with a deadline.
        """
        self.name = name
        self.owed = {*_VERBS, _AWAIT}
        self.acknowledged = self.unanswered = 0
        self._app = app
        self._recorder = recorder
        self._random = random
        self._most_at_once, self._share_of_short = most_at_once, share_of_short
        self._share_of_limited = share_of_limited
        self._calls = itertools.count(1)
        self._keys = itertools.count(1)
        # Of many jobs the last are of interest.
        self._known: deque[tuple[int, str, bool]] = deque(maxlen=_KNOWN)
        self._waiters: set[asyncio.Task[None]] = set()
        self._tasks = {task.name: task for task in tasks}

    async def act(self) -> None:
        """Ask for something."""
        owed = [verb for verb in _VERBS if verb in self.owed]
        if owed and self._random.random() < _OWED:
            verb = self._random.choice(owed)
        else:
            [verb] = self._random.choices(list(_VERBS), list(_VERBS.values()))
        if await self._answer_to(verb) == _GRANTED[verb]:
            self.owed.discard(verb)

    async def start(
        self,
        count: int,
        *,
        acts: Sequence[str] | None = None,
        threaded: bool | None = None,
        deadline: timedelta | None = None,
    ) -> str | None:
        """Start jobs, one or many at once; return the answer.

        Args:
            count: How many.
            acts: What they do; None: it is drawn, and for some a deadline with it.
            threaded: Whether they run in a thread; None: it is drawn.
            deadline: Theirs, of those whose acts are given.
        """
        limited = self._random.random() < self._share_of_limited if acts is None else deadline is not None
        task, plans = self._draw(count, acts=acts, threaded=threaded, limited=limited)
        if limited and deadline is None:
            deadline = timedelta(seconds=self._random.uniform(*_DEADLINE_SECONDS))
        given = None
        async with self._call("start", tuple(plan.key for plan in plans)) as answer:
            if count == 1:
                jobs = [await task.start(plans[0], deadline=deadline)]
            else:
                jobs = await task.start_many(plans, deadline=deadline)
            given = "Started"
            answer(given, tuple(job.id for job in jobs))
            self._note(jobs, limited=limited)
            if (_AWAIT in self.owed and not self._waiters) or self._random.random() < _AWAITED:
                self._waiters.add(asyncio.create_task(self._await(jobs[0])))
        return given

    async def ask(self, verb: str, job: int, name: str) -> str | None:
        """Send an event to a job, proceed, cancel or retry it; return the answer."""
        note = Note(f"{self.name}.e{next(self._keys)}")
        given = None
        async with self._call(verb, (note.key,) if verb == "send" else (), (job,)) as answer:
            match verb:
                case "send" if self._random.random() < _IN_TRANSACTION:
                    said: object = await self._send_in_a_transaction(job, name, note)
                case "send":
                    said = await self._tasks[name].send(job, note)
                case "proceed":
                    said = await self._app.proceed(job)
                case "cancel":
                    said = await self._app.cancel(job)
                case _:
                    said = await self._app.retry(job, afresh=verb == "retry afresh")
            given = type(said).__name__
            answer(given)
        return given

    async def send_late(self) -> bool:
        """Send an event to a job that was suspended after the sender's transaction began; tell whether that was so."""
        if await self.start(1, acts=["wait"], threaded=False) is None:
            return False
        job, name, _ = self._known.pop()  # nobody else may let it go on
        note, is_late = Note(f"{self.name}.e{next(self._keys)}"), False
        async with self._call("send", (note.key,), (job,)) as answer:
            async with self._app.pool.connection() as connection, connection.transaction():
                before = await _state(connection, job)
                while (now := await self._state_now(job)) in _ON_THE_WAY:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_LOOK_SECONDS)
                is_late = before in _ON_THE_WAY and now is JobState.SUSPENDED
                # Of a snapshot that is kept, this is refused; or else it must wake the job.
                said = await self._tasks[name].send(job, note, connection=connection)
            answer(type(said).__name__)
        return is_late

    async def settle(self) -> None:
        """Wait for the results that are awaited, for a while, and leave the jobs alone that were started until now."""
        if self._waiters:
            _, waiting = await asyncio.wait(self._waiters, timeout=_RESULT_SECONDS)
            for waiter in waiting:
                waiter.cancel()
            await asyncio.gather(*self._waiters)
        self._waiters.clear()
        self._known.clear()

    async def _answer_to(self, verb: str) -> str | None:
        match verb:
            case "start":
                return await self.start(1)
            case "start many":
                return await self.start(self._random.randint(2, self._most_at_once))
            case "start with a row":
                return await self._start_with_a_row(rolled_back=self._random.random() < _ROLLED_BACK)
            case _ if self._known:
                # Rather one that hasn't ended yet.
                newest = self._random.choice([_NEWEST, _KNOWN])
                job, name, limited = self._random.choice(list(self._known)[-newest:])
                # A retry lifts the deadline, without which such a job may wait for ever.
                return await self.ask("cancel" if limited and verb.startswith("retry") else verb, job, name)
            case _:
                return None

    async def _send_in_a_transaction(self, job: int, name: str, note: Note) -> SendAnswer:
        """Send in a transaction of the caller's, which has seen the database as it was before.

        Where the isolation keeps its first snapshot, it sees the job in a state that it may have left meanwhile.
        """
        async with self._app.pool.connection() as connection, connection.transaction():
            await connection.execute("select count(*) from history.orders")
            await asyncio.sleep(self._random.uniform(0, _SNAPSHOT_SECONDS))
            return await self._tasks[name].send(job, note, connection=connection)

    async def _state_now(self, job: int) -> JobState | None:
        # A transaction of its own for each look, since a snapshot may be kept.
        async with self._app.pool.connection() as connection:
            return await _state(connection, job)

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
            self.owed.discard(_AWAIT)

    async def _start_with_a_row(self, *, rolled_back: bool) -> str | None:
        given = None
        task, [plan] = self._draw(1)
        async with self._call("start and roll back" if rolled_back else "start with a row", (plan.key,)) as answer:
            async with self._app.pool.connection() as connection, connection.transaction(force_rollback=rolled_back):
                await connection.execute("insert into history.orders values (%s)", [plan.key])
                job = await task.start(plan, connection=connection)
            given = "RolledBack" if rolled_back else "Started"
            answer(given, () if rolled_back else (job.id,))
            if not rolled_back:
                self._note([job])
        return given

    def _draw(
        self, count: int, *, acts: Sequence[str] | None = None, threaded: bool | None = None, limited: bool = False
    ) -> tuple[Task[Plan, Place, int, Trouble], list[Plan]]:
        """Draw a task and plans for it, or take what is given."""
        if threaded is None:
            threaded = self._random.random() < _THREADED
        plans = [
            Plan(
                f"{self.name}.{next(self._keys)}",
                self._draw_acts(threaded=threaded, limited=limited) if acts is None else list(acts),
            )
            for _ in range(count)
        ]
        return self._tasks["plan.threaded" if threaded else "plan"], plans

    def _draw_acts(self, *, threaded: bool, limited: bool) -> list[str]:
        if not limited and self._random.random() < self._share_of_short:
            return self._random.choice([[], [], ["row"], ["effect"]])
        return draw_acts(self._random, threaded=threaded, limited=limited)

    def _note(self, jobs: Sequence[Job[Any, Any, Any, Any]], *, limited: bool = False) -> None:
        self.acknowledged += len(jobs)
        self._known.extend((job.id, job.name, limited) for job in jobs)

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
            self.unanswered += 1
            await asyncio.sleep(0.05)


async def _state(connection: psycopg.AsyncConnection[Any], job: int) -> JobState | None:
    """Return a job's state; None once it has ended."""
    cursor = await connection.execute("select state from background_tasks.jobs where id = %s", [job])
    row = await cursor.fetchone()
    return None if row is None else JobState.from_code(row[0])
