"""For code that doesn't await: the context and the base class of `def` handlers, and the verbs, as `app.blocking`.

Thin: the verbs are those of `verbs`, run on sync connections. In an `async def`, use the app's own.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from psycopg import AsyncConnection, Connection

from perdure.connections import explained
from perdure.context import BlockingContext as Context
from perdure.errors import JobNotFoundError, MisuseError
from perdure.query import JobQuery
from perdure.store import calls
from perdure.task import BlockingBackgroundTask as BackgroundTask
from perdure.task import task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Unpack

    from perdure.answers import CancelAnswer, ProceedAnswer
    from perdure.due import Due
    from perdure.job import Job
    from perdure.options import PlaceOptions
    from perdure.store.calls import Call
    from perdure.store.jobs import JobRow
    from perdure.task import Task, TaskClass
    from perdure.verbs import Verbs

__all__ = ["BackgroundTask", "Blocking", "Context"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")

_FIRST_LOOK_SECONDS = 0.02


class Blocking:
    """The verbs for sync code. Opens its connections by itself when they are needed."""

    def __init__(
        self,
        verbs: Verbs,
        connection: Callable[[str], AbstractContextManager[Connection[Any]]],
        close: Callable[[], None],
        *,
        polling_seconds: float,
    ) -> None:
        """Run verbs on connections that `connection` lends for a purpose."""
        self._verbs = verbs
        self._connection = connection
        self._close = close
        self._polling_seconds = polling_seconds

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
        metadata: Any,
        execution_metadata: Any = None,
        *,
        connection: object = None,
        **place: Unpack[PlaceOptions],
    ) -> Any:
        """Start a job.

        Args:
            task: What `app.task` made: a task, or a class.
            metadata: Its input.
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

    def proceed(self, job_id: int, *, at: Due | None = None) -> ProceedAnswer:
        """Let a suspended job go on, as `App.proceed` does."""
        return self._drive("proceed", self._verbs.proceed(job_id, at=at))

    def cancel(self, job_id: int) -> CancelAnswer:
        """Cancel a job, as `App.cancel` does."""
        return self._drive("cancel", self._verbs.cancel(job_id))

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
        query = query or JobQuery()
        after: int | None = None
        while True:
            page = self._drive("jobs", self._verbs.page(query, after))
            yield from page
            if len(page) < query.page_size:
                return
            after = page[-1].id

    def refresh(self, job: Job[M, X, R, E]) -> Job[M, X, R, E]:
        """Read a job anew, into the same object, as `Job.refresh` does."""
        job.show(self._read(job.id))
        return job

    def result(self, job: Job[M, X, R, E], timeout: float | timedelta | None = None) -> R:
        """Wait until a job has ended, by polling, and return its result or raise as `Job.result` does."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        ends_at_seconds = None if seconds is None else time.monotonic() + seconds
        wait_seconds = _FIRST_LOOK_SECONDS
        while not self.refresh(job).state.is_final:
            if ends_at_seconds is not None:
                wait_seconds = min(wait_seconds, ends_at_seconds - time.monotonic())
                if wait_seconds <= 0:
                    break
            time.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, self._polling_seconds)
        return job.ended_result(seconds)

    def close(self) -> None:
        """Close the connections, which open again when they are needed; closing the app closes them too."""
        self._close()

    def _read(self, job_id: int) -> JobRow | None:
        return self._drive("read a job", self._verbs.read(job_id))

    def _drive(self, purpose: str, verb: Generator[Call[Any], Any, T], own: Connection[Any] | None = None) -> T:
        try:
            call = next(verb)
            while True:
                try:
                    answer = self._run(purpose, call, own)
                except BaseException as error:  # noqa: BLE001 - it is the verb's to handle, or to let pass
                    call = verb.throw(error)
                else:
                    call = verb.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _run(self, purpose: str, call: Call[Any], own: Connection[Any] | None) -> Any:
        if own is None:
            with self._connection(purpose) as connection:
                return calls.run_blocking(connection, call)
        with explained(purpose):
            return calls.run_blocking(own, call)


def _driver_connection(purpose: str, connection: object) -> Connection[Any] | None:
    """Return the psycopg connection that the caller means: it, or the one that Django's wrapper holds."""
    if connection is None:
        return None
    inner: Any = connection
    if not isinstance(inner, Connection | AsyncConnection):
        ensure = getattr(inner, "ensure_connection", None)  # Django connects at the first query
        if callable(ensure):
            ensure()
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
