"""What is stored is put back into the object that there is, or into a new one where that can't be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Required, TypedDict

import msgspec
import pydantic
import pytest

from perdure.core.codec import codec_for


class Movie(TypedDict, total=False):
    title: Required[str]
    year: int


@dataclass
class Checkpoint:
    rows: int = 0
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class SlotsCheckpoint:
    rows: int = 0


@dataclass(frozen=True)
class FrozenCheckpoint:
    rows: int = 0


class StructCheckpoint(msgspec.Struct):
    rows: int = 0


class FrozenStructCheckpoint(msgspec.Struct, frozen=True):
    rows: int = 0


class ModelCheckpoint(pydantic.BaseModel):
    rows: int = 0


class FrozenModelCheckpoint(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    rows: int = 0


@pytest.mark.parametrize("cls", [Checkpoint, SlotsCheckpoint, StructCheckpoint, ModelCheckpoint])
def test_restore_puts_the_content_back_into_the_same_object(cls: Any) -> None:
    codec = codec_for(cls)
    target = cls(rows=5)
    assert codec.restore(target, b'{"rows":3}') is target
    assert target == cls(rows=3)


@pytest.mark.parametrize("cls", [FrozenCheckpoint, FrozenStructCheckpoint, FrozenModelCheckpoint])
def test_restore_gives_a_new_object_where_it_cannot_be_changed(cls: Any) -> None:
    target = cls(rows=5)
    restored = codec_for(cls).restore(target, b'{"rows":3}')
    assert (target, restored) == (cls(rows=5), cls(rows=3))


@pytest.mark.parametrize(
    ("annotation", "target", "data", "restored"),
    [
        (list[int], [1, 2], b"[3]", [3]),
        (dict[str, int], {"a": 1}, b'{"b":2}', {"b": 2}),
        (set[int], {1}, b"[2]", {2}),
        (Movie, {"title": "M", "year": 1}, b'{"title":"N"}', {"title": "N"}),
    ],
)
def test_restore_refills_collections(annotation: Any, target: Any, data: bytes, restored: Any) -> None:
    assert codec_for(annotation).restore(target, data) is target
    assert target == restored


def test_restore_gives_a_new_object_where_it_is_of_another_class() -> None:
    codec = codec_for(Checkpoint | None)
    assert codec.restore(None, b'{"rows":3}') == Checkpoint(3)
    target = Checkpoint(3)
    assert codec.restore(target, b"null") is None
    assert target == Checkpoint(3)


def test_restore_leaves_alone_what_has_found_its_way_into_the_object() -> None:
    mine = ["a"]
    target = Checkpoint(names=mine)
    codec_for(Checkpoint).restore(target, b'{"names":[]}')
    assert (target.names, mine) == ([], ["a"])
