"""Reads a handler of a machine: its parameters, and what its return annotation allows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Never, NoReturn, get_args, get_origin

from perdure.errors import DefinitionError
from perdure.machine.plan import Handler, show_states
from perdure.outcome import Cancelled, Completed, Failed, Outcome, Suspended
from perdure.signatures import bare, hints_of, is_coroutine, members_of, origin_of, read_context, show_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.machine.state import Role

__all__ = ["Known", "read_handler", "show"]

_PARAMETERS: Final = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a machine before its handlers are read.

    Attributes:
        task: What to call the task in errors.
        metadata: The type of its jobs' input.
        states: The members of its union of states, by their classes.
        result: The type of its result.
        error: The type of its error; `Never` for none.
        names: Names that annotations may use beside those of the module.
    """

    task: str
    metadata: Any
    states: Mapping[type, Any]
    result: Any
    error: Any
    names: Mapping[str, Any] | None


def read_handler(cls: type, method: str, state: type, role: Role, known: Known) -> tuple[Handler, Any]:
    """Read a handler, and the execution metadata that its context names; None when it names none.

    Raises:
        DefinitionError: It can't be one.
    """
    where = f"{known.task}: {cls.__name__}.{method}"
    function = inspect.getattr_static(cls, method)
    if not inspect.isfunction(function):
        message = f"{where} is no method, but {function!r}"
        raise DefinitionError(message)
    if not is_coroutine(where, function):
        message = f"{where} is a def; a machine's handler is an async def"
        raise DefinitionError(message)
    state_name, ctx_name = _parameters(where, function)
    hints = hints_of(where, function, known.names)
    if state_name in hints:
        _check_state(where, state_name, hints[state_name], state)
    execution_metadata = None
    if hints.get(ctx_name, Any) is not Any:
        metadata, execution_metadata = read_context(where, ctx_name, hints[ctx_name], is_async=True)
        if metadata != known.metadata:
            message = (
                f"{where}: parameter {ctx_name!r} has the metadata {show(metadata)}, but the class is declared "
                f"with {show(known.metadata)}"
            )
            raise DefinitionError(message)
    if "return" not in hints:
        message = (
            f"{where}: the return annotation is missing; write what it returns: -> NextState | Completed[Result] | "
            "Suspended[StateToWaitIn]. The machine's graph is read from it"
        )
        raise DefinitionError(message)
    returns = _Returns(where, known)
    for member in members_of(hints["return"]):
        returns.add(member)
    handler = Handler(
        where=where,
        state=state,
        method=method,
        repeatable=role.repeatable,
        allowed=returns.allowed,
        moves=tuple(returns.moves),
        suspends=returns.suspends,
        waits=tuple(returns.waits),
        results=tuple(returns.payloads[Completed]),
        failures=tuple(returns.payloads[Failed]),
        cancels=tuple(returns.payloads[Cancelled]),
    )
    return handler, execution_metadata


def _parameters(where: str, function: Any) -> tuple[str, str]:
    """Return the names of its parameters for state and context."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) != _PARAMETERS or any(each.kind not in positional for each in parameters):
        message = f"{where} has the parameters {inspect.signature(function)}; a handler takes (self, state, ctx)"
        raise DefinitionError(message)
    _self, state, ctx = parameters
    return state.name, ctx.name


def _check_state(where: str, parameter: str, hint: Any, state: type) -> None:
    for member in members_of(hint):
        allowed = origin_of(bare(member))
        if allowed is Any or (isinstance(allowed, type) and issubclass(state, allowed)):
            return
    message = (
        f"{where}: parameter {parameter!r} is {show(hint)}, but the handler is @on({state.__name__}); write "
        f"{parameter}: {state.__name__}"
    )
    raise DefinitionError(message)


@dataclass
class _Returns:
    """Sorts the members of a return annotation."""

    where: str
    known: Known
    moves: list[type] = field(default_factory=list[type])
    suspends: bool = False
    waits: list[type] = field(default_factory=list[type])
    payloads: dict[Any, list[Any]] = field(default_factory=lambda: {Completed: [], Failed: [], Cancelled: []})
    _shown: list[str] = field(default_factory=list[str])

    @property
    def allowed(self) -> str:
        """What may be returned, as code has it."""
        return " | ".join(self._shown) or "Never"

    def add(self, member: Any) -> None:
        """Sort one in.

        Raises:
            DefinitionError: A machine of this kind can't return it.
        """
        origin, arguments = origin_of(bare(member)), get_args(bare(member))
        if origin in (Never, NoReturn):
            return
        if origin is Suspended:
            self._add_suspension(arguments)
        elif origin in self.payloads:
            self._add_payload(origin, arguments)
        elif isinstance(origin, type) and issubclass(origin, Outcome):
            message = f"{self.where}: the return annotation has {show(member)}, no outcome that a task can have"
            raise DefinitionError(message)
        else:
            self.moves.append(self._state(member, "the return annotation has"))
        self._shown.append(show(member))

    def _add_suspension(self, arguments: tuple[Any, ...]) -> None:
        carried = [member for argument in arguments for member in members_of(argument)]
        states = [self._state(each, "it suspends in") for each in carried if bare(each) not in (Never, NoReturn)]
        self.waits += states
        self.suspends = self.suspends or not states

    def _add_payload(self, outcome: Any, arguments: tuple[Any, ...]) -> None:
        name = outcome.__name__
        if not arguments:
            message = f"{self.where}: the return annotation has {name} without a type; write {name}[…]"
            raise DefinitionError(message)
        what, declared = ("result", self.known.result) if outcome is Completed else ("error", self.known.error)
        for member in members_of(arguments[0]):
            if member not in [*members_of(declared), Any]:
                message = (
                    f"{self.where}: it may return the {what} {show(member)}, but the class is declared with "
                    f"{show(declared)}"
                )
                raise DefinitionError(message)
            self.payloads[outcome].append(member)

    def _state(self, member: Any, why: str) -> type:
        state = origin_of(bare(member))
        if state in self.known.states:
            return state  # type: ignore[no-any-return]
        hint = "; a result is Completed[…]" if why.startswith("the return") else ""
        message = (
            f"{self.where}: {why} {show(member)}, which is none of its states ({show_states(self.known.states)}){hint}"
        )
        raise DefinitionError(message)


def show(member: Any) -> str:
    """Write a type as code has it, without modules."""
    members = list(members_of(member))
    if len(members) > 1:
        return " | ".join(map(show, members))
    member = bare(member)
    arguments = get_args(member)
    if not arguments or get_origin(member) is Literal:
        return show_type(member).rpartition("<locals>.")[2]
    return f"{show(origin_of(member))}[{', '.join(map(show, arguments))}]"
