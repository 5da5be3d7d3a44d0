"""Runs the verbs on async connections: the app's pool, or the caller's own."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import AsyncConnection, Connection

from perdure.connections import Pool, explained, is_in_transaction
from perdure.errors import JobNotFoundError, MisuseError
from perdure.resuming import ResumeProgress
from perdure.store import calls, direct
from perdure.store.notify import Listener
from perdure.verbs import Together, Verbs
from perdure.verbs.checking import Place
from perdure.verbs.looking import check_query
from perdure.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
    from typing import Unpack

    from perdure.answers import CancelAnswer, ProceedAnswer, ProceedAnswerOf, RetryAnswer, SendAnswer
    from perdure.config import Config
    from perdure.due import Due
    from perdure.history import AttemptRecord
    from perdure.job import Job
    from perdure.options import PlaceOptions
    from perdure.query import JobQuery
    from perdure.resuming import ResumeProblem
    from perdure.store.calls import Call
    from perdure.store.jobs import JobRow
    from perdure.store.sql import Names
    from perdure.task import Task
    from perdure.verbs import Step, Verb
    from perdure.verbs.starting import Batches

    RunStep = Callable[[Step], Awaitable[Any]]
    RunCall = Callable[[AsyncConnection[Any], Call[Any]], Awaitable[Any]]

__all__ = ["Client"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")


class Client:
    """What the app's tasks and its own verbs go through. Open between `open` and `close`."""

    def __init__(self, config: Config, names: Names, tasks: Mapping[str, Task[Any, Any, Any, Any]]) -> None:
        """Prepare a client of these tasks."""
        self._config = config
        self._names = names
        self.verbs = Verbs(names, tasks, self, max_payload_bytes=config.execution.max_payload_bytes)
        self._pool: Pool | None = None
        self._waiters: Waiters | None = None

    async def open(self, dsn: str) -> None:
        """Open the pool.

        Raises:
            DatabaseUnavailable: There is no database, or it lets nobody in.
            ServerTooOld: It is older than PostgreSQL 14.
        """
        config = self._config
        keeps_sessions = config.persistence.prepared_statements
        pool = Pool(dsn, max_connections=config.execution.max_connections, may_prepare=keeps_sessions)
        await pool.open()
        self._pool = pool
        listener = Listener(
            dsn, is_wanted=config.scheduling.notifications, keeps_sessions=keeps_sessions, purpose="results"
        )
        polling_seconds = config.scheduling.polling_delay.total_seconds()
        self._waiters = Waiters(self._names, self.run, listener, polling_seconds=polling_seconds)

    @property
    def is_orphaned(self) -> bool:
        """Whether the event loop that it was opened in has ended without closing it, or is a parent process's."""
        return self._pool is not None and self._pool.is_orphaned

    def forget(self) -> None:
        """Drop the connections of an event loop that has ended, or is another process's: nobody can close them here."""
        self._pool = self._waiters = None

    async def close(self) -> None:
        """Stop waiting for results, and close the pool."""
        waiters, self._waiters = self._waiters, None
        pool, self._pool = self._pool, None
        if waiters is not None:
            await waiters.stop()
        if pool is not None:
            await pool.close()

    def pool(self, purpose: str) -> Pool:
        """Return the open pool.

        Raises:
            MisuseError: The app isn't open.
        """
        if self._pool is None:
            message = f"{purpose}: the app isn't open: use `async with app:`, or `await app.open()` first"
            raise MisuseError(message)
        return self._pool

    async def run(self, purpose: str, call: Call[T]) -> T:
        """Run one call on a connection of the pool."""
        async with self.pool(purpose).connection(purpose) as connection:
            return await direct.run(connection, call)

    async def start(
        self,
        task: Task[M, X, R, E],
        metadata: M,
        execution_metadata: X | None = None,
        *,
        connection: AsyncConnection[Any] | None = None,
        **place: Unpack[PlaceOptions],
    ) -> Job[M, X, R, E]:
        """Start a job; see `Task.start`."""
        own = _check_connection("start", connection)
        verb = self.verbs.start(task, metadata, execution_metadata, in_callers_transaction=own is not None, **place)
        return await self._drive("start", verb, own)

    async def start_many(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        connection: AsyncConnection[Any] | None = None,
        **place: Unpack[PlaceOptions],
    ) -> list[Job[M, X, R, E]]:
        """Start many jobs; see `Task.start_many`."""
        own = _check_connection("start_many", connection)
        verb = self.verbs.start_many(
            task, metadata, execution_metadata, in_callers_transaction=own is not None, **place
        )
        return await self._drive("start_many", verb, own)

    def start_batches(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M] | AsyncIterable[M],
        execution_metadata: X | None = None,
        *,
        connection: AsyncConnection[Any] | None = None,
        **place: Unpack[PlaceOptions],
    ) -> AsyncGenerator[list[Job[M, X, R, E]]]:
        """Start jobs batch by batch; see `Task.start_batches`."""
        own = _check_connection("start_batches", connection)
        batches = self.verbs.batches(task, execution_metadata, in_callers_transaction=own is not None, **place)
        return self._store(batches, metadata, own)

    async def proceed(
        self, which: int | JobQuery, modification: Callable[[Any], Any] | None = None, *, at: Due | None = None
    ) -> ProceedAnswer:
        """Let a suspended job go on; see `App.proceed`."""
        return await self._drive("proceed", self.verbs.proceed(which, modification, at=at))

    async def proceed_of(
        self,
        task: Task[M, X, R, E],
        which: int | JobQuery,
        modification: Callable[[X], X] | None = None,
        *,
        at: Due | None = None,
    ) -> ProceedAnswerOf[M, X, R, E]:
        """Let a suspended job of this task go on; see `Task.proceed`."""
        return await self._drive("proceed", self.verbs.proceed(which, modification, at=at, task=task))

    async def send(
        self,
        task: Task[Any, Any, Any, Any],
        which: int | JobQuery,
        event: object,
        *,
        connection: AsyncConnection[Any] | None = None,
    ) -> SendAnswer:
        """Send an event to a job of this task; see `Task.send`."""
        own = _check_connection("send", connection)
        return await self._drive(
            "send", self.verbs.send(task, which, event, in_callers_transaction=own is not None), own
        )

    async def cancel(self, job_id: int) -> CancelAnswer:
        """Cancel a job; see `App.cancel`."""
        return await self._drive("cancel", self.verbs.cancel(job_id))

    async def retry(self, job_id: int, *, afresh: bool = False, execution_metadata: object = None) -> RetryAnswer:
        """Let an ended job begin again; see `App.retry`."""
        return await self._drive(
            "retry", self.verbs.retry(job_id, afresh=afresh, execution_metadata=execution_metadata)
        )

    async def history(self, job_id: int) -> list[AttemptRecord[Any]]:
        """Read the attempts of a job; see `App.history`."""
        return await self._drive("history", self.verbs.history(job_id))

    async def unread_events(self, job_id: int) -> int:
        """Count the events that a job hasn't consumed; see `App.unread_events`."""
        return await self._drive("unread_events", self.verbs.unread_events(job_id))

    async def job(self, job_id: int) -> Job[Any, Any, Any, Any]:
        """Read a job; see `App.job`."""
        row = await self.read(job_id)
        if row is None:
            message = f"there is no job {job_id}"
            raise JobNotFoundError(message)
        return self.verbs.job(row)

    async def jobs(self, query: JobQuery | None = None) -> AsyncGenerator[Job[Any, Any, Any, Any]]:
        """Read jobs page by page; see `App.jobs`."""
        query = check_query("jobs", query)
        after: int | None = None
        while True:
            page = await self._drive("jobs", self.verbs.page(query, after))
            for job in page:
                yield job
            if len(page) < query.page_size:
                return
            after = page[-1].id

    async def check_resume(
        self, on_progress: Callable[[ResumeProgress], None] | None = None
    ) -> AsyncGenerator[ResumeProblem]:
        """Find live jobs that wouldn't go on with the code at hand; see `App.check_resume`."""
        place: Place | None = Place()
        total = 0 if on_progress is None else await self._drive("check_resume", self.verbs.count_live())
        while place is not None:
            if on_progress is not None:
                on_progress(ResumeProgress(place.jobs, place.events, total))
            problems, place = await self._drive("check_resume", self.verbs.check_page(place))
            for problem in problems:
                yield problem

    async def read(self, job_id: int) -> JobRow | None:
        """Read a job's row; None when there is none."""
        return await self._drive("read a job", self.verbs.read(job_id))

    async def read_ended(self, job_id: int, timeout_seconds: float | None, *, may_appear: bool) -> JobRow | None:
        """Wait for a job's end, as `Waiters.read_ended` does.

        Raises:
            MisuseError: The app isn't open.
        """
        self.pool("result").check_loop("result")
        if self._waiters is None:
            message = "result: the app was closed"
            raise MisuseError(message)
        return await self._waiters.read_ended(job_id, timeout_seconds, may_appear=may_appear)

    async def _store(
        self, batches: Batches[M, X, R, E], metadata: Iterable[M] | AsyncIterable[M], own: AsyncConnection[Any] | None
    ) -> AsyncGenerator[list[Job[M, X, R, E]]]:
        with batches.noted("start_batches"):
            async with aclosing(batches.of_any(metadata)) as verbs:
                async for storing in verbs:
                    yield await self._drive("start_batches", storing, own)

    async def _drive(self, purpose: str, verb: Verb[T], own: AsyncConnection[Any] | None = None) -> T:
        async def run_own(step: Step) -> Any:
            assert own is not None  # noqa: S101 - for the type checkers
            with explained(purpose):
                return await _run_step(own, step, calls.run)

        async def run_pooled(step: Step) -> Any:
            async with self.pool(purpose).connection(purpose) as connection:
                return await _run_step(connection, step, direct.run)

        return await _drive(verb, run_pooled if own is None else run_own)


async def _run_step(connection: AsyncConnection[Any], step: Step, run: RunCall) -> Any:
    if not isinstance(step, Together):
        return await run(connection, step)
    if is_in_transaction(connection):  # the caller's
        return await _drive(step.verb, lambda inner: _run_step(connection, inner, run))
    async with connection.transaction():
        await connection.execute(step.setting)
        return await _drive(step.verb, lambda inner: _run_step(connection, inner, run))


async def _drive(verb: Verb[T], run: RunStep) -> T:
    try:
        step = next(verb)
        while True:
            try:
                answer = await run(step)
            except BaseException as error:  # noqa: BLE001 - it is the verb's to handle, or to let pass
                step = verb.throw(error)
            else:
                step = verb.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _check_connection(purpose: str, connection: object) -> AsyncConnection[Any] | None:
    """Return the caller's connection, if it is one that this event loop can wait for."""
    if connection is None or isinstance(connection, AsyncConnection):
        return connection  # pyright: ignore[reportUnknownVariableType] - whatever its rows are
    if isinstance(connection, Connection):
        message = (
            f"{purpose}: connection= is a sync connection, which would block the event loop; "
            f"use app.blocking.{purpose}(…)"
        )
    else:
        message = (
            f"{purpose}: connection= is {type(connection).__module__}.{type(connection).__qualname__}; it takes a "
            "psycopg.AsyncConnection (and app.blocking a psycopg.Connection, or Django's connection)"
        )
    raise MisuseError(message)
