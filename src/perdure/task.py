"""What a task is: a name, four types, a handler and its options; and the verbs that start its jobs.

`classes` makes it of what `app.task` decorates. Runs nothing: the worker does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Never, TypeAlias, TypeVar, cast, overload

from perdure.core.codec import codec_for
from perdure.errors import DefinitionError, MisuseError, PayloadRefused, PayloadUndecodable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable
    from typing import Unpack

    from psycopg import AsyncConnection

    from perdure.answers import JobEnded, JobNotFound, MultipleJobsFound, ProceedAnswerOf, Sent
    from perdure.client import Client
    from perdure.context import BlockingContext, Context
    from perdure.core.codec import Codec
    from perdure.due import Due
    from perdure.job import Job
    from perdure.options import Options, StartOptions
    from perdure.outcome import Cancelled, Completed, Failed, Suspended
    from perdure.query import JobQuery
    from perdure.signatures import Signature

__all__ = ["Resolver", "Task"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")

Resolver: TypeAlias = Callable[[type[Any]], Any]
"""Makes an instance of a task's class, with what its `__init__` needs: a container's `get`, for one."""


class Task(Generic[M, X, R, E]):
    """A task's definition. `app.task` makes it; it stays callable as the function that it was.

    Attributes:
        name: What jobs are stored under.
        metadata: How a job's input is stored.
        execution_metadata: How its checkpoint is stored.
        result: How its result is stored.
        error: How its error is stored.
        events: How its events are stored; None when it takes none.
        options: Queue, priority, time-out and retries.
        is_async: Whether the handler runs in the event loop; else it runs in a thread.
        machine: The states and their handlers, when it is a state machine.
        handler: The function, or the class whose `execute` it is.
    """

    def __init__(
        self, name: str, handler: Callable[..., Any], signature: Signature, options: Options, client: Client
    ) -> None:
        """Make the codecs of the task's types.

        Raises:
            DefinitionError: One of the types can't be stored.
        """
        functools.update_wrapper(self, handler, updated=())
        self.name = name
        self.handler = handler
        self.is_async = signature.is_async
        self.options = options
        self.metadata: Codec[M] = _codec(name, "metadata", signature.metadata)
        self.machine = signature.machine
        self.execution_metadata: Codec[X] = (
            _codec(name, "execution metadata", signature.execution_metadata)
            if signature.machine is None
            else signature.machine.codec
        )
        self.result: Codec[R] = _codec(name, "result", signature.result)
        self.error: Codec[E] = _error_codec(name, signature.error)
        self.events: Codec[Any] | None = None if options.events is None else _events_codec(name, options.events)
        self._client = client
        self._needs_no_arguments = False

    def __repr__(self) -> str:
        return f"<Task {self.name!r}: {self.handler.__module__}.{self.handler.__qualname__}>"

    @overload
    def __call__(
        self, ctx: Context[M, X], /
    ) -> Coroutine[Any, Any, R | Completed[R] | Suspended | Failed[E] | Cancelled[E]]: ...
    @overload
    def __call__(self, ctx: BlockingContext[M, X], /) -> R | Completed[R] | Suspended | Failed[E] | Cancelled[E]: ...
    def __call__(self, ctx: Any, /) -> Any:
        """Call the handler itself, without a job: for tests of its logic."""
        return self.handler(ctx)

    @overload
    async def start(
        self: Task[None, X, R, E],
        metadata: None = None,
        execution_metadata: X | None = None,
        **options: Unpack[StartOptions],
    ) -> Job[None, X, R, E]: ...
    @overload
    async def start(
        self, metadata: M, execution_metadata: X | None = None, **options: Unpack[StartOptions]
    ) -> Job[M, X, R, E]: ...
    async def start(self, metadata: Any = None, execution_metadata: Any = None, **options: Any) -> Any:
        """Start a job.

        Args:
            metadata: Its input.
            execution_metadata: Its first checkpoint; when left out, one whose fields all have their defaults.
            options: `at`, `queue`, `priority` and `connection`, as `StartOptions` says.

        Raises:
            PayloadRefused: A payload can't be stored; the message says where and why.
            MisuseError: An option isn't allowed.
            DatabaseUnavailable: No connection could be had, or it broke: whether the job is stored isn't known then.
        """
        return await self._client.start(self, metadata, execution_metadata, **options)

    async def start_many(
        self, metadata: Iterable[M], execution_metadata: X | None = None, **options: Unpack[StartOptions]
    ) -> list[Job[M, X, R, E]]:
        """Start a job for each metadata, in batches; the jobs come in the same order.

        Each batch is stored as a whole, and when one can't be, those before it stay: pass `connection=` for all or
        none. Arguments and errors are those of `start`. For more jobs than fit into memory: `start_batches`.
        """
        return await self._client.start_many(self, metadata, execution_metadata, **options)

    def start_batches(
        self,
        metadata: Iterable[M] | AsyncIterable[M],
        execution_metadata: X | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncGenerator[list[Job[M, X, R, E]]]:
        """Start a job for each metadata, however many: `async for jobs in task.start_batches(rows)`.

        Reads a batch, of 1,000 or of 8 MiB, stores it and yields its jobs, in the same order, before it reads on. So it
        holds one batch at a time, and no connection while the caller has its jobs. Nothing is stored before it is
        iterated over, nor after the iteration is broken off. Arguments, errors and what stays are as for `start_many`.
        """
        return self._client.start_batches(self, metadata, execution_metadata, **options)

    async def proceed(
        self, which: int | JobQuery, modification: Callable[[X], X] | None = None, *, at: Due | None = None
    ) -> ProceedAnswerOf[M, X, R, E]:
        """Let a suspended job of this task go on, as `App.proceed` does."""
        return await self._client.proceed_of(self, which, modification, at=at)

    @overload
    async def send(
        self, which: int, event: object, *, connection: AsyncConnection[Any] | None = None
    ) -> Sent | JobNotFound | JobEnded[M, X, R, E]: ...
    @overload
    async def send(
        self, which: JobQuery, event: object, *, connection: AsyncConnection[Any] | None = None
    ) -> Sent | JobNotFound | JobEnded[M, X, R, E] | MultipleJobsFound[M, X, R, E]: ...
    async def send(self, which: Any, event: object, *, connection: AsyncConnection[Any] | None = None) -> Any:
        """Send an event to a job of this task, which gets it from `ctx.next_event()`; a suspended one goes on.

        Args:
            which: The job's id, or a query that finds one job; it looks at jobs that haven't ended, unless it names
                states.
            event: The event, of a type that the task's option `events` allows.
            connection: A connection of the caller's: the event is stored in its transaction, and rolled back with it.

        Returns:
            `Sent(job_id)`; `JobEnded(job)`, and nothing is stored; `JobNotFound()`, also for a job of another task;
            or, for a query, `MultipleJobsFound(jobs)`.

        Raises:
            MisuseError: The task takes no events.
            PayloadRefused: The event is of another type, or can't be stored.
        """
        return await self._client.send(self, which, event, connection=connection)

    def bind(self, resolver: Resolver | None = None) -> Callable[[Any], Any]:
        """Return what runs an attempt: it takes the context, and returns the outcome or a coroutine of it.

        Of a class an instance is made for every attempt.

        Args:
            resolver: Makes the instances; without it the class is called without arguments.

        Raises:
            DefinitionError: There is no resolver, and the class can't be made without arguments.
        """
        handler = self.handler
        if not isinstance(handler, type):
            return handler
        make = functools.partial(self._resolve, handler, resolver) if resolver else self._constructor(handler)
        return lambda ctx: make().execute(ctx)

    def _constructor(self, cls: type[Any]) -> type[Any]:
        if self._needs_no_arguments:
            return cls
        try:
            inspect.signature(cls).bind()
        except TypeError as error:
            message = (
                f"task {self.name!r}: the class {cls.__name__} can't be made without arguments ({error}); "
                "give the app what makes it: App(resolver=…)"
            )
            raise DefinitionError(message) from None
        self._needs_no_arguments = True
        return cls

    def _resolve(self, cls: type[Any], resolver: Resolver) -> Any:
        instance = resolver(cls)
        if not isinstance(instance, cls):
            message = f"task {self.name!r}: the app's resolver returned {instance!r}, which is no {cls.__name__}"
            raise MisuseError(message)
        return instance


def _codec(task: str, what: str, annotation: Any) -> Codec[Any]:
    try:
        return codec_for(annotation)
    except DefinitionError as error:
        message = f"task {task!r}, {what}: {error}"
        raise DefinitionError(message) from error


def _events_codec(task: str, annotation: Any) -> Codec[Any]:
    codec = _codec(task, "events", annotation)
    # Any is taken: nobody need send None, and `send` refuses it.
    if codec.type is not Any and _takes_none(codec):
        message = (
            f"task {task!r}, events: {codec.name}: None can't be an event: next_event() returns it when there is none; "
            "make it a class of its own, such as an empty dataclass"
        )
        raise DefinitionError(message)
    return codec


def _takes_none(codec: Codec[Any]) -> bool:
    try:
        return codec.decode(b"null", what="") is None
    except PayloadUndecodable:
        return False


def _error_codec(task: str, annotation: Any) -> Codec[Any]:
    if annotation is Never:
        return cast("Codec[Any]", _Undeclared(task))
    return _codec(task, "error", annotation)


class _Undeclared:
    """Stands for the codec of errors where the handler declares none."""

    def __init__(self, task: str) -> None:
        self._task = task

    def encode(self, value: object, *, what: str, limit: int | None) -> bytes:  # noqa: ARG002 - a codec's signature
        message = (
            f"{what}: {value!r}: the task {self._task!r} declares no error; "
            "add Failed[…] or Cancelled[…] to the return annotation of its handler"
        )
        raise PayloadRefused(message)

    def decode(self, data: bytes, *, what: str) -> Never:
        message = f"{what}: {data[:100].decode(errors='replace')}: the task {self._task!r} declares no error"
        raise PayloadUndecodable(message)
