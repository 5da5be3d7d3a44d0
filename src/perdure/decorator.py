"""What `app.task(…)` returns: the decorator whose overloads let type checkers read a task's types off its handler."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from perdure.classes import TaskClass

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import FrameType

    # A default says what is inferred where a handler's annotation names no such type. Checkers know typing_extensions
    # of themselves; it needn't be installed.
    from typing_extensions import TypeVar as TypeVarWithDefault

    from perdure.context import BlockingContext, Context
    from perdure.outcome import Cancelled, Completed, Failed, Suspended, Value
    from perdure.task import Task

    R = TypeVarWithDefault("R", bound=Value, default=None)
    E = TypeVarWithDefault("E", default=Never)
    E2 = TypeVarWithDefault("E2", default=Never)

__all__ = ["TaskDecorator"]

M = TypeVar("M")
X = TypeVar("X")
C = TypeVar("C", bound=type[TaskClass[Any, Any, Any, Any]])


class TaskDecorator:
    """Makes a task of the function or the class below it."""

    def __init__(self, register: Callable[[Any, Mapping[str, Any] | None], Any]) -> None:
        """Hand what is decorated to `register`, with the names around it."""
        self._register = register

    # One overload for each kind of handler and of return annotation. Those without outcomes come first, so that mypy
    # keeps a union of results as it is; beside outcomes it takes their common base (Completed[A | B] keeps them apart).

    @overload
    def __call__(self, handler: C, /) -> C: ...  # type: ignore[overload-overlap] # pyright: ignore[reportOverlappingOverload] - a class is callable too
    @overload
    def __call__(self, handler: Callable[[Context[M, X]], Coroutine[Any, Any, R]], /) -> Task[M, X, R, Never]: ...
    @overload
    def __call__(
        self, handler: Callable[[Context[M, X]], Coroutine[Any, Any, R | Completed[R] | Suspended]], /
    ) -> Task[M, X, R, Never]: ...
    @overload
    def __call__(
        self,
        handler: Callable[
            [Context[M, X]], Coroutine[Any, Any, R | Completed[R] | Suspended | Failed[E] | Cancelled[E2]]
        ],
        /,
    ) -> Task[M, X, R, E | E2]: ...
    @overload
    def __call__(self, handler: Callable[[BlockingContext[M, X]], R], /) -> Task[M, X, R, Never]: ...
    @overload
    def __call__(
        self, handler: Callable[[BlockingContext[M, X]], R | Completed[R] | Suspended], /
    ) -> Task[M, X, R, Never]: ...
    @overload
    def __call__(
        self, handler: Callable[[BlockingContext[M, X]], R | Completed[R] | Suspended | Failed[E] | Cancelled[E2]], /
    ) -> Task[M, X, R, E | E2]: ...
    def __call__(self, handler: Any, /) -> Any:
        """Define the task.

        Raises:
            DefinitionError: The handler can't be a task; the message names the task and what is wrong with it.
        """
        frame = sys._getframe(1)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see _names_around
        return self._register(handler, _names_around(handler, frame))


def _names_around(handler: Any, frame: FrameType) -> Mapping[str, Any] | None:
    """Return the names of the function that a handler is defined in, which its module doesn't know.

    An annotation that is a string (every one, with `from __future__ import annotations`) may use them.
    """
    if "<locals>" not in getattr(handler, "__qualname__", ""):
        return None
    if frame.f_globals.get("__name__") != getattr(handler, "__module__", None):
        return None
    return frame.f_locals
