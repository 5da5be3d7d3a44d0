"""Gives decoded dataclasses the fields that msgspec leaves to their class.

msgspec doesn't set a field whose plain default it takes: reading it finds the class's attribute, but writing passes it
over. A job's checkpoint would then mean something else as soon as the code's default changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from perdure.core.codec.nodes import Form, Node, Record

__all__ = ["filler_of"]

Fill = Callable[[Any], None]
_CONTAINERS: Final = (list, tuple, set, frozenset)


def filler_of(node: Node) -> Fill | None:
    """Return what completes a decoded value of the type in place; None where nothing can be missing."""
    nodes = _reachable(node)
    defaults = {each: names for each in nodes if (names := _left_to_class(each))}
    if not defaults:
        return None
    plans = _plans(nodes, defaults)

    def fill(value: Any) -> None:
        cls = value.__class__
        plan = plans.get(cls)
        if plan is not None:
            names, parts = plan
            for name in names:
                if name not in value.__dict__:
                    value.__dict__[name] = getattr(cls, name)
            for part in parts:
                fill(getattr(value, part))
        elif cls in _CONTAINERS or cls is dict:
            for item in value.values() if cls is dict else value:
                fill(item)

    return fill


def _plans(
    nodes: set[Node], defaults: dict[Node, tuple[str, ...]]
) -> dict[Any, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return for each class that is concerned: the fields that may be missing, and those to look into."""
    concerned = set(defaults)
    while more := {each for each in nodes - concerned if any(child in concerned for child in each.children())}:
        concerned |= more
    return {
        record.cls: (
            defaults.get(record, ()),
            tuple(each.name for each in record.fields if each.node in concerned),
        )
        for record in concerned
        if isinstance(record, Record) and record.form is not Form.TYPED_DICT
    }


def _reachable(node: Node) -> set[Node]:
    found: set[Node] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(each.children())
    return found


def _left_to_class(node: Node) -> tuple[str, ...]:
    if not isinstance(node, Record) or node.form is not Form.DATACLASS or not hasattr(node.cls, "__dict__"):
        return ()
    if "__dict__" not in dir(node.cls):  # slots: there is no class attribute to fall back on
        return ()
    return tuple(each.name for each in node.fields if not each.required and hasattr(node.cls, each.name))
