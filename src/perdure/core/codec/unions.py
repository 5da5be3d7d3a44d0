"""Reads unions: how their members are told apart in JSON, and what to do where they can't be."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Union, get_args

import msgspec

from perdure.core.codec.hints import origin_of, peel, show_type
from perdure.core.codec.nodes import Anything, Branch, Choice, Form, Json, Leaf, Model, Node, Record, Table, Writer
from perdure.core.codec.tags import TAG_KEY, tag_of
from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Never

    from perdure.core.codec.reading import Reader

__all__ = ["combine", "read"]

Member = tuple[Node, str | None]  # with the tag that its annotation gives it


def read(reader: Reader, bare: Any, path: str) -> Node:
    """Read a union.

    Raises:
        DefinitionError: Its members can't be told apart, or one of them can't be stored.
    """
    return combine(bare, list(_members(reader, bare, path)), path)


def _members(reader: Reader, bare: Any, path: str) -> Iterator[Member]:
    for argument in get_args(bare):
        peeled = peel(argument)
        if origin_of(peeled.bare) in (Union, types.UnionType):
            yield from _members(reader, peeled.bare, path)
            continue
        if peeled.bare is msgspec.UnsetType:  # a field that msgspec leaves out
            continue
        node = reader.read(argument, path)
        if isinstance(node, Choice):  # a Literal of several kinds
            yield from ((member, None) for member in node.members)
        else:
            yield node, peeled.tag


def combine(annotation: Any, members: Sequence[Member], path: str) -> Node:
    """Make a choice of members that have been read.

    Raises:
        DefinitionError: They can't be told apart.
    """
    nodes = tuple(node for node, _ in members)
    if len(nodes) == 1:
        return nodes[0]
    if any(isinstance(node, Anything) for node in nodes):
        return Anything(Any, Json.ANY)
    for json in Json:
        same = [node for node in nodes if node.json is json]
        if json is not Json.OBJECT and len(same) > 1 and not _are_literals_and_plain(same):
            _refuse(path, same, f"can't be told apart in JSON, where they are all {json.value}; {_INTO_CLASSES}")
    root = next((node for node in nodes if isinstance(node, Model) and node.json is Json.ANY), None)
    if root is not None and any(node.json is not Json.NULL for node in nodes if node is not root):
        _refuse(path, nodes, f"can't be told apart in JSON, where a root model may be anything; {_INTO_CLASSES}")
    objects = {place: member for place, member in enumerate(members) if member[0].json is Json.OBJECT}
    if len(objects) <= 1:
        return Choice(annotation, Json.ANY, nodes)
    key = _key(path, [node for node, _ in objects.values()])
    return Choice(annotation, Json.ANY, nodes, key, _branches(path, key, objects))


_INTO_CLASSES = "put them into dataclasses of their own, which have names"


def _are_literals_and_plain(nodes: Sequence[Node]) -> bool:
    """Tell whether they are literals beside the plain type that has them: `Literal["a"] | str`."""
    return all(
        isinstance(node, Leaf) and (node.annotation in (str, int) or (node.values and node.stand_in is None))
        for node in nodes
    )


def _key(path: str, objects: Sequence[Node]) -> str:
    for node in objects:
        if isinstance(node, Table):
            _refuse(path, objects, "can't be told apart in JSON, where they are all objects; give the dict a class")
    keys = {node.struct_tag[0] for node in objects if isinstance(node, Record) and node.struct_tag}
    if len(keys) > 1:
        _refuse(
            path, objects, f"have different keys for their tags: {', '.join(map(repr, sorted(keys)))}; agree on one"
        )
    return keys.pop() if keys else TAG_KEY


def _branches(path: str, key: str, objects: Mapping[int, Member]) -> dict[int, Branch]:
    branches: dict[int, Branch] = {}
    tags: dict[str | int, Node] = {}
    classes: dict[Any, Node] = {}
    for place, (node, given) in objects.items():
        assert isinstance(node, Record | Model)  # noqa: S101 - nothing else is an object; tables have been refused
        branch = _branch(path, key, node, given or tag_of(node.cls))
        if not is_told_by_its_tag(node) and (other := classes.setdefault(node.cls, node)) is not node:
            _refuse(path, [other, node], "are instances of the same class, so they can't be told apart when stored")
        if (other := tags.setdefault(branch.tag, node)) is not node:
            _refuse(
                path,
                [other, node],
                f'have the same tag {branch.tag!r}; give one of them another: Annotated[…, Tag("…")], '
                "or @Tag(…) above the class",
            )
        branches[place] = branch
    if len({type(branch.tag) for branch in branches.values()}) > 1:
        _refuse(path, [node for node, _ in objects.values()], "have tags of which some are texts and some are numbers")
    return branches


def is_told_by_its_tag(node: Node) -> bool:
    """Tell whether values of it are plain dicts, which only their own tag tells apart."""
    return isinstance(node, Record) and node.form is Form.TYPED_DICT


def _branch(path: str, key: str, node: Record | Model, given: str | None) -> Branch:
    own = _own_tag(node, key)
    if own is not None:
        if given not in (None, own.tag):
            _refuse(
                path, [node], f"has the tag {own.tag!r} already, by {own.writer.value}; so Tag({given!r}) can't hold"
            )
        return own
    literal = 'Literal["…"]'
    if is_told_by_its_tag(node):
        _refuse(
            path, [node], f"is a plain dict when it runs, so it must say which it is: give it the key {key}: {literal}"
        )
    if key in _keys(node):
        _refuse(
            path,
            [node],
            f"has a field {key!r}, where its tag has to stand in this union; rename it, or make it the tag: "
            f'{key}: Literal["{given or node.cls.__name__}"]',
        )
    return Branch(given or node.cls.__name__, Writer.CODEC)


def _own_tag(node: Record | Model, key: str) -> Branch | None:
    if isinstance(node, Model):
        return Branch(node.literals[key], Writer.FIELD) if key in node.literals else None
    if node.struct_tag:
        return Branch(node.struct_tag[1], Writer.STRUCT)
    for field in node.fields:
        match field.node:
            case Leaf(values=(str() as tag,), stand_in=None) if field.key == key:
                return Branch(tag, Writer.FIELD)
            case _:
                pass
    return None


def _keys(node: Record | Model) -> frozenset[str]:
    return node.keys if isinstance(node, Model) else frozenset(field.key for field in node.fields)


def _refuse(path: str, nodes: Sequence[Node], reason: str) -> Never:
    message = f"{path}: {' and '.join(show_type(node.annotation) for node in nodes)} {reason}"
    raise DefinitionError(message)
