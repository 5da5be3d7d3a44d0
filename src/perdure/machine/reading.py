"""Reads a machine off its class; refuses what can't be one: with the task, the class, and the state or handler named.

Says nothing of how a machine runs.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn

from perdure.core.codec import Codec, codec_for
from perdure.core.codec.hints import class_hints, is_typed_dict
from perdure.errors import DefinitionError, PayloadError
from perdure.machine.handlers import Known, read_handler, show
from perdure.machine.plan import Machine, MachineCodec, show_states
from perdure.machine.state import MachineState, Role, roles_of
from perdure.signatures import Signature, bare, class_arguments, members_of, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perdure.machine.plan import Handler

__all__ = ["read_machine"]

_PARAMETERS: Final = ("metadata", "states", "result", "error")


def read_machine(where: str, cls: type, base: type, names: Mapping[str, Any] | None = None) -> Signature:
    """Read a machine.

    Args:
        where: What to call the task in errors: "task 'orders.fulfil'".
        cls: The machine's class.
        base: `StateMachine`.
        names: Names that annotations may use beside those of the class's module.

    Raises:
        DefinitionError: It can't be a machine.
    """
    metadata, union, result, error = class_arguments(where, cls, base, names, _PARAMETERS)
    error = Never if error is NoReturn else error
    task, where = where, f"{where}: the machine {cls.__name__}"
    states = _read_states(where, union)
    known = Known(task, metadata, states, result, error, names)
    handlers, execution_metadata = _read_handlers(where, cls, known)
    if execution_metadata is None:
        execution_metadata = _machine_state(union)
    _check_execution_metadata(where, execution_metadata, states)
    codec = _codec(f"{where}: states", union)
    initial = _read_initial(where, cls, states)
    payload = None if initial is None else _store(where, codec, initial)
    try:
        own_codec = MachineCodec(execution_metadata, cls.__name__, payload, codec)
    except DefinitionError as refusal:
        message = f"{where}: execution metadata: {refusal}"
        raise DefinitionError(message) from refusal
    machine = Machine(
        name=cls.__name__,
        handlers=handlers,
        initial=None if initial is None else initial.__class__,
        codec=own_codec,
        states=codec,
    )
    return Signature(metadata, execution_metadata, result, error, is_async=True, machine=machine)


def _read_states(where: str, union: Any) -> dict[type, Any]:
    """Return the members of the union by their classes."""
    states: dict[type, Any] = {}
    for member in members_of(union):
        state = origin_of(bare(member))
        if not isinstance(state, type) or state is types.NoneType or is_typed_dict(state):
            message = (
                f"{where}: {show(member)} can't be a state: a state is a class whose instances tell that they are "
                "of it, as dataclasses, Structs and models do"
            )
            raise DefinitionError(message)
        if state in states:
            message = f"{where}: the union has the state {state.__name__} twice"
            raise DefinitionError(message)
        states[state] = member
    return states


def _read_handlers(where: str, cls: type, known: Known) -> tuple[dict[type, Handler], Any]:
    """Return the handler of each state, in the union's order, and the execution metadata that their contexts name."""
    handlers: dict[type, Handler] = {}
    found: tuple[str, Any] | None = None
    for method, role in _roles(cls):
        state = _state_of(where, method, role, known)
        if other := handlers.get(state):
            message = f"{where}: the state {state.__name__} has two handlers: {other.method} and {method}"
            raise DefinitionError(message)
        handler, execution_metadata = read_handler(cls, method, state, role, known)
        handlers[state] = handler
        if execution_metadata is None:
            continue
        if found is not None and execution_metadata != found[1]:
            message = (
                f"{where}: the contexts of its handlers have different execution metadata: "
                f"{show(found[1])} in {found[0]}, {show(execution_metadata)} in {method}"
            )
            raise DefinitionError(message)
        found = (method, execution_metadata)
    for state in known.states:
        if state not in handlers:
            message = f"{where}: the state {state.__name__} has no handler: write a method with @on({state.__name__})"
            raise DefinitionError(message)
    return {state: handlers[state] for state in known.states}, None if found is None else found[1]


def _roles(cls: type) -> Iterator[tuple[str, Role]]:
    """Yield the handlers in the order in which they are written, those of the class's bases first."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        for role in roles_of(inspect.getattr_static(cls, name)):
            yield name, role


def _state_of(where: str, method: str, role: Role, known: Known) -> type:
    state = origin_of(bare(role.state))
    if state in known.states:
        return state  # type: ignore[no-any-return]
    what = f"the state {show(role.state)}" if isinstance(state, type) else repr(role.state)
    message = f"{where}: the handler {method} is for {what}, which isn't among its states: {show_states(known.states)}"
    raise DefinitionError(message)


def _machine_state(union: Any) -> Any:
    make: Any = MachineState
    return make[union]


def _check_execution_metadata(where: str, annotation: Any, states: Mapping[type, Any]) -> None:
    """Make sure that the contexts' execution metadata is a `MachineState` of just these states."""
    cls: Any = origin_of(bare(annotation))
    if not isinstance(cls, type) or MachineState not in cls.__mro__:
        message = (
            f"{where}: the contexts of its handlers have the execution metadata {show(annotation)}; it must be "
            "MachineState[States], or a class derived from that"
        )
        raise DefinitionError(message)
    forgotten = next((name for name in inspect.get_annotations(cls) if name not in _field_names(cls)), None)
    if forgotten is not None and "dataclasses.InitVar" not in str(inspect.get_annotations(cls)[forgotten]):
        message = f"{where}: the field {forgotten!r} of {cls.__name__} would be lost: put @dataclass above the class"
        raise DefinitionError(message)
    try:
        held = class_hints(bare(annotation))["state"]
    except NameError:
        return  # the codec says what is wrong
    found = {origin_of(bare(member)) for member in members_of(held)}
    if found != set(states):
        message = (
            f"{where}: the contexts of its handlers have the states {show(held)}, but the class is declared with "
            f"{show_states(states)}"
        )
        raise DefinitionError(message)


def _field_names(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _read_initial(where: str, cls: type, states: Mapping[type, Any]) -> Any:
    initial = inspect.getattr_static(cls, "initial", None)
    if initial is None or type(initial) in states:
        return initial
    if isinstance(initial, type) and initial in states:
        message = f"{where}: initial is the class {initial.__name__}, not a state: write {initial.__name__}(…)"
    else:
        message = f"{where}: initial is {initial!r}, which is none of its states: {show_states(states)}"
    raise DefinitionError(message)


def _codec(where: str, annotation: Any) -> Codec[Any]:
    try:
        return codec_for(annotation)
    except DefinitionError as error:
        message = f"{where}: {error}"
        raise DefinitionError(message) from error


def _store(where: str, codec: Codec[Any], initial: Any) -> bytes:
    try:
        return codec.encode(initial, what="initial", limit=None)
    except PayloadError as error:
        message = f"{where}: {error}"
        raise DefinitionError(message) from error
