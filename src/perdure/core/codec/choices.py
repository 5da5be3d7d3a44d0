"""The twins of unions, and of pydantic models, which do their JSON themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Union

import msgspec

from perdure.core.codec.containers import check_class
from perdure.core.codec.misfit import Misfit
from perdure.core.codec.nodes import (
    Array,
    Branch,
    Choice,
    Form,
    Json,
    Leaf,
    Model,
    Node,
    Record,
    Row,
    Table,
    Writer,
)
from perdure.core.codec.twin import Raw, Twin, encode, reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Option", "class_of", "model", "weave"]

_FIRST_BYTES: Final = {ord("{"): Json.OBJECT, ord("["): Json.ARRAY}
_read_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode


@dataclass(frozen=True, slots=True)
class Option:
    """A member of a union.

    Attributes:
        node: Its type.
        twin: Its twin.
        branch: How it is told from the other objects of the union, when there are others.
    """

    node: Node
    twin: Twin
    branch: Branch | None


def model(node: Model, key: str | None, branch: Branch | None) -> Twin:
    """Let pydantic make the JSON and read it; the tag of a union is put in front, and taken away again."""
    to_json: Callable[..., bytes] = node.cls.__pydantic_serializer__.to_json
    validate_json: Callable[[bytes], Any] = node.cls.__pydantic_validator__.validate_json
    ours = branch is not None and branch.writer is Writer.CODEC

    def lower(value: Any) -> Raw:
        check_class(value, node.cls)
        data = to_json(value, by_alias=True, round_trip=True, warnings=False)
        return Raw(b"{" + prefix + (b"," if data != b"{}" else b"") + data[1:] if prefix else data)

    def lift(raw: Raw) -> Any:
        if not prefix:
            return validate_json(bytes(raw))
        fields = _read_object(raw)
        fields.pop(str(key), None)
        return validate_json(encode(fields))

    prefix = encode({key: branch.tag})[1:-1] if ours and branch is not None else b""
    return Twin(Raw, Raw, lower, lift)


def weave(node: Choice, options: Sequence[Option]) -> Twin:
    """Make the twin of a union."""
    options = _apart(options)
    lower = _lower(node, options)
    lifts = {option.twin.raw: option.twin.lift for option in options if option.twin.lift and option.twin.raw is not Raw}
    plain = [option.twin.type for option in options if option.twin.type is not Raw]
    if len(plain) == len(options):
        return Twin(Union[tuple(plain)], None, lower, _by_class(lifts))  # noqa: UP007
    decode = msgspec.json.Decoder(Union[tuple(plain)]).decode if plain else None  # noqa: UP007
    lift = _by_class(lifts)
    others: Callable[[Raw], Any] = _refuse_others if decode is None else lambda raw: lift(decode(raw))
    readers = {option.node.json: option.twin.lift for option in options if option.twin.type is Raw and option.twin.lift}
    if node.tag_key is not None:
        readers[Json.OBJECT] = _by_tag(node.tag_key, options)
    return Twin(Raw, Raw, lower, _by_first_byte(readers, others))


def _apart(options: Sequence[Option]) -> Sequence[Option]:
    """Read by themselves the Structs that are arrays: msgspec wants a tag in them when there are other Structs."""
    structs = [option for option in options if isinstance(option.twin.type, type(msgspec.Struct))]
    if len(structs) <= 1:
        return options
    return [
        replace(option, twin=_read_later(option.twin))
        if option.node.json is Json.ARRAY and option in structs
        else option
        for option in options
    ]


def _read_later(twin: Twin) -> Twin:
    read = reader_of(twin)
    return Twin(Raw, Raw, twin.lower, lambda raw: read(bytes(raw)))


def class_of(node: Node) -> Any:
    """Return the class that the values of a type have, when it is just one."""
    match node:
        case Record(form=Form.TYPED_DICT) | Table():
            return dict
        case Record(cls=cls) | Model(cls=cls):
            return cls
        case Array(make=make):
            return make
        case Row():
            return tuple
        case Leaf(annotation=type() as cls):
            return cls
        case _:
            return None


def _lower(node: Choice, options: Sequence[Option]) -> Callable[[Any], Any]:
    by_class = {class_of(option.node): option.twin.lower for option in options if option.twin.lower}
    dicts = {
        option.branch.tag: option.twin.lower
        for option in options
        if option.branch is not None and option.twin.lower and class_of(option.node) is dict
    }

    def lower(value: Any) -> Any:
        found = by_class.get(type(value))
        return value if found is None else found(value)

    def lower_dict(value: dict[str, Any]) -> Any:
        tag: Any = value.get(node.tag_key or "")
        found = dicts.get(tag)
        if found is None:
            message = f"expected one of {', '.join(map(repr, dicts))}, got {tag!r}"
            raise Misfit(message, f".{node.tag_key}")
        return found(value)

    if dicts:
        by_class[dict] = lower_dict
    return lower


def _by_class(lifts: Mapping[Any, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def lift(decoded: Any) -> Any:
        found = lifts.get(type(decoded))
        return decoded if found is None else found(decoded)

    return lift


def _by_first_byte(readers: Mapping[Json, Callable[[Any], Any]], others: Callable[[Any], Any]) -> Callable[[Raw], Any]:
    anything = readers.get(Json.ANY)

    def lift(raw: Raw) -> Any:
        first = bytes(raw)[0]
        found = readers.get(_FIRST_BYTES.get(first, Json.ANY), anything)
        return others(raw) if found is None or raw == b"null" else found(raw)

    return lift


def _by_tag(key: str, options: Sequence[Option]) -> Callable[[Raw], Any]:
    """Read the tag first, then the object as the tag says."""
    head: Any = msgspec.defstruct("Head", [("tag", str | int)], rename={"tag": key})
    read_head = msgspec.json.Decoder(head).decode
    readers = {option.branch.tag: reader_of(option.twin) for option in options if option.branch is not None}

    def lift(raw: Raw) -> Any:
        tag = read_head(raw).tag
        found = readers.get(tag)
        if found is None:
            message = f"expected one of {', '.join(map(repr, readers))}, got {tag!r}"
            raise Misfit(message, f".{key}")
        return found(bytes(raw))

    return lift


def _refuse_others(raw: Raw) -> Any:
    message = f"expected an object, got {bytes(raw)[:40].decode(errors='replace')}"
    raise Misfit(message)
