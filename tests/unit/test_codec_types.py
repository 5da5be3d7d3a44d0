"""Which types can be stored, in which shapes, and with which defaults."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import subprocess
import sys
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
)

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions

from perdure.core.codec import codec_for
from perdure.errors import PayloadRefused

T = TypeVar("T")
U = TypeVar("U")
Bound = TypeVar("Bound", bound=int)
Constrained = TypeVar("Constrained", int, str)


@dataclass
class Base:
    a: int
    b: list[str] = field(default_factory=list)
    shared: ClassVar[int] = 3


@dataclass
class Derived(Base):
    _: KW_ONLY
    c: float = 1.5
    _hidden: int = 4


@dataclass
class Pair(Generic[T, U]):
    left: T
    right: U


@dataclass
class IntPair(Pair[int, T], Generic[T]):
    extra: T


@dataclass
class Closed(IntPair[str]):
    more: int = 0


@dataclass
class Node:
    value: int
    next: Node | None = None
    others: dict[str, list[Node]] = field(default_factory=dict)


class Linked(msgspec.Struct):
    value: int
    next: Linked | None = None


class Movie(TypedDict, total=False):
    title: Required[str]
    year: int


class Sequel(Movie):
    of: NotRequired[str]
    number: int


class Envelope(TypedDict, Generic[T]):
    content: T


class Point(NamedTuple):
    x: int
    y: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    at_most: Annotated[int, msgspec.Meta(le=10)]
    left_out: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class Finals:
    a: Final[int]
    text: LiteralString = "x"


class ReadOnly(typing_extensions.TypedDict):
    a: typing_extensions.ReadOnly[int]


class Inner(pydantic.BaseModel):
    n: int = pydantic.Field(alias="number")


class Outer(pydantic.BaseModel, Generic[T]):
    content: T
    inner: list[Inner] = []


@pydantic.dataclasses.dataclass
class Checked:
    n: int


class Numbers(pydantic.RootModel[list[int]]):
    pass


@dataclass
class WithModels:
    inner: Inner | None = None
    many: list[Numbers] = field(default_factory=list)
    checked: Checked | None = None


@dataclass(eq=False)
class ComparesByIdentity:
    rows: list[int]
    at: datetime | None = None


@dataclass
class Normalises:
    text: str

    def __post_init__(self) -> None:
        self.text = self.text.strip()


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclass
class Left:
    n: int = 0


@dataclass
class Right:
    n: int = 0


@dataclass
class SidePair(Pair[Left | Right, T], Generic[T]):
    """Uses the variable of its base anew, for something else; and msgspec doesn't read it by itself."""

    extra: T


OrderId = NewType("OrderId", int)
Movies = NewType("Movies", list[Movie])
Alias = typing_extensions.TypeAliasType("Alias", list[Node])
Maybe = typing_extensions.TypeAliasType("Maybe", list[T] | None, type_params=(T,))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Base, Base(1, ["x"])),
        (Derived, Derived(1, c=2.5, _hidden=7)),
        (Pair[int, str], Pair(1, "x")),
        (Pair, Pair([1], None)),
        (IntPair[str], IntPair(1, "x", "y")),
        (Closed, Closed(1, "x", "y", 3)),
        (SidePair[str], SidePair(Right(1), "x", "y")),
        (Node, Node(1, Node(2), {"x": [Node(3)]})),
        (Linked, Linked(1, Linked(2))),
        (Movie, {"title": "M"}),
        (Sequel, {"title": "M", "year": 1931, "number": 2}),
        (Envelope[Left | Right], {"content": Right(1)}),
        (Envelope[list[int]], {"content": [1]}),
        (Point, Point(1)),
        (list[Point], [Point(1, 2)]),
        (Limits, Limits(at_most=10)),
        (Limits, Limits(at_most=1, left_out=2)),
        (Finals, Finals(1, "y")),
        (ReadOnly, {"a": 1}),
        (Inner, Inner(number=3)),
        (Outer[int], Outer[int](content=3, inner=[Inner(number=3)])),
        (Checked, Checked(3)),
        (Numbers, Numbers([1])),
        (WithModels, WithModels(Inner(number=1), [Numbers([2])], Checked(3))),
        (WithModels, WithModels()),
        (OrderId, OrderId(3)),
        (Movies, [{"title": "M"}]),
        (Alias, [Node(1)]),
        (Maybe[int], [1]),
        (Maybe[Left | Right], [Left(1), Right(1)]),
        (list[T], [1, "x"]),
        (list[Bound], [1]),
        (Constrained, "x"),
        (Permission, Permission.READ | Permission.WRITE),
        (dict[str, set[Permission]], {"ann": {Permission.READ}}),
        (LiteralString, "x"),
        (list, [1, "x", None]),
        (dict, {"a": [1]}),
        (tuple, (1, "x")),
        (tuple[()], ()),
        (set, {1}),
        (collections.abc.Mapping[str, int], {"a": 1}),
        (collections.abc.Set[int], {1}),
        (dict[OrderId, timedelta], {OrderId(7): timedelta(microseconds=1)}),
        (dict[Literal["a", "b"], int], {"a": 1}),
        (Normalises, Normalises("x")),
    ],
    ids=lambda each: codec_name(each) if not isinstance(each, str) else each,
)
def test_what_comes_back_is_equal(annotation: Any, value: Any) -> None:
    codec = codec_for(annotation)
    back = codec.decode(codec.encode(value, what="it", limit=None), what="it")
    assert back == value
    assert type(back) is type(value)


def codec_name(each: object) -> str:
    return each.__name__ if isinstance(each, type) else repr(each)[:40]


def test_classes_that_compare_by_identity_are_compared_by_content() -> None:
    codec = codec_for(ComparesByIdentity)
    value = ComparesByIdentity([1], datetime(2026, 3, 1))  # noqa: DTZ001
    assert vars(codec.decode(codec.encode(value, what="it", limit=None), what="it")) == vars(value)
    with pytest.raises(PayloadRefused, match=r"it: rows\[0\]: expected int, got 'x'"):
        codec.encode(ComparesByIdentity(["x"]), what="it", limit=None)  # type: ignore[list-item]


def test_a_class_that_changes_what_it_is_given_is_refused_when_that_is_a_loss() -> None:
    value = Normalises("x")
    value.text = " x "
    with pytest.raises(PayloadRefused, match="it: text: ' x ' comes back as 'x'"):
        codec_for(Normalises).encode(value, what="it", limit=None)


def test_a_codec_is_made_once_for_a_type() -> None:
    assert codec_for(Base) is codec_for(Base)
    assert codec_for(int | None) is codec_for(int | None)
    assert codec_for(Annotated[int, []]).decode(b"1", what="it") == 1  # can't be a key


def test_a_codec_knows_its_type() -> None:
    codec = codec_for(Pair[int, str] | None)
    assert codec.type == Pair[int, str] | None
    assert codec.name == "Pair[int, str] | None"
    assert repr(codec) == "<Codec of Pair[int, str] | None>"
    assert (codec_for(None).type, codec_for(None).name) == (type(None), "None")
    assert codec_for(type(None)) is not None


def test_constraints_are_checked() -> None:
    with pytest.raises(PayloadRefused, match="it: at_most: expected int <= 10"):
        codec_for(Limits).encode(Limits(at_most=11), what="it", limit=None)
    with pytest.raises(PayloadRefused, match="it: expected str of length <= 2"):
        codec_for(Annotated[str, msgspec.Meta(max_length=2)]).encode("xyz", what="it", limit=None)
    sides = codec_for(Annotated[list[Left | Right], msgspec.Meta(max_length=1)])
    assert sides.encode([Left()], what="it", limit=None) == b'[{"type":"Left","n":0}]'
    with pytest.raises(PayloadRefused, match="it: expected array of length <= 1"):
        sides.encode([Left()] * 2, what="it", limit=None)


def test_pydantic_is_not_needed_nor_imported() -> None:
    code = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from perdure.core.codec import codec_for\n"
        "print(codec_for(list[int]).decode(b'[1]', what='it'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[1]\n", "")


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (None, None),
        (Any, None),
        (int | None, None),
        (Base | None, None),
        (list[int], []),
        (set[int], set()),
        (dict[str, int], {}),
        (tuple[int, ...], ()),
        (tuple[()], ()),
        (Finals, "field 'a' has none"),
        (Node, "Node has no default, since its field 'value' has none: give a value, or the field a default"),
        (WithModels, WithModels()),
        (Limits, "field 'at_most' has none"),
        (Movie, "field 'title' has none"),
        (Point, "field 'x' has none"),
        (Outer[int], "field 'content' has none"),
        (int, "int has no default: give a value"),
        (Base | Node, "Base | Node has no default: give a value"),
        (tuple[int], "tuple[int] has no default: give a value"),
    ],
)
def test_a_type_has_a_default_when_nothing_has_to_be_given(annotation: Any, default: Any) -> None:
    codec = codec_for(annotation)
    if isinstance(default, str):
        with pytest.raises(PayloadRefused) as refusal:
            codec.default()
        assert default in str(refusal.value)
    else:
        assert codec.default() == default
        assert default is None or default == () or codec.default() is not codec.default()


def test_a_decimal_keeps_its_digits() -> None:
    codec = codec_for(Decimal)
    assert str(codec.decode(codec.encode(Decimal("1.10"), what="it", limit=None), what="it")) == "1.10"


def test_dataclasses_without_their_defaults_are_made_as_msgspec_makes_them() -> None:
    """A twin of a dataclass behaves as msgspec's own: no `__init__`, but `__post_init__`."""
    calls: list[str] = []

    @dataclass
    class Watched:
        side: Left | Right
        later: int = field(init=False, default=7)
        many: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            calls.append("post")

    made = codec_for(Watched).decode(b'{"side":{"type":"Left","n":3}}', what="it")
    assert dataclasses.asdict(made) == {"side": {"n": 3}, "later": 7, "many": []}
    assert calls == ["post"]
