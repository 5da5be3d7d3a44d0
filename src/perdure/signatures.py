"""Reads a handler's types from its annotations: metadata, execution metadata, result, error.

Refuses what can't be a handler, with the task and the parameter named. Knows nothing of JSON: whether a type can be
stored is the codec's to say.
"""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Never, NoReturn, TypeVar, Union, get_args, get_origin

from perdure.context import BlockingContext, Context
from perdure.errors import DefinitionError
from perdure.outcome import Cancelled, Completed, Failed, Outcome, Suspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perdure.machine.plan import Machine

__all__ = [
    "Signature",
    "bare",
    "class_arguments",
    "hints_of",
    "is_coroutine",
    "members_of",
    "origin_of",
    "read_class",
    "read_context",
    "read_function",
    "show_type",
]

_CONTEXTS: Final[Mapping[object, str]] = {Context: "perdure.Context", BlockingContext: "perdure.blocking.Context"}
BACKGROUND_TASK_PARAMETERS: Final = ("metadata", "execution metadata", "result", "error")


@dataclass(frozen=True, slots=True)
class Signature:
    """The types of a task, as annotations.

    Attributes:
        metadata: The type of the job's input.
        execution_metadata: The type of its checkpoint.
        result: The type of its result; `NoneType` when the handler returns none.
        error: The type of its error; `Never` when the handler declares none.
        is_async: Whether the handler is an `async def`.
        machine: The states and their handlers, when it is a state machine.
    """

    metadata: Any
    execution_metadata: Any
    result: Any
    error: Any
    is_async: bool
    machine: Machine | None = None


def read_function(where: str, function: object, names: Mapping[str, Any] | None = None) -> Signature:
    """Read the types of a task that is a function.

    Args:
        where: What to call it in errors: "task 'orders.import'".
        function: The handler.
        names: Names that its annotations may use beside those of its module.

    Raises:
        DefinitionError: It can't be a handler.
    """
    if not inspect.isfunction(function):
        message = f"{where}: {function!r} is no function and no BackgroundTask: decorate a def, an async def or a class"
        raise DefinitionError(message)
    is_async = is_coroutine(where, function)
    parameter = _only_parameter(where, function)
    hints = hints_of(where, function, names)
    if parameter not in hints:
        message = (
            f"{where}: parameter {parameter!r} has no annotation; "
            f"write {parameter}: {_wanted(is_async=is_async)}[Metadata, ExecutionMetadata]"
        )
        raise DefinitionError(message)
    metadata, execution_metadata = read_context(where, parameter, hints[parameter], is_async=is_async)
    if "return" not in hints:
        message = (
            f"{where}: the return annotation is missing; write what it returns: -> Result | Failed[Error] | Suspended"
        )
        raise DefinitionError(message)
    results, errors = _read_return(where, hints["return"])
    return Signature(metadata, execution_metadata, _union(results, types.NoneType), _union(errors, Never), is_async)


def read_class(where: str, cls: type, base: type, names: Mapping[str, Any] | None = None) -> Signature:
    """Read the types of a task that is a class, from the parameters of its generic base.

    Args:
        where: What to call it in errors.
        cls: The class.
        base: The generic base that it is derived from; its own `execute` tells which kind is wanted.
        names: Names that annotations may use, as for `read_function`.

    Raises:
        DefinitionError: It can't be a task.
    """
    execute = inspect.getattr_static(cls, "execute")
    default = inspect.getattr_static(base, "execute")
    if execute is default:
        message = f"{where}: the class {cls.__name__} has no method execute"
        raise DefinitionError(message)
    if not inspect.isfunction(execute):
        message = f"{where}: execute of the class {cls.__name__} is no method, but {execute!r}"
        raise DefinitionError(message)
    is_async = is_coroutine(f"{where}, execute", execute)
    if is_async != inspect.iscoroutinefunction(default):
        kind, module = ("an async def", "perdure") if is_async else ("a def", "perdure.blocking")
        message = f"{where}: execute is {kind}, so derive the class {cls.__name__} from {module}.BackgroundTask"
        raise DefinitionError(message)
    metadata, execution_metadata, result, error = class_arguments(where, cls, base, names)
    error = Never if error is NoReturn else error
    signature = Signature(metadata, execution_metadata, result, error, is_async)
    _check_execute(f"{where}, execute", signature, execute, names)
    return signature


def show_type(hint: object) -> str:
    """Write a type into a message as code has it."""
    if hint is types.NoneType:
        return "None"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "").replace("NoneType", "None")


def is_coroutine(where: str, function: Callable[..., object]) -> bool:
    """Tell whether a handler is an `async def`.

    Raises:
        DefinitionError: It is a generator.
    """
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        message = f"{where}: the handler has a yield, so calling it gives a generator; a handler returns its outcome"
        raise DefinitionError(message)
    return inspect.iscoroutinefunction(function)


def _only_parameter(where: str, function: Callable[..., object], *, skip: int = 0) -> str:
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    stars: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for parameter in parameters:
        if parameter.kind in stars or parameter.kind is parameter.KEYWORD_ONLY:
            name = stars.get(parameter.kind, "") + parameter.name
            message = f"{where}: parameter {name!r}: a handler takes one positional parameter, its context"
            raise DefinitionError(message)
    if not parameters:
        message = f"{where}: the handler has no parameter; it takes one, its context"
        raise DefinitionError(message)
    if len(parameters) > 1:
        message = (
            f"{where}: parameter {parameters[1].name!r} is one too many: a handler takes one, its context. What a job "
            "needs is in its metadata; what its code needs, a class can be given (App(resolver=…))"
        )
        raise DefinitionError(message)
    return parameters[0].name


def hints_of(where: str, target: Any, names: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evaluate the annotations of a function or class.

    Raises:
        DefinitionError: One of them can't be evaluated.
    """
    try:
        return typing.get_type_hints(target, localns=dict(names) if names else None, include_extras=True)
    except NameError as error:
        message = (
            f"{where}: an annotation of {target.__qualname__} uses {error.name!r}, which {target.__module__} doesn't "
            "have when the task is defined: import a handler's types outside of `if TYPE_CHECKING:`, and define them "
            "before it"
        )
        raise DefinitionError(message) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        message = f"{where}: an annotation of {target.__qualname__} can't be evaluated: {error}"
        raise DefinitionError(message) from error


def _wanted(*, is_async: bool) -> str:
    return _CONTEXTS[Context if is_async else BlockingContext]


def read_context(where: str, parameter: str, hint: Any, *, is_async: bool) -> tuple[Any, Any]:
    """Return the types of metadata and execution metadata that the annotation of a context names.

    Raises:
        DefinitionError: It is no context, one without types, or that of the other kind of handler.
    """
    hint = bare(hint)
    found = _CONTEXTS.get(origin_of(hint))
    wanted = _wanted(is_async=is_async)
    if found is None:
        message = (
            f"{where}: parameter {parameter!r} is {show_type(hint)}; it must be {wanted}[Metadata, ExecutionMetadata]"
        )
        raise DefinitionError(message)
    if found != wanted:
        kind = "an async def" if is_async else "a def, which runs in a thread"
        message = f"{where}: parameter {parameter!r} is {found}, but the handler is {kind}: its context is {wanted}"
        raise DefinitionError(message)
    match get_args(hint):
        case (metadata, execution_metadata):
            return metadata, execution_metadata
        case _:
            message = (
                f"{where}: parameter {parameter!r} is {found} without its types; write {found}[Metadata, "
                "ExecutionMetadata], with None for what the task doesn't need"
            )
            raise DefinitionError(message)


def _read_return(where: str, hint: Any) -> tuple[list[Any], list[Any]]:
    results: list[Any] = []
    errors: list[Any] = []
    for member in members_of(hint):
        origin = origin_of(bare(member))
        if origin is Suspended and get_args(bare(member)):
            message = (
                f"{where}: the return annotation has {show_type(member)}, but only a StateMachine has states to wait "
                "in; write Suspended"
            )
            raise DefinitionError(message)
        if origin in {Never, NoReturn, Suspended}:
            continue
        if origin in {Failed, Cancelled, Completed}:
            arguments = get_args(bare(member))
            if not arguments:
                message = (
                    f"{where}: the return annotation has {origin.__name__} without a type; write {origin.__name__}[…]"
                )
                raise DefinitionError(message)
            (results if origin is Completed else errors).append(arguments[0])
        elif isinstance(origin, type) and issubclass(origin, Outcome):
            message = f"{where}: the return annotation has {show_type(member)}, no outcome that a task can have"
            raise DefinitionError(message)
        else:
            results.append(member)
    return results, errors


def members_of(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, of unions within too; anything else is its own only member."""
    hint = _unalias(hint)
    if get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from members_of(member)
    else:
        yield hint


def _union(members: Sequence[Any], otherwise: Any) -> Any:
    return Union[tuple(members)] if members else otherwise  # noqa: UP007 - their number isn't known before


def origin_of(hint: Any) -> Any:
    """Return the class of a generic alias, and anything else as it is."""
    return get_origin(hint) or hint


def bare(hint: Any) -> Any:
    """Look behind aliases and `Annotated`."""
    hint = _unalias(hint)
    return bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _unalias(hint: Any) -> Any:
    """Look behind an alias made by a `type` statement, which Python 3.11 doesn't have."""
    alias = origin_of(hint)
    if type(alias).__name__ != "TypeAliasType":
        return hint
    arguments = get_args(hint)
    return _unalias(alias.__value__[arguments] if arguments else alias.__value__)


def class_arguments(
    where: str,
    cls: type,
    base: type,
    names: Mapping[str, Any] | None,
    parameters: Sequence[str] = BACKGROUND_TASK_PARAMETERS,
) -> tuple[Any, ...]:
    """Return what a class has given its generic base for the parameters, which are named for errors.

    Raises:
        DefinitionError: It has given nothing, left one open, or something that can't be evaluated.
    """
    found = _find_arguments(cls, base)
    if found is None:
        wanted = ", ".join(name.title().replace(" ", "") for name in parameters)
        message = f"{where}: derive the class {cls.__name__} from {base.__name__}[{wanted}]"
        raise DefinitionError(message)
    # They may be strings, which only get_type_hints resolves: so they become annotations.
    annotations = dict(zip(parameters, found, strict=True))
    holder = type(cls.__name__, (), {"__annotations__": annotations, "__module__": cls.__module__})
    hints = hints_of(where, holder, names)
    for name, argument in hints.items():
        if isinstance(argument, TypeVar):
            message = f"{where}: the class {cls.__name__} leaves the type of its {name} open ({argument})"
            raise DefinitionError(message)
    return tuple(hints[name] for name in parameters)


def _find_arguments(cls: type, base: type) -> tuple[Any, ...] | None:
    """Return the arguments that the class gives the generic base, through generic classes in between."""
    bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    for parent in bases:
        origin = origin_of(parent)
        if origin is base:
            return get_args(parent) or None
        if isinstance(origin, type) and issubclass(origin, base):
            inner = _find_arguments(origin, base)
            if inner is None:
                return None
            given = dict(zip(getattr(origin, "__parameters__", ()), get_args(parent), strict=False))
            return tuple(_substitute(argument, given) for argument in inner)
    return None


def _substitute(argument: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(argument, TypeVar):
        return given.get(argument, argument)
    parameters: tuple[Any, ...] = getattr(argument, "__parameters__", ())
    return argument[tuple(given.get(parameter, parameter) for parameter in parameters)] if parameters else argument


def _check_execute(
    where: str, signature: Signature, execute: Callable[..., object], names: Mapping[str, Any] | None
) -> None:
    """Hold the annotations of `execute`, where it has them, against the base's parameters."""
    parameter = _only_parameter(where, execute, skip=1)
    hints = hints_of(where, execute, names)
    if parameter in hints:
        found = read_context(where, parameter, hints[parameter], is_async=signature.is_async)
        declared = (signature.metadata, signature.execution_metadata)
        if found != declared:
            message = (
                f"{where}: parameter {parameter!r} has the types [{', '.join(map(show_type, found))}], but the class "
                f"is declared with [{', '.join(map(show_type, declared))}]"
            )
            raise DefinitionError(message)
    if "return" not in hints:
        return
    results, errors = _read_return(where, hints["return"])
    for what, members, declared_type in (("result", results, signature.result), ("error", errors, signature.error)):
        for member in members_of(_union(members, declared_type)):
            if member not in [*members_of(declared_type), Any]:
                message = (
                    f"{where}: it may return the {what} {show_type(member)}, but the class is declared with "
                    f"{show_type(declared_type)}"
                )
                raise DefinitionError(message)
