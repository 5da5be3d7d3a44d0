"""What a machine is written with beside its class: `MachineState`, which holds its state, and `@on` above a handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["MachineState", "On", "Role", "on", "roles_of"]

S = TypeVar("S")
Self_ = TypeVar("Self_")
C = TypeVar("C")
T = TypeVar("T")

_MARK: Final = "__perdure_on__"


@dataclass
class MachineState(Generic[S]):
    """A machine's execution metadata. A dataclass derived from it may hold more than the state.

    Attributes:
        state: The state that the machine is in: what its next run begins with.
    """

    state: S


@dataclass(frozen=True, slots=True)
class Role:
    """What `@on(…)` says of the handler below it.

    Attributes:
        state: The class of the states that it handles.
        repeatable: Whether a run may come to an equal state again.
    """

    state: Any
    repeatable: bool


class On(Generic[S]):
    """What `on(…)` returns: it marks the handler below it, and leaves it as it is."""

    def __init__(self, role: Role) -> None:
        """Mark handlers with this role."""
        self._role = role

    def __call__(
        self, handler: Callable[[Self_, S, C], Coroutine[Any, Any, T]], /
    ) -> Callable[[Self_, S, C], Coroutine[Any, Any, T]]:
        """Mark the handler."""
        setattr(handler, _MARK, (*roles_of(handler), self._role))
        return handler


def on(state: type[S], /, *, repeatable: bool = False) -> On[S]:
    """Make the method below the handler of a state: `@on(Placed)`.

    It takes the state and the context, and returns the next state or an outcome; its return annotation says which.

    Args:
        state: The state's class.
        repeatable: Whether a run of the machine may come to an equal state again. If not, that raises `StateRepeated`.
    """
    return On(Role(state, repeatable))


def roles_of(handler: object) -> tuple[Role, ...]:
    """Return what `@on(…)` says of a method; nothing, if it isn't a handler."""
    found: tuple[Role, ...] = getattr(handler, _MARK, ())
    return found
