"""A decoded value is complete: the defaults of today are written with it, and stay when the code has others."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.core.codec import codec_for


@dataclass
class Inner:
    unit: str = "kg"


@dataclass(frozen=True)
class Frozen:
    number: int = 7


@dataclass(slots=True)
class Slotted:
    number: int = 8


@dataclass
class Node:
    name: str = "root"
    children: list[Node] = field(default_factory=list)


@dataclass
class Outer:
    name: str
    count: int = 3
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    by_key: dict[str, Frozen] = field(default_factory=dict)
    slotted: Slotted = field(default_factory=Slotted)
    either: Frozen | None = None


def test_defaults_are_written_with_a_value_that_was_decoded_without_them() -> None:
    codec = codec_for(Outer)
    value = codec.decode(b'{"name":"n","many":[{}],"by_key":{"k":{}},"either":{}}', what="payload")
    assert value == Outer("n", many=[Inner()], by_key={"k": Frozen()}, either=Frozen())
    assert codec.encode(value, what="payload", limit=None) == codec.encode(
        Outer("n", many=[Inner()], by_key={"k": Frozen()}, either=Frozen()), what="payload", limit=None
    )


def test_classes_that_contain_themselves() -> None:
    codec = codec_for(Node)
    value = codec.decode(b'{"children":[{"children":[{}]}]}', what="payload")
    assert codec.encode(value, what="payload", limit=None).count(b'"root"') == 3
