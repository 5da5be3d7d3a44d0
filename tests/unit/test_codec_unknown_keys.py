"""Keys that a type doesn't know: decoding passes over them, and `check_keys` tells of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from perdure.core.codec import codec_for
from perdure.errors import PayloadUndecodable


@dataclass
class Row:
    n: int = 0


@dataclass
class Rows:
    rows: list[Row] = field(default_factory=list)
    named: dict[str, Row] = field(default_factory=dict)
    pair: tuple[int, Row] = (0, Row())
    other: Row | Rows | str | None = None


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, tag_field="kind", tag="struct"):
    row_count: int = 0


class Listed(msgspec.Struct, array_like=True):
    row: Row


class Named(NamedTuple):
    row: Row


class Typed(TypedDict, total=False):
    n: int


class Open(pydantic.BaseModel, extra="allow"):
    n: int = 0


class Closed(pydantic.BaseModel):
    shop_name: Annotated[str, pydantic.Field(alias="shopName")] = ""
    choice: Annotated[int, pydantic.Field(validation_alias=pydantic.AliasChoices("a", pydantic.AliasPath("b", 0)))] = 0
    rows: list[Row] = []
    either: Open | Row | None = None


class ByName(pydantic.BaseModel, populate_by_name=True):
    shop_name: Annotated[str, pydantic.Field(alias="shopName")] = ""


def checked(annotation: Any, text: str) -> None:
    codec, data = codec_for(annotation), json.dumps(json.loads(text)).encode()
    codec.decode(data, what="it")
    codec.check_keys(data, what="it")


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        (Row, '{"n": 1, "m": 2, "o": 3}', "it: Row has no 'm', 'o'; its keys are 'n'"),
        (Rows, '{"rows": [{}, {"m": 1}]}', "it: rows[1]: Row has no 'm'; its keys are 'n'"),
        (Rows, '{"named": {"a": {"m": 1}}}', "it: named.a: Row has no 'm'"),
        (Rows, '{"pair": [1, {"m": 1}]}', "it: pair[1]: Row has no 'm'"),
        (Rows, '{"other": {"type": "Row", "m": 1}}', "it: other: Row has no 'm'"),
        (Rows, '{"other": {"type": "Rows", "other": {"type": "Row", "m": 1}}}', "it: other.other: Row has no 'm'"),
        (Row | None, '{"m": 1}', "it: Row has no 'm'"),
        (Struct, '{"row_count": 1}', "it: Struct has no 'row_count'; its keys are 'kind', 'rowCount'"),
        (Listed, '[{"m": 1}]', "it: [0]: Row has no 'm'"),
        (Named, '[{"m": 1}]', "it: [0]: Row has no 'm'"),
        (Typed, '{"m": 1}', "it: Typed has no 'm'; its keys are 'n'"),
        (Closed, '{"shop_name": "x"}', "it: Closed has no 'shop_name'; its keys are 'shopName', 'a', 'b', 'rows',"),
        (Closed, '{"rows": [{"m": 1}]}', "it: rows[0]: Row has no 'm'"),
        (Closed | Row, '{"type": "Closed", "m": 1}', "it: Closed has no 'm'"),
    ],
)
def test_a_key_that_a_type_does_not_know_is_told_with_those_that_it_knows(
    annotation: Any, text: str, said: str
) -> None:
    with pytest.raises(PayloadUndecodable) as refusal:
        checked(annotation, text)
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Rows, '{"rows": [{"n": 1}], "named": {"any": {}}, "pair": [1, {}], "other": {"type": "Row", "n": 1}}'),
        (Struct, '{"rowCount": 0, "kind": "struct"}'),
        (Struct | Row, '{"kind": "struct", "rowCount": 1}'),
        (Struct | Row, '{"kind": "Row", "n": 1}'),
        (dict[str, int], '{"any": 1}'),
        (Any, '{"any": {"thing": 1}}'),
        (Typed, "{}"),
        (Open, '{"n": 1, "more": 2}'),
        (Closed, '{"shopName": "x", "a": 1, "rows": [], "either": {"n": 1, "more": 2}}'),
        (Closed, '{"b": [1]}'),
        (ByName, '{"shop_name": "x"}'),
        (ByName, '{"shopName": "x"}'),
        (None, "null"),
        (Rows | int, "5"),
    ],
)
def test_what_a_type_knows_or_takes_is_let_pass(annotation: Any, text: str) -> None:
    checked(annotation, text)
