"""A machine as its definition was understood: its states, and what the handler of each may return.

Pure data, and the questions that a run and the graph ask of it. Reads no annotations: `reading` does.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.core.codec import Codec
from perdure.core.codec.restoring import put_back
from perdure.errors import MisuseError, PayloadRefused
from perdure.outcome import Cancelled, Completed, Failed, Outcome, Suspended

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Handler", "Machine", "MachineCodec", "show_states"]

AnyOutcome = Completed[Any] | Suspended[Any] | Failed[Any] | Cancelled[Any]


class MachineCodec(Codec[Any]):
    """The codec of a machine's execution metadata: what nobody gave begins in the machine's initial state."""

    def __init__(self, annotation: Any, machine: str, initial: bytes | None, states: Codec[Any]) -> None:
        """Keep the initial state as it is stored, so that each job gets one of its own; None where there is none."""
        super().__init__(annotation)
        self._machine = machine
        self._initial = initial
        self._states = states

    def default(self) -> Any:
        """Make the execution metadata of a new job.

        Raises:
            PayloadRefused: The machine has no initial state, or another field has no default.
        """
        cls: Any = getattr(self.type, "__origin__", self.type)
        values: dict[str, Any] = {}
        if self._initial is not None:
            values["state"] = self._states.decode(self._initial, what=f"initial of {self._machine}")
        missing = [name for name in _required(cls) if name not in values]
        if not missing:
            return cls(**values)
        if missing[0] == "state":
            message = (
                f"the machine {self._machine} has no initial state: give it one (initial = …), or start the job with a "
                f"{cls.__name__}"
            )
        else:
            message = (
                f"{cls.__name__} has no default, since its field {missing[0]!r} has none: start the job with one, or "
                "give the field a default"
            )
        raise PayloadRefused(message)

    def restore(self, target: Any, data: bytes) -> Any:
        """As every codec does; and the state's own content is replaced too, in place: a handler holds that object."""
        value = self.decode(data, what=self.name)
        value.state = put_back(getattr(target, "state", None), value.state)
        return put_back(target, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """The handler of a state, and what its return annotation allows.

    Attributes:
        where: What to call it in errors: "task 'orders.fulfil': Fulfil.place".
        state: The class of the states that it handles.
        method: Its name in the class.
        repeatable: Whether a run may come to an equal state again.
        allowed: What it may return, as code has it.
        moves: The states that it may return.
        suspends: Whether it may suspend in the state that it has.
        waits: The states in which it may suspend otherwise.
        results: The types of the results that it may complete with.
        failures: The types of the errors that it may fail with.
        cancels: The types of the errors that it may cancel with.
    """

    where: str
    state: type
    method: str
    repeatable: bool
    allowed: str
    moves: tuple[type, ...] = ()
    suspends: bool = False
    waits: tuple[type, ...] = ()
    results: tuple[Any, ...] = ()
    failures: tuple[Any, ...] = ()
    cancels: tuple[Any, ...] = ()

    def may_end_with(self, outcome: AnyOutcome) -> bool:
        """Tell whether its annotation has this kind of outcome."""
        match outcome:
            case Suspended(state=None):
                return self.suspends or bool(self.waits)
            case Suspended():
                return type(outcome.state) in self.waits or (self.suspends and type(outcome.state) is self.state)
            case Completed():
                return bool(self.results)
            case Failed():
                return bool(self.failures)
            case Cancelled():
                return bool(self.cancels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine.

    Attributes:
        name: Its class's name.
        handlers: The handler of each state, in the order of the union.
        initial: The class of its initial state; None where `start` has to be given one.
        codec: How its execution metadata is stored.
        states: How a state is stored.
    """

    name: str
    handlers: Mapping[type, Handler]
    initial: type | None
    codec: Codec[Any]
    states: Codec[Any]

    def handler_of(self, state: object) -> Handler:
        """Return the handler of a state.

        Raises:
            MisuseError: It is no state of the machine.
        """
        handler = self.handlers.get(type(state))
        if handler is None:
            message = f"{state!r} is no state of {self.name}, which has {show_states(self.handlers)}"
            raise MisuseError(message)
        return handler

    def check_next(self, handler: Handler, state: object) -> None:
        """Make sure that a handler may return this as the next state.

        Raises:
            MisuseError: Its annotation doesn't have it.
        """
        if type(state) in handler.moves:
            return
        if type(state) in self.handlers or isinstance(state, Outcome):
            reason = f"and by its annotation it returns {handler.allowed}"
        else:
            reason = (
                f"which is no state of {self.name} ({show_states(self.handlers)}); a result is returned as "
                "Completed(result)"
            )
        message = f"{handler.where} returned {state!r}, {reason}"
        raise MisuseError(message)

    def check_outcome(self, handler: Handler, outcome: AnyOutcome) -> None:
        """Make sure that a handler may return this outcome, with the state that it carries.

        Raises:
            MisuseError: Its annotation doesn't have it, or the state is none of the machine's.
        """
        state = outcome.state
        if state is not None and type(state) not in self.handlers:
            message = (
                f"{handler.where} returned {type(outcome).__name__}(state={state!r}), which is no state of "
                f"{self.name} ({show_states(self.handlers)})"
            )
            raise MisuseError(message)
        if not handler.may_end_with(outcome):
            message = f"{handler.where} returned {outcome!r}, and by its annotation it returns {handler.allowed}"
            raise MisuseError(message)


def _required(cls: Any) -> list[str]:
    """Name the fields that have to be given, the state first."""
    none = dataclasses.MISSING
    return [each.name for each in dataclasses.fields(cls) if each.init and each.default is each.default_factory is none]


def show_states(states: Mapping[type, object]) -> str:
    """Name states in a message."""
    return " | ".join(state.__name__ for state in states)
