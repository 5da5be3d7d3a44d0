"""Payloads that older code has written, read by a class that has gained, lost or renamed a field since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from perdure.core.codec import codec_for
from perdure.errors import PayloadUndecodable

STORED = b'{"page": "p7", "lost": [1, 2]}'


@dataclass
class Record:
    page: str
    gained: list[str] = field(default_factory=lambda: ["default"])


class Struct(msgspec.Struct):
    page: str
    gained: int = 3


class Model(pydantic.BaseModel):
    page: str
    gained: int = 3


class _Gained(TypedDict, total=False):
    gained: int


class Table(_Gained):
    page: str


class RenamedStruct(msgspec.Struct):
    token: str = msgspec.field(name="page")


class RenamedModel(pydantic.BaseModel):
    token: str = pydantic.Field(validation_alias=pydantic.AliasChoices("token", "page"))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (Record, Record("p7", ["default"])),
        (Struct, Struct("p7", 3)),
        (Model, Model(page="p7")),
        (Table, {"page": "p7"}),
        (RenamedStruct, RenamedStruct("p7")),
        (RenamedModel, RenamedModel(token="p7")),
    ],
)
def test_a_class_that_gained_lost_or_renamed_a_field_reads_what_was_stored_before(kind: Any, read: Any) -> None:
    codec = codec_for(kind)
    value = codec.decode(STORED, what="metadata")
    assert value == read
    assert codec.decode(codec.encode(value, what="metadata", limit=None), what="metadata") == read


@pytest.mark.parametrize("kind", [Record, Struct, Model, Table, RenamedStruct, RenamedModel])
def test_a_field_without_a_default_that_is_not_there_is_named(kind: Any) -> None:
    with pytest.raises(PayloadUndecodable, match=r"page|token"):
        codec_for(kind).decode(b'{"lost": 1}', what="metadata")
