"""What has been stored by a class is read by what became of it: fields gained, lost and renamed, without versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from perdure.core.codec import Tag, codec_for
from perdure.errors import PayloadUndecodable

OLD = b'{"shop":"riga","page":7}'


@dataclass
class Gained:
    shop: str
    page: int
    rows: int = 0
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenGained:
    shop: str
    page: int
    rows: int = 0
    seen: list[str] = field(default_factory=list)


class StructGained(msgspec.Struct):
    shop: str
    page: int
    rows: int = 0
    seen: list[str] = []


class ModelGained(pydantic.BaseModel):
    shop: str
    page: int
    rows: int = 0
    seen: list[str] = []


class DictGained(TypedDict):
    shop: str
    page: int
    rows: NotRequired[int]


def read(annotation: Any, data: bytes) -> Any:
    return codec_for(annotation).decode(data, what="execution metadata")


def written(annotation: Any, value: Any) -> Any:
    return msgspec.json.decode(codec_for(annotation).encode(value, what="it", limit=None))


# --- a field gained ---


@pytest.mark.parametrize("cls", [Gained, FrozenGained, StructGained, ModelGained])
def test_a_field_gained_with_a_default_gets_it_and_is_stored_from_then_on(cls: Any) -> None:
    value = read(cls, OLD)
    assert value == cls(shop="riga", page=7)
    assert written(cls, value) == {"shop": "riga", "page": 7, "rows": 0, "seen": []}


def test_a_default_is_made_anew_for_each() -> None:
    one, other = read(Gained, OLD), read(Gained, OLD)
    one.seen.append("x")
    assert other.seen == []


def test_a_key_that_a_typed_dict_gained_and_does_not_require_is_left_out() -> None:
    assert read(DictGained, OLD) == {"shop": "riga", "page": 7}


@dataclass
class Required:
    shop: str
    page: int
    country: str


class StructRequired(msgspec.Struct):
    shop: str
    page: int
    country: str


class ModelRequired(pydantic.BaseModel):
    shop: str
    page: int
    country: str


class DictRequired(TypedDict):
    shop: str
    page: int
    country: str


@pytest.mark.parametrize("cls", [Required, StructRequired, DictRequired])
def test_a_field_gained_without_a_default_is_refused_by_its_name(cls: Any) -> None:
    with pytest.raises(PayloadUndecodable) as caught:
        read(cls, OLD)
    assert str(caught.value) == "execution metadata: object missing required field country"


def test_so_it_is_in_a_model() -> None:
    with pytest.raises(PayloadUndecodable) as caught:
        read(ModelRequired, OLD)
    assert str(caught.value) == "execution metadata: country: Field required"


def test_it_is_named_with_its_place() -> None:
    with pytest.raises(PayloadUndecodable) as caught:
        read(dict[str, list[Required]], b'{"a":[' + OLD + b"]}")
    assert str(caught.value) == "execution metadata: [...][0]: object missing required field country"


# --- a field lost ---


@dataclass
class Lost:
    page: int


class StructLost(msgspec.Struct):
    page: int


class ModelLost(pydantic.BaseModel):
    page: int


class DictLost(TypedDict):
    page: int


@pytest.mark.parametrize("cls", [Lost, StructLost, ModelLost, DictLost])
def test_a_field_lost_is_passed_over_and_gone_once_the_whole_is_written_again(cls: Any) -> None:
    value = read(cls, OLD)
    assert value == cls(page=7)
    assert written(cls, value) == {"page": 7}


class StructClosed(msgspec.Struct, forbid_unknown_fields=True):
    page: int


class ModelClosed(pydantic.BaseModel, extra="forbid"):
    page: int


@pytest.mark.parametrize("cls", [StructClosed, ModelClosed])
def test_a_class_that_forbids_unknown_fields_refuses_it(cls: Any) -> None:
    with pytest.raises(PayloadUndecodable, match="shop"):
        read(cls, OLD)


class ModelOpen(pydantic.BaseModel, extra="allow"):
    page: int


def test_a_model_that_allows_unknown_fields_keeps_it() -> None:
    assert written(ModelOpen, read(ModelOpen, OLD)) == {"shop": "riga", "page": 7}


# --- a field renamed ---


class StructRenamed(msgspec.Struct):
    store: str = msgspec.field(name="shop")
    page: int


class StructCamel(msgspec.Struct, rename={"store": "shop"}):
    store: str
    page: int


class ModelRenamed(pydantic.BaseModel):
    store: str = pydantic.Field(alias="shop")
    page: int


@pytest.mark.parametrize("cls", [StructRenamed, StructCamel])
def test_a_field_renamed_in_the_code_alone_is_stored_under_its_old_name(cls: Any) -> None:
    value = read(cls, OLD)
    assert value == cls(store="riga", page=7)
    assert written(cls, value) == {"shop": "riga", "page": 7}


def test_so_it_is_in_a_model_with_an_alias() -> None:
    value = read(ModelRenamed, OLD)
    assert value == ModelRenamed(shop="riga", page=7)
    assert written(ModelRenamed, value) == {"shop": "riga", "page": 7}


class ModelBoth(pydantic.BaseModel):
    store: str = pydantic.Field(validation_alias=pydantic.AliasChoices("store", "shop"))
    page: int


@pytest.mark.parametrize("data", [OLD, OLD.replace(b"shop", b"store")])
def test_a_model_may_read_the_old_name_and_write_the_new_one(data: bytes) -> None:
    value = read(ModelBoth, data)
    assert value.store == "riga"
    assert written(ModelBoth, value) == {"store": "riga", "page": 7}


# --- tuples, where the place counts ---


class Pair(NamedTuple):
    shop: str
    page: int = 0


class Row(msgspec.Struct, array_like=True):
    shop: str
    page: int = 0


@pytest.mark.parametrize("cls", [Pair, Row])
def test_a_last_field_with_a_default_may_be_gained(cls: Any) -> None:
    assert read(cls, b'["riga"]') == cls("riga", 0)


def test_a_last_field_lost_is_passed_over_by_a_struct_and_refused_by_a_named_tuple() -> None:
    data = b'["riga",7,"lv"]'
    assert read(Row, data) == Row("riga", 7)
    with pytest.raises(PayloadUndecodable, match="expected array of length 1 to 2"):
        read(Pair, data)


# --- the members of a union ---


@Tag("placed")
@dataclass
class Ordered:
    page: int
    rows: int = 0


@dataclass
class Other:
    kind: Literal["other"] = "other"


def test_a_member_may_be_renamed_when_its_tag_stays_and_gain_and_lose_fields() -> None:
    value = read(Ordered | Other, b'{"type":"placed","page":7,"shop":"riga"}')
    assert value == Ordered(7)
    assert written(Ordered | Other, value) == {"type": "placed", "page": 7, "rows": 0}


def test_a_member_whose_tag_is_gone_is_refused_by_it() -> None:
    with pytest.raises(PayloadUndecodable) as caught:
        read(Ordered | Other, b'{"type":"Ordered","page":7}')
    assert str(caught.value) == "execution metadata: type: invalid value 'Ordered'"
