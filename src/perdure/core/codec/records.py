"""Reads classes with fields: dataclasses, msgspec Structs, TypedDicts, NamedTuples, pydantic models.

pydantic is never imported: its classes are known by what they bring along.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Literal, Never, get_args, get_origin

import msgspec

from perdure.core.codec.hints import class_hints, is_typed_dict, origin_of, peel, show_type
from perdure.core.codec.nodes import Field, Form, Json, Model, Node, Record
from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.core.codec.reading import Reader

__all__ = ["read"]

_PYDANTIC: Final = ("__pydantic_validator__", "__pydantic_serializer__")
_NO_DEFAULT: Final = (dataclasses.MISSING, msgspec.NODEFAULT)


def read(reader: Reader, annotation: Any, path: str) -> Node | None:
    """Read a class with fields; None when it is another kind of class.

    Raises:
        DefinitionError: A field can't be stored.
    """
    cls = origin_of(annotation)
    if all(hasattr(cls, name) for name in _PYDANTIC):
        return _model(reader, annotation, path)
    form = _form(cls)
    if form is None:
        return None
    record = Record(annotation, Json.OBJECT, cls, form)
    reader.known[annotation] = record
    match form:
        case Form.STRUCT:
            config = cls.__struct_config__
            record.json = Json.ARRAY if config.array_like else Json.OBJECT
            record.struct_tag = None if config.tag is None else (config.tag_field, config.tag)
            record.frozen, record.closed = config.frozen, config.forbid_unknown_fields
        case Form.NAMED_TUPLE:
            record.json, record.frozen = Json.ARRAY, True
        case Form.DATACLASS:
            record.frozen = cls.__dataclass_params__.frozen
        case Form.TYPED_DICT:
            pass
    hints = _hints(annotation, path)
    record.fields = tuple(_FIELDS[form](reader, cls, hints, path))
    return record


def _form(cls: Any) -> Form | None:
    if is_typed_dict(cls):
        return Form.TYPED_DICT
    if issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct:
        return Form.STRUCT
    if dataclasses.is_dataclass(cls):
        return Form.DATACLASS
    if tuple in cls.__mro__ and hasattr(cls, "_fields"):
        return Form.NAMED_TUPLE
    return None


def _hints(annotation: Any, path: str) -> dict[str, Any]:
    try:
        return class_hints(annotation)
    except NameError as error:
        cls = origin_of(annotation)
        message = (
            f"{path}: an annotation of {show_type(cls)} uses {error.name!r}, which {cls.__module__} doesn't have: "
            "define the class at the module's top level, and import the types of its fields outside of "
            "`if TYPE_CHECKING:`"
        )
        raise DefinitionError(message) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        message = f"{path}: an annotation of {show_type(annotation)} can't be evaluated: {error}"
        raise DefinitionError(message) from error


def _dataclass(reader: Reader, cls: Any, hints: dict[str, Any], path: str) -> Iterator[Field]:
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar) or hint is dataclasses.InitVar:
            _refuse(f"{path}.{name}", "an InitVar isn't kept, so the object can't be made again from what is stored")
    for field in dataclasses.fields(cls):
        node = reader.read(hints[field.name], f"{path}.{field.name}")
        make = _maker(field.default, field.default_factory)
        yield Field(field.name, field.name, node, make is None, make)


def _struct(reader: Reader, cls: Any, hints: dict[str, Any], path: str) -> Iterator[Field]:
    for field in msgspec.structs.fields(cls):
        node = reader.read(hints[field.name], f"{path}.{field.name}")
        make = _maker(field.default, field.default_factory)
        yield Field(field.name, field.encode_name, node, make is None, make)


def _typed_dict(reader: Reader, cls: Any, hints: dict[str, Any], path: str) -> Iterator[Field]:
    for name, hint in hints.items():
        # With postponed annotations __required_keys__ doesn't know of Required and NotRequired.
        wrapped = peel(hint).required
        required = name in cls.__required_keys__ if wrapped is None else wrapped
        yield Field(name, name, reader.read(hint, f"{path}.{name}"), required)


def _named_tuple(reader: Reader, cls: Any, hints: dict[str, Any], path: str) -> Iterator[Field]:
    for name in cls._fields:
        node = reader.read(hints.get(name, Any), f"{path}.{name}")
        make = _maker(cls._field_defaults[name], None) if name in cls._field_defaults else None
        yield Field(name, name, node, make is None, make)


_FIELDS: Final = {
    Form.DATACLASS: _dataclass,
    Form.STRUCT: _struct,
    Form.TYPED_DICT: _typed_dict,
    Form.NAMED_TUPLE: _named_tuple,
}


def _maker(default: Any, factory: Any) -> Callable[[], Any] | None:
    if factory is not None and not _is_missing(factory):
        made: Callable[[], Any] = factory
        return made
    return None if _is_missing(default) else lambda: default


def _is_missing(default: Any) -> bool:
    return any(default is missing for missing in _NO_DEFAULT)


def _model(reader: Reader, annotation: Any, path: str) -> Node:
    cls = annotation
    if not getattr(cls, "__pydantic_complete__", True):
        message = f"{path}: {show_type(cls)} isn't complete: call {show_type(cls)}.model_rebuild() before it is used"
        raise DefinitionError(message)
    fields = getattr(cls, "__pydantic_fields__", {})
    keys = frozenset(fields) | {field.alias for field in fields.values() if field.alias}
    literals = {
        name: get_args(field.annotation)[0]
        for name, field in fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
    json = Json.ANY if getattr(cls, "__pydantic_root_model__", False) else Json.OBJECT
    node = Model(annotation, json, cls, keys, {key: tag for key, tag in literals.items() if isinstance(tag, str)})
    reader.known[annotation] = node
    return node


def _refuse(path: str, reason: str) -> Never:
    message = f"{path}: {reason}"
    raise DefinitionError(message)
