"""Looks behind the wrappers of an annotation, and finds the types of a class's fields.

Says nothing about what can be stored.
"""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    NewType,
    NotRequired,
    Protocol,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import msgspec

from perdure.core.codec.tags import Tag

__all__ = ["Peeled", "class_hints", "is_typed_dict", "origin_of", "peel", "show_type"]

_ALIAS: Final = "TypeAliasType"  # of typing since Python 3.12, of typing_extensions before
_READ_ONLY: Final = "ReadOnly"  # of typing since Python 3.13, of typing_extensions before


@dataclass(frozen=True, slots=True)
class Peeled:
    """An annotation without its wrappers.

    Attributes:
        bare: What is left.
        meta: The constraints that were around it.
        tag: The tag that was around it.
        required: Whether `Required` or `NotRequired` was around it, and which.
    """

    bare: Any
    meta: tuple[msgspec.Meta, ...] = ()
    tag: str | None = None
    required: bool | None = None


def peel(annotation: Any) -> Peeled:
    """Take the wrappers off: aliases, `NewType`, `Annotated`, `Final`, `Required`, `NotRequired`, `ReadOnly`."""
    meta: tuple[msgspec.Meta, ...] = ()
    tag: str | None = None
    required: bool | None = None
    while True:
        origin = get_origin(annotation)
        if isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(origin or annotation).__name__ == _ALIAS:
            value = (origin or annotation).__value__
            annotation = value[get_args(annotation)] if origin else value
        elif origin is Annotated:
            annotation, *extras = get_args(annotation)
            meta += tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))
            tag = next((extra.value for extra in extras if isinstance(extra, Tag)), tag)
        elif origin in (Required, NotRequired):
            required = origin is Required
            (annotation,) = get_args(annotation)
        elif origin is Final or getattr(origin, "_name", None) == _READ_ONLY:
            (annotation,) = get_args(annotation)
        else:
            return Peeled(types.NoneType if annotation is None else annotation, meta, tag, required)


def origin_of(annotation: Any) -> Any:
    """Return the class of a generic alias, or what isn't one as it is."""
    return get_origin(annotation) or annotation


def class_hints(annotation: Any) -> dict[str, Any]:
    """Return the annotations of a class's fields, inherited ones too, with the variables of generic classes filled in.

    Raises:
        NameError: An annotation uses a name that its module doesn't have.
        TypeError: An annotation can't be evaluated.
    """
    cls = origin_of(annotation)
    scopes = _scopes(annotation)
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = inspect.get_annotations(base)
        if own and base.__module__ != "builtins":
            resolved = typing.get_type_hints(base, include_extras=True)
            scope = scopes.get(base, {})
            hints.update({name: substitute(resolved[name], scope) for name in own if name in resolved})
    return hints


def _scopes(annotation: Any) -> dict[Any, dict[Any, Any]]:
    """Return what the type variables of each generic class among the bases stand for."""
    found: dict[Any, dict[Any, Any]] = {}

    def visit(alias: Any) -> None:
        cls = origin_of(alias)
        if cls in found or not isinstance(cls, type):
            return
        scope = dict(zip(getattr(cls, "__parameters__", ()), get_args(alias), strict=False))
        # A TypedDict's bases are gone from its __mro__: it has their annotations itself.
        for base in _bases(cls):
            if origin_of(base) in (Generic, Protocol):
                continue
            visit(substitute(base, scope))
            if is_typed_dict(cls):
                scope = {**found.get(origin_of(base), {}), **scope}
        found[cls] = scope

    visit(annotation)
    return found


def is_typed_dict(cls: Any) -> bool:
    """Tell whether it is a TypedDict, of typing or of typing_extensions."""
    return isinstance(cls, type) and dict in cls.__mro__ and hasattr(cls, "__required_keys__")


def _bases(cls: Any) -> tuple[Any, ...]:
    bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    return bases


def substitute(annotation: Any, scope: dict[Any, Any]) -> Any:
    """Fill in type variables."""
    if isinstance(annotation, TypeVar):
        return scope.get(annotation, annotation)
    parameters: tuple[Any, ...] = getattr(annotation, "__parameters__", ())
    if not parameters or not scope or isinstance(annotation, type):
        return annotation
    return annotation[tuple(scope.get(parameter, parameter) for parameter in parameters)]


def show_type(annotation: Any) -> str:
    """Write a type into a message as code has it."""
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, TypeVar):
        return annotation.__name__
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(map(show_type, get_args(annotation)))
    arguments = get_args(annotation)
    if isinstance(annotation, type) and not arguments:
        return annotation.__qualname__.rpartition("<locals>.")[2]
    if arguments and isinstance(get_origin(annotation), type):
        return f"{show_type(get_origin(annotation))}[{', '.join(map(show_type, arguments))}]"
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
