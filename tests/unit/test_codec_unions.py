"""Unions of classes are told apart by a tag, at any depth; ambiguous ones are refused when they are defined."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from perdure.core.codec import Tag, codec_for
from perdure.errors import DefinitionError, PayloadRefused, PayloadUndecodable

T = TypeVar("T")


@dataclass
class Placed:
    pass


@dataclass
class AwaitingPayment:
    invoice: str


@dataclass
class Paid:
    at: datetime


@dataclass(frozen=True, slots=True)
class Frozen:
    rows: tuple[int, ...] = ()


class Shipped(msgspec.Struct):
    parcel: str


class SelfTagged(msgspec.Struct, tag="self", omit_defaults=True):
    n: int = 0


class KindTagged(msgspec.Struct, tag_field="kind", tag="kinded"):
    n: int = 0


class Other(msgspec.Struct, tag_field="kind"):
    n: int = 0


class Model(pydantic.BaseModel):
    price: Decimal
    day: date | None = None


class StrictModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    when: datetime


class LiteralModel(pydantic.BaseModel):
    type: Literal["literal-model"] = "literal-model"
    n: int = 0


@dataclass
class WithOwnTag:
    n: int
    type: Literal["own"] = "own"


class Created(TypedDict):
    type: Literal["created"]
    by: str


class Deleted(TypedDict):
    type: Literal["deleted"]
    states: list[Placed | Paid]


@Tag("renamed")
@dataclass
class Decorated:
    n: int = 0


@dataclass
class Heir(Decorated):
    pass


@dataclass
class Machine:
    state: Placed | AwaitingPayment | Paid
    past: list[Placed | AwaitingPayment | Paid] = field(default_factory=list)
    named: dict[str, Placed | Paid | None] = field(default_factory=dict)
    pair: tuple[Placed | Paid, int] | None = None


@dataclass
class Tree:
    value: Placed | Paid
    children: list[Tree] = field(default_factory=list)
    parent: Tree | Placed | None = None


@dataclass
class Box(Generic[T]):
    content: T


class Row(NamedTuple):
    state: Placed | AwaitingPayment
    n: int = 3


NOON = datetime(2026, 3, 1, 12)  # noqa: DTZ001
ORDER = Placed | AwaitingPayment | Paid


def encode(annotation: Any, value: Any) -> bytes:
    """Encode, and make sure that it comes back."""
    codec = codec_for(annotation)
    data = codec.encode(value, what="it", limit=None)
    assert codec.decode(data, what="it") == value
    assert type(codec.decode(data, what="it")) is type(value)
    return data


@pytest.mark.parametrize(
    ("annotation", "value", "json"),
    [
        (ORDER, Placed(), b'{"type":"Placed"}'),
        (ORDER, AwaitingPayment("i7"), b'{"type":"AwaitingPayment","invoice":"i7"}'),
        (Placed | Frozen, Frozen((1, 2)), b'{"type":"Frozen","rows":[1,2]}'),
        (Placed | Shipped, Shipped("p1"), b'{"type":"Shipped","parcel":"p1"}'),
        (Placed | SelfTagged, SelfTagged(3), b'{"type":"self","n":3}'),
        (SelfTagged | Shipped, Shipped("p1"), b'{"type":"Shipped","parcel":"p1"}'),
        (Placed | KindTagged, KindTagged(), b'{"kind":"kinded","n":0}'),
        (Placed | KindTagged, Placed(), b'{"kind":"Placed"}'),
        (KindTagged | Other, Other(1), b'{"kind":"Other","n":1}'),
        (Placed | Model, Model(price=Decimal("1.10")), b'{"type":"Model","price":"1.10","day":null}'),
        (StrictModel | Model, StrictModel(when=NOON), b'{"type":"StrictModel","when":"2026-03-01T12:00:00"}'),
        (Placed | LiteralModel, LiteralModel(n=2), b'{"type":"literal-model","n":2}'),
        (Placed | WithOwnTag, WithOwnTag(1), b'{"type":"own","n":1}'),
        (Created | Deleted, {"type": "created", "by": "ann"}, b'{"type":"created","by":"ann"}'),
        (
            Created | Deleted,
            {"type": "deleted", "states": [Placed()]},
            b'{"type":"deleted","states":[{"type":"Placed"}]}',
        ),
        (Created | Placed, Placed(), b'{"type":"Placed"}'),
        (Placed | Decorated, Decorated(4), b'{"type":"renamed","n":4}'),
        (Placed | Heir, Heir(4), b'{"type":"Heir","n":4}'),
        (Annotated[Placed, Tag("new")] | Paid, Placed(), b'{"type":"new"}'),
        (Annotated[Decorated, Tag("here")] | Paid, Decorated(), b'{"type":"here","n":0}'),
        (Box[Placed | Paid], Box(Placed()), b'{"content":{"type":"Placed"}}'),
        (Box[int] | Placed, Box(3), b'{"type":"Box","content":3}'),
        (Row, Row(Placed()), b'[{"type":"Placed"},3]'),
        (Row | Placed | Paid, Placed(), b'{"type":"Placed"}'),
        (Row | Placed | Paid, Row(Placed(), 1), b'[{"type":"Placed"},1]'),
        (Placed | Paid | list[Placed | Paid] | int | None, [Placed()], b'[{"type":"Placed"}]'),
        (Placed | Paid | list[Placed | Paid] | int | None, None, b"null"),
        (Placed | Paid | int, 5, b"5"),
        (Model | Placed | list[Model] | str | None, [Model(price=Decimal(1))], b'[{"price":"1","day":null}]'),
        (Model | Placed | list[Model] | str | None, "text", b'"text"'),
        (Model | Placed | list[Model] | str | None, None, b"null"),
        (Model | None, None, b"null"),
        (None | Placed, Placed(), b"{}"),
        (Placed | int, Placed(), b"{}"),
        (frozenset[Frozen | Literal[1]], frozenset([Frozen(), 1]), None),
    ],
)
def test_members_are_tagged_where_they_are_several_objects(annotation: Any, value: Any, json: bytes | None) -> None:
    assert encode(annotation, value) == json or json is None


def test_unions_are_tagged_at_any_depth() -> None:
    machine = Machine(AwaitingPayment("i7"), [Placed()], {"a": Paid(NOON), "b": None}, (Placed(), 3))
    assert encode(Machine, machine) == (
        b'{"state":{"type":"AwaitingPayment","invoice":"i7"},"past":[{"type":"Placed"}],'
        b'"named":{"a":{"type":"Paid","at":"2026-03-01T12:00:00"},"b":null},"pair":[{"type":"Placed"},3]}'
    )
    encode(dict[str, list[Machine]], {"all": [machine, Machine(Placed())]})


def test_a_class_with_a_union_may_contain_itself() -> None:
    tree = Tree(Placed(), [Tree(Paid(NOON), [Tree(Placed())])], Tree(Placed(), parent=Placed()))
    encode(Tree, tree)
    encode(Tree | AwaitingPayment, tree)
    with pytest.raises(PayloadUndecodable, match=r"children\[0\]\.children\[0\]\.value\.type"):
        codec_for(Tree).decode(
            b'{"value":{"type":"Placed"},"children":[{"value":{"type":"Placed"},"children":[{"value":{"type":"No"}}]}]}',
            what="it",
        )


def test_the_order_of_keys_does_not_matter() -> None:
    assert codec_for(ORDER).decode(b'{"invoice":"i7","type":"AwaitingPayment"}', what="it") == AwaitingPayment("i7")
    assert codec_for(Placed | Model).decode(b'{"price":"1","type":"Model"}', what="it") == Model(price=Decimal(1))


def test_keys_that_are_not_known_are_passed_over() -> None:
    assert codec_for(ORDER).decode(b'{"type":"Placed","by":"ann"}', what="it") == Placed()
    assert codec_for(Placed | Model).decode(b'{"type":"Placed","by":"ann"}', what="it") == Placed()


def test_fields_that_are_missing_get_their_defaults() -> None:
    assert codec_for(Machine).decode(b'{"state":{"type":"Placed"}}', what="it") == Machine(Placed())
    one, other = (codec_for(Machine).decode(b'{"state":{"type":"Placed"}}', what="it") for _ in range(2))
    assert one.past is not other.past


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (ORDER, b'{"type":"Gone"}', "it: type: invalid value 'Gone'"),
        (ORDER, b'{"invoice":"i7"}', "it: object missing required field type"),
        (Placed | Model, b'{"type":"Gone"}', "it: type: expected one of 'Placed', 'Model', got 'Gone'"),
        (Placed | Model, b"[]", "it: expected object, got array"),
        (Placed | Model, b'{"type":"Model"}', "it: price: Field required"),
        (Machine, b'{"state":{"type":"Paid","at":5}}', "it: state.at: expected datetime, got int"),
        (list[Placed | Model], b'[{"type":"Placed"},{"type":"Model","price":"x"}]', "it: [1].price: "),
        (dict[str, Model | None], b'{"a b":{"price":"x"}}', "it: ['a b'].price: "),
        (Placed | WithOwnTag, b'{"type":"WithOwnTag","n":1}', "it: type: invalid value 'WithOwnTag'"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(annotation: Any, data: bytes, message: str) -> None:
    with pytest.raises(PayloadUndecodable) as refusal:
        codec_for(annotation).decode(data, what="it")
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (ORDER, Frozen(), "it: expected Placed | AwaitingPayment | Paid, got Frozen(rows=()) of the class Frozen"),
        (ORDER, AwaitingPayment(5), "it: invoice: expected str, got 5 of the class int"),
        (Placed | Decorated, Heir(), "it: expected Placed | Decorated, got Heir(n=0) of the class Heir"),
        (Machine, Machine(Placed(), [Paid("x")]), "it: past[0].at: expected datetime, got 'x' of the class str"),
        (
            Machine,
            Machine(Placed(), named={"a": 1}),
            "it: named['a']: expected Placed | Paid | None, got 1 of the class int",
        ),
        (Created | Deleted, {"by": "ann"}, "it: type: expected one of 'created', 'deleted', got None"),
        (Created | Deleted, {"type": "created"}, "it: "),
        (Created | Deleted, {"type": "created", "by": "ann", "x": 1}, "it: the key 'x' doesn't come back"),
        (Placed | WithOwnTag, WithOwnTag(1, "other"), "it: type: expected 'own', got 'other'"),
        (Placed | Model, Model.model_construct(price=float("nan")), "it: price: nan can't be stored"),
    ],
)
def test_a_value_that_is_no_member_is_refused_with_its_place(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(PayloadRefused) as refusal:
        codec_for(annotation).encode(value, what="it", limit=None)
    assert str(refusal.value).startswith(message)


def namesake() -> type:
    @dataclass
    class Placed:
        n: int = 0

    return Placed


@dataclass
class HasType:
    type: str


class TypedModel(pydantic.BaseModel):
    type: str


class Untagged(TypedDict):
    n: int


class AnyRoot(pydantic.RootModel[Any]):
    pass


class NumberTagged(msgspec.Struct, tag=7):
    pass


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Placed | namesake(), "Placed and Placed have the same tag 'Placed'; give one of them another: Annotated["),
        (
            Placed | HasType,
            "HasType has a field 'type', where its tag has to stand in this union; rename it, or make it the tag: ",
        ),
        (Placed | TypedModel, "TypedModel has a field 'type'"),
        (
            Placed | Untagged,
            "Untagged is a plain dict when it runs, so it must say which it is: give it the key type: Literal",
        ),
        (Placed | dict[str, int], "Placed and dict[str, int] can't be told apart in JSON, where they are all objects"),
        (str | datetime, "str and datetime can't be told apart in JSON, where they are all strings; put them into"),
        (datetime | date, "datetime and date can't be told apart in JSON, where they are all strings"),
        (list[int] | tuple[int, ...], "can't be told apart in JSON, where they are all arrays"),
        (list[int] | Row, "can't be told apart in JSON, where they are all arrays"),
        (Literal["a"] | datetime, "can't be told apart in JSON, where they are all strings"),
        (Box[int] | Box[str], "Box[int] and Box[str] are instances of the same class, so they can't be told apart"),
        (SelfTagged | KindTagged, "have different keys for their tags: 'kind', 'type'; agree on one"),
        (NumberTagged | Placed, "have tags of which some are texts and some are numbers"),
        (Annotated[SelfTagged, Tag("x")] | Placed, "has the tag 'self' already, by msgspec"),
        (Annotated[WithOwnTag, Tag("x")] | Placed, "has the tag 'own' already, by a field that holds nothing else"),
        (AnyRoot | int, "can't be told apart in JSON, where a root model may be anything"),
        (list[Placed | HasType], "list[Placed | HasType][]: HasType has a field 'type'"),
        (Box[str | datetime], "Box[str | datetime].content: str and datetime can't be told apart"),
    ],
)
def test_members_that_cannot_be_told_apart_are_refused_at_definition(annotation: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        codec_for(annotation)
    assert message in str(refusal.value)


@pytest.mark.parametrize("value", ["", 5, None])
def test_a_tag_is_a_text(value: Any) -> None:
    with pytest.raises(DefinitionError, match="a tag is a text that isn't empty"):
        Tag(value)


def test_a_class_that_becomes_a_member_of_a_union_later_no_longer_reads_what_has_no_tag() -> None:
    data = codec_for(Placed).encode(Placed(), what="it", limit=None)
    with pytest.raises(PayloadUndecodable, match="missing required field type"):
        codec_for(Placed | Paid).decode(data, what="it")


def test_a_class_that_was_a_member_of_a_union_still_reads_what_has_a_tag() -> None:
    data = codec_for(Placed | AwaitingPayment).encode(AwaitingPayment("i7"), what="it", limit=None)
    assert codec_for(AwaitingPayment).decode(data, what="it") == AwaitingPayment("i7")
