"""Finds the keys of JSON that its type doesn't know: decoding passes over them, so whoever wrote them wouldn't notice.

Where it isn't sure what is meant (a union of pydantic's own, say) it doesn't object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from perdure.core.codec.hints import show_type
from perdure.core.codec.misfit import Misfit, join
from perdure.core.codec.nodes import Array, Choice, Json, Model, Node, Record, Row, Table
from perdure.core.codec.reading import Reader
from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["find_unknown_key"]

_Part = tuple[Node | None, Any, str]  # a type, if it is known, its JSON, and where in the whole that is


def find_unknown_key(node: Node, value: Any) -> Misfit | None:
    """Return what is wrong with the first object that has keys which its type doesn't know.

    Args:
        node: The type.
        value: JSON that fits it, decoded without it.
    """
    waiting: list[_Part] = [(node, value, "")]
    while waiting:
        found, inner, path = waiting.pop()
        tag_key = None
        if isinstance(found, Choice):
            tag_key, found = found.tag_key, _member(found, inner)
        if isinstance(inner, dict):
            entries = cast("dict[str, Any]", inner)
            keys = _keys(found)
            if keys is not None and (unknown := [key for key in entries if key not in keys and key != tag_key]):
                return _misfit(found, unknown, list(keys), path)
            parts = _values(found, keys, entries, path)
        else:
            parts = _items(found, inner, path)
        waiting += reversed(list(parts))
    return None


def _misfit(node: Node | None, unknown: list[str], known: list[str], path: str) -> Misfit:
    has = f"its keys are {', '.join(map(repr, known))}" if known else "it has no keys"
    return Misfit(f"{show_type(getattr(node, 'annotation', None))} has no {', '.join(map(repr, unknown))}; {has}", path)


def _keys(node: Node | None) -> Mapping[str, Node | None] | None:
    """Return the keys that a class knows and their types, as far as known; None where any key is right."""
    match node:
        case Record(json=Json.OBJECT, fields=fields, struct_tag=tag):
            keys: dict[str, Node | None] = {} if tag is None else {tag[0]: None}
            return keys | {field.key: field.node for field in fields}
        case Model(json=Json.OBJECT, cls=cls):
            return _model_keys(cls)
        case _:
            return None


def _values(
    node: Node | None, keys: Mapping[str, Node | None] | None, entries: dict[str, Any], path: str
) -> Iterator[_Part]:
    for key, value in entries.items():
        inner = node.value if isinstance(node, Table) else (keys or {}).get(key)
        if inner is not None:
            yield inner, value, path + join([key])


def _items(node: Node | None, value: Any, path: str) -> Iterator[_Part]:
    if not isinstance(value, list):
        return
    values = cast("list[object]", value)
    match node:
        case Array():
            types = [node.item] * len(values)
        case Row(items=items):
            types = list(items)
        case Record(json=Json.ARRAY, fields=fields):
            # A Struct that is an array begins with its tag, if it has one.
            values = values if node.struct_tag is None else values[1:]
            types = [field.node for field in fields]
        case _:
            return
    for at, (each, item) in enumerate(zip(types, values, strict=False)):
        yield each, item, path + join([at])


def _member(node: Choice, value: Any) -> Node | None:
    """Return which of several types JSON is of, where that has parts."""
    if isinstance(value, dict) and node.tag_key is not None:
        tag = cast("dict[str, Any]", value).get(node.tag_key)
        places = [place for place, branch in node.branches.items() if branch.tag == tag]
    else:
        json = Json.OBJECT if isinstance(value, dict) else Json.ARRAY
        places = [place for place, member in enumerate(node.members) if member.json is json]
    return node.members[places[0]] if len(places) == 1 else None


def _model_keys(cls: Any) -> Mapping[str, Node | None] | None:
    config: Mapping[str, Any] = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    if config.get("extra") == "allow":
        return None
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    keys: dict[str, Node | None] = {}
    for name, field in cls.__pydantic_fields__.items():
        spellings = _spellings(field.validation_alias or field.alias)
        if not spellings or by_name:
            spellings = [name, *spellings]
        keys |= dict.fromkeys(spellings, _model_field(field.annotation))
    return keys


def _spellings(alias: Any) -> list[str]:
    """Return the keys of an alias: a text, a path whose first step is one, or a choice of these."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [alias]
    if hasattr(alias, "choices"):
        return [key for each in alias.choices for key in _spellings(each)]
    return [step for step in alias.path[:1] if isinstance(step, str)]


def _model_field(annotation: Any) -> Node | None:
    try:
        return Reader().read(annotation, "")
    except DefinitionError:  # pydantic knows more types
        return None
