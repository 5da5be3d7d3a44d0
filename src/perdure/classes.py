"""Tasks as classes; and how what `app.task` decorates, a class or a function, and its definition find each other.

A definition is checked when it is made, so that a worker never meets a wrong one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from perdure.errors import DefinitionError, MisuseError
from perdure.options import read_options
from perdure.signatures import read_class, read_function
from perdure.task import Task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
    from typing import Unpack

    from psycopg import AsyncConnection

    from perdure.answers import JobEnded, JobNotFound, MultipleJobsFound, ProceedAnswerOf, Sent
    from perdure.client import Client
    from perdure.context import BlockingContext, Context
    from perdure.due import Due
    from perdure.job import Job
    from perdure.options import StartOptions
    from perdure.outcome import Cancelled, Completed, Failed, Suspended
    from perdure.query import JobQuery
    from perdure.signatures import Signature

__all__ = ["BackgroundTask", "BlockingBackgroundTask", "TaskClass", "define", "mark", "task_of"]

M = TypeVar("M")
X = TypeVar("X")
R = TypeVar("R")
E = TypeVar("E")

_MARK: Final = "__perdure_task__"


class TaskClass(Generic[M, X, R, E]):
    """What all kinds of task classes have: the verbs, as class methods."""

    @classmethod
    def __perdure_signature__(cls, where: str, names: Mapping[str, Any] | None) -> Signature:
        """Read the types of a class of this kind, and refuse what can't be a task."""
        raise NotImplementedError

    @overload
    @classmethod
    async def start(
        cls: type[TaskClass[None, X, R, E]],
        metadata: None = None,
        execution_metadata: X | None = None,
        **options: Unpack[StartOptions],
    ) -> Job[None, X, R, E]: ...
    @overload
    @classmethod
    async def start(
        cls, metadata: M, execution_metadata: X | None = None, **options: Unpack[StartOptions]
    ) -> Job[M, X, R, E]: ...
    @classmethod
    async def start(cls, metadata: Any = None, execution_metadata: Any = None, **options: Any) -> Any:
        """Start a job, as `Task.start` does."""
        return await task_of(cls).start(metadata, execution_metadata, **options)

    @classmethod
    async def start_many(
        cls, metadata: Iterable[M], execution_metadata: X | None = None, **options: Unpack[StartOptions]
    ) -> list[Job[M, X, R, E]]:
        """Start many jobs, as `Task.start_many` does."""
        return await task_of(cls).start_many(metadata, execution_metadata, **options)

    @classmethod
    def start_batches(
        cls,
        metadata: Iterable[M] | AsyncIterable[M],
        execution_metadata: X | None = None,
        **options: Unpack[StartOptions],
    ) -> AsyncGenerator[list[Job[M, X, R, E]]]:
        """Start jobs batch by batch, as `Task.start_batches` does."""
        return task_of(cls).start_batches(metadata, execution_metadata, **options)

    @classmethod
    async def proceed(
        cls, which: int | JobQuery, modification: Callable[[X], X] | None = None, *, at: Due | None = None
    ) -> ProceedAnswerOf[M, X, R, E]:
        """Let a suspended job of this task go on, as `Task.proceed` does."""
        return await task_of(cls).proceed(which, modification, at=at)

    @overload
    @classmethod
    async def send(
        cls, which: int, event: object, *, connection: AsyncConnection[Any] | None = None
    ) -> Sent | JobNotFound | JobEnded[M, X, R, E]: ...
    @overload
    @classmethod
    async def send(
        cls, which: JobQuery, event: object, *, connection: AsyncConnection[Any] | None = None
    ) -> Sent | JobNotFound | JobEnded[M, X, R, E] | MultipleJobsFound[M, X, R, E]: ...
    @classmethod
    async def send(cls, which: Any, event: object, *, connection: AsyncConnection[Any] | None = None) -> Any:
        """Send an event to a job of this task, as `Task.send` does."""
        return await task_of(cls).send(which, event, connection=connection)


class BackgroundTask(TaskClass[M, X, R, E]):
    """A task as a class: `class ImportOrders(BackgroundTask[Metadata, ExecutionMetadata, Result, Error])`.

    An instance is made for every attempt, by the app's resolver when it has one, so `__init__` may ask for what the
    handler needs. `None` stands for a type that it doesn't need, `Never` for an error that it doesn't have.
    """

    @classmethod
    def __perdure_signature__(cls, where: str, names: Mapping[str, Any] | None) -> Signature:
        return read_class(where, cls, BackgroundTask, names)

    async def execute(self, ctx: Context[M, X]) -> R | Completed[R] | Suspended | Failed[E] | Cancelled[E]:
        """Do the work. To be overridden."""
        raise NotImplementedError


class BlockingBackgroundTask(TaskClass[M, X, R, E]):
    """A `BackgroundTask` whose `execute` is a `def` and runs in a thread."""

    @classmethod
    def __perdure_signature__(cls, where: str, names: Mapping[str, Any] | None) -> Signature:
        return read_class(where, cls, BlockingBackgroundTask, names)

    def execute(self, ctx: BlockingContext[M, X]) -> R | Completed[R] | Suspended | Failed[E] | Cancelled[E]:
        """Do the work. To be overridden."""
        raise NotImplementedError


def define(
    name: str,
    handler: Callable[..., Any],
    options: Mapping[str, object],
    client: Client,
    names: Mapping[str, Any] | None = None,
) -> Task[Any, Any, Any, Any]:
    """Check and make a definition.

    Args:
        name: The task's name.
        handler: A function, or a class derived from `BackgroundTask` or `StateMachine`.
        options: What `app.task` was given.
        client: What its verbs go through.
        names: Names that annotations may use beside those of the handler's module.

    Raises:
        DefinitionError: It can't be a task.
    """
    where = f"task {name!r}"
    checked = read_options(where, options)
    if not isinstance(handler, type):
        return Task(name, handler, read_function(where, handler, names), checked, client)
    cls = cast("type[TaskClass[Any, Any, Any, Any]]", handler)
    if TaskClass not in cls.__mro__:
        message = (
            f"{where}: the class {cls.__name__} isn't derived from "
            "BackgroundTask[Metadata, ExecutionMetadata, Result, Error], nor from StateMachine[…]"
        )
        raise DefinitionError(message)
    signature = cls.__perdure_signature__(where, names)
    return Task(name, cls, signature, checked, client)


def mark(cls: type, task: Task[Any, Any, Any, Any]) -> type:
    """Let a task's class know its definition, for its class methods, and return it.

    Raises:
        DefinitionError: It is a task already.
    """
    other: Task[Any, Any, Any, Any] | None = vars(cls).get(_MARK)
    if other is not None:
        message = f"task {task.name!r}: the class {cls.__name__} is the task {other.name!r} already; derive another"
        raise DefinitionError(message)
    setattr(cls, _MARK, task)
    return cls


def task_of(handler: object) -> Task[Any, Any, Any, Any]:
    """Return the definition behind what `app.task` returned.

    Raises:
        MisuseError: It isn't a task.
    """
    if isinstance(handler, Task):
        return handler  # pyright: ignore[reportUnknownVariableType] - its types don't matter here
    # Not by getattr: a class derived from a task isn't one by that.
    task = vars(handler).get(_MARK) if isinstance(handler, type) else None
    if isinstance(task, Task):
        return task  # pyright: ignore[reportUnknownVariableType]
    name = getattr(handler, "__qualname__", repr(handler))
    message = f'{name} is no task: decorate it with @app.task("its.name")'
    raise MisuseError(message)
