"""For code that doesn't await: the context and the base class of `def` handlers, and the verbs, as `app.blocking`.

Thin: the verbs are those of `verbs`, run on sync connections. In an `async def`, use the app's own.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, TypeVar, overload

from psycopg import AsyncConnection, Connection

from perdure.classes import BlockingBackgroundTask as BackgroundTask
from perdure.classes import task_of
from perdure.connections import explained, is_in_transaction
from perdure.context import BlockingContext as Context
from perdure.durations import wait_seconds
from perdure.errors import JobNotFoundError, MisuseError
from perdure.polling import look_until_ended
from perdure.resuming import ResumeProgress
from perdure.store import calls, direct
from perdure.verbs import Together
from perdure.verbs.checking import Place
from perdure.verbs.looking import check_query

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Unpack

    from perdure.answers import CancelAnswer, ProceedAnswer, ProceedAnswerOf, RetryAnswer, SendAnswer
    from perdure.classes import TaskClass
    from perdure.due import Due
    from perdure.durations import Duration
    from perdure.history import AttemptRecord
    from perdure.job import Job
    from perdure.options import PlaceOptions
    from perdure.query import JobQuery
    from perdure.resuming import ResumeProblem
    from perdure.store.calls import Call
    from perdure.store.jobs import JobRow
    from perdure.task import Task
    from perdure.verbs import Step, Verb, Verbs
    from perdure.verbs.starting import Batches

__all__ = ["BackgroundTask", "Blocking", "Context"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")


class Blocking:
    """The verbs for sync code. Opens its connections by itself when they are needed."""

    def __init__(
        self,
        verbs: Verbs,
        connection: Callable[[str, float], AbstractContextManager[Connection[Any]]],
        close: Callable[[], None],
        *,
        polling_seconds: float,
    ) -> None:
        """Run verbs on connections that `connection` lends for a purpose, and for so many seconds at most."""
        self._verbs = verbs
        self._connection = connection
        self._close = close
        self._polling_seconds = polling_seconds

    @overload
    def start(
        self,
        task: Task[None, X, R, E] | type[TaskClass[None, X, R, E]],
        metadata: None = None,
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Job[None, X, R, E]: ...
    @overload
    def start(
        self,
        task: Task[M, X, R, E],
        metadata: M,
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Job[M, X, R, E]: ...
    @overload
    def start(
        self,
        task: type[TaskClass[M, X, R, E]],
        metadata: M,
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Job[M, X, R, E]: ...
    def start(
        self,
        task: Any,
        metadata: Any = None,
        execution_metadata: Any = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Any:
        """Start a job.

        Args:
            task: What `app.task` made: a task, or a class.
            metadata: Its input; left out where that is None.
            execution_metadata: Its first checkpoint; when left out, one whose fields all have their defaults.
            connection: A connection of the caller's, psycopg's or Django's: the job is stored in its transaction.
            place: `at`, `queue` and `priority`, as `Task.start` takes them.

        Raises:
            PayloadRefused: A payload can't be stored; the message says where and why.
            MisuseError: An option isn't allowed.
            DatabaseUnavailable: No connection could be had, or it broke: whether the job is stored isn't known then.
        """
        own = _driver_connection("start", connection)
        verb = self._verbs.start(
            task_of(task), metadata, execution_metadata, in_callers_transaction=own is not None, **place
        )
        return self._drive("start", verb, own)

    @overload
    def start_many(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> list[Job[M, X, R, E]]: ...
    @overload
    def start_many(
        self,
        task: type[TaskClass[M, X, R, E]],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> list[Job[M, X, R, E]]: ...
    def start_many(
        self,
        task: Any,
        metadata: Iterable[Any],
        execution_metadata: Any = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Any:
        """Start many jobs, in batches, as `Task.start_many` does."""
        own = _driver_connection("start_many", connection)
        verb = self._verbs.start_many(
            task_of(task), metadata, execution_metadata, in_callers_transaction=own is not None, **place
        )
        return self._drive("start_many", verb, own)

    @overload
    def start_batches(
        self,
        task: Task[M, X, R, E],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Generator[list[Job[M, X, R, E]]]: ...
    @overload
    def start_batches(
        self,
        task: type[TaskClass[M, X, R, E]],
        metadata: Iterable[M],
        execution_metadata: X | None = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Generator[list[Job[M, X, R, E]]]: ...
    def start_batches(
        self,
        task: Any,
        metadata: Iterable[Any],
        execution_metadata: Any = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Any:
        """Start jobs batch by batch, as `Task.start_batches` does: `for jobs in app.blocking.start_batches(…)`."""
        own = _driver_connection("start_batches", connection)
        batches = self._verbs.batches(
            task_of(task), execution_metadata, in_callers_transaction=own is not None, **place
        )
        return self._store(batches, metadata, own)

    @overload
    def proceed(
        self,
        which: int | JobQuery,
        modification: Callable[[Any], Any] | None = None,
        *,
        at: Due | None = None,
        task: None = None,
    ) -> ProceedAnswer: ...
    @overload
    def proceed(
        self,
        which: int | JobQuery,
        modification: Callable[[X], X] | None = None,
        *,
        at: Due | None = None,
        task: Task[M, X, R, E] | type[TaskClass[M, X, R, E]],
    ) -> ProceedAnswerOf[M, X, R, E]: ...
    def proceed(
        self,
        which: int | JobQuery,
        modification: Callable[[Any], Any] | None = None,
        *,
        at: Due | None = None,
        task: Any = None,
    ) -> Any:
        """Let a suspended job go on, as `App.proceed` does; of one task only, when that is given."""
        of_task = None if task is None else task_of(task)
        return self._drive("proceed", self._verbs.proceed(which, modification, at=at, task=of_task))

    def send(
        self,
        task: Task[Any, Any, Any, Any] | type[TaskClass[Any, Any, Any, Any]],
        which: int | JobQuery,
        event: object,
        *,
        connection: object = None,
    ) -> SendAnswer:
        """Send an event to a job of this task, as `Task.send` does; `connection` is as for `start`."""
        own = _driver_connection("send", connection)
        verb = self._verbs.send(task_of(task), which, event, in_callers_transaction=own is not None)
        return self._drive("send", verb, own)

    def cancel(self, job_id: int) -> CancelAnswer:
        """Cancel a job, as `App.cancel` does."""
        return self._drive("cancel", self._verbs.cancel(job_id))

    def retry(self, job_id: int, *, afresh: bool = False, execution_metadata: object = None) -> RetryAnswer:
        """Let an ended job begin again, as `App.retry` does."""
        return self._drive("retry", self._verbs.retry(job_id, afresh=afresh, execution_metadata=execution_metadata))

    def history(self, job_id: int) -> list[AttemptRecord[Any]]:
        """Read the attempts of a job, as `App.history` does."""
        return self._drive("history", self._verbs.history(job_id))

    def unread_events(self, job_id: int) -> int:
        """Count the events that a job hasn't consumed, as `App.unread_events` does."""
        return self._drive("unread_events", self._verbs.unread_events(job_id))

    def job(self, job_id: int) -> Job[Any, Any, Any, Any]:
        """Read a job.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        row = self._read(job_id)
        if row is None:
            message = f"there is no job {job_id}"
            raise JobNotFoundError(message)
        return self._verbs.job(row)

    def jobs(self, query: JobQuery | None = None) -> Iterator[Job[Any, Any, Any, Any]]:
        """Read jobs page by page, as `App.jobs` does."""
        query = check_query("jobs", query)
        after: int | None = None
        while True:
            page = self._drive("jobs", self._verbs.page(query, after))
            yield from page
            if len(page) < query.page_size:
                return
            after = page[-1].id

    def check_resume(self, on_progress: Callable[[ResumeProgress], None] | None = None) -> Iterator[ResumeProblem]:
        """Find live jobs that wouldn't go on with the code at hand, as `App.check_resume` does."""
        place: Place | None = Place()
        total = 0 if on_progress is None else self._drive("check_resume", self._verbs.count_live())
        while place is not None:
            if on_progress is not None:
                on_progress(ResumeProgress(place.jobs, place.events, total))
            problems, place = self._drive("check_resume", self._verbs.check_page(place))
            yield from problems

    def refresh(self, job: Job[M, X, R, E]) -> Job[M, X, R, E]:
        """Read a job anew, into the same object, as `Job.refresh` does."""
        job.show(self._read(job.id))
        return job

    def result(self, job: Job[M, X, R, E], timeout: Duration | None = None) -> R:
        """Wait until a job has ended, and return its result or raise as `Job.result` does.

        It polls, every half second at least. A first look that fails raises `DatabaseUnavailable`; later ones are made
        again. When `timeout` is over it looks once more, which takes up to 2 s longer where the database is slow to
        answer: a first connection included.

        Raises:
            MisuseError: The time-out is no duration.
        """
        seconds = wait_seconds(timeout, key="result: timeout")
        look_until_ended(job, self._read, seconds, polling_seconds=self._polling_seconds)
        return job.ended_result(seconds)

    def close(self) -> None:
        """Close the connections, which open again when they are needed; closing the app closes them too."""
        self._close()

    def _read(self, job_id: int, limit_seconds: float = math.inf) -> JobRow | None:
        return _drive(self._verbs.read(job_id), lambda step: self._run("read a job", step, None, limit_seconds))

    def _store(
        self, batches: Batches[M, X, R, E], metadata: Iterable[M], own: Connection[Any] | None
    ) -> Generator[list[Job[M, X, R, E]]]:
        with batches.noted("start_batches"):
            for storing in batches.of(metadata, purpose="start_batches"):
                yield self._drive("start_batches", storing, own)

    def _drive(self, purpose: str, verb: Verb[T], own: Connection[Any] | None = None) -> T:
        return _drive(verb, lambda step: self._run(purpose, step, own))

    def _run(self, purpose: str, step: Step, own: Connection[Any] | None, limit_seconds: float = math.inf) -> Any:
        if own is None:
            with self._connection(purpose, limit_seconds) as connection:
                return _run_step(connection, step, direct.run_blocking)
        with explained(purpose):
            return _run_step(own, step, calls.run_blocking)


def _run_step(connection: Connection[Any], step: Step, run: Callable[[Connection[Any], Call[Any]], Any]) -> Any:
    if not isinstance(step, Together):
        return run(connection, step)
    if is_in_transaction(connection):  # the caller's
        return _drive(step.verb, lambda inner: _run_step(connection, inner, run))
    with connection.transaction():
        connection.execute(step.setting)
        return _drive(step.verb, lambda inner: _run_step(connection, inner, run))


def _drive(verb: Verb[T], run: Callable[[Step], Any]) -> T:
    try:
        step = next(verb)
        while True:
            try:
                answer = run(step)
            except BaseException as error:  # noqa: BLE001 - it is the verb's to handle, or to let pass
                step = verb.throw(error)
            else:
                step = verb.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


def _driver_connection(purpose: str, connection: object) -> Connection[Any] | None:
    """Return the psycopg connection that the caller means: it, or the one that Django's wrapper holds."""
    if connection is None:
        return None
    inner: Any = connection
    if not isinstance(inner, Connection | AsyncConnection):
        ensure = getattr(inner, "ensure_connection", None)  # Django connects at the first query
        if callable(ensure):
            ensure()
        with contextlib.suppress(Exception):  # of somebody's own property: then it is no such wrapper
            inner = getattr(inner, "connection", None)
    if isinstance(inner, Connection):
        return inner  # pyright: ignore[reportUnknownVariableType] - whatever its rows are
    if isinstance(inner, AsyncConnection):
        message = f"{purpose}: connection= is an async connection; await the task's own {purpose}(…, connection=…)"
    else:
        message = (
            f"{purpose}: connection= is {type(connection).__module__}.{type(connection).__qualname__}; app.blocking "
            "takes a psycopg.Connection, or an object such as Django's whose `connection` is one"
        )
    raise MisuseError(message)
