"""Types of payloads with strategies for their values: every supported kind, and random combinations of them."""

from __future__ import annotations

import enum
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict, Union
from uuid import UUID

import msgspec
import pydantic
from hypothesis import strategies as st

from perdure.core.codec import Codec, Tag, codec_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEAVES", "TEXT", "Drawn", "Sample", "drawn", "json_values", "samples"]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.one_of(st.integers(), st.integers(-(10**60), 10**60), st.sampled_from([2**63, -(2**63), 2**64, 10**4299]))
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ZONES = st.just(UTC) | OFFSETS

json_values = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
"""What `Any` stands for."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = enum.auto()
    BAD = enum.auto()


class Rights(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


ShopId = NewType("ShopId", int)
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


@dataclass(frozen=True)
class Sample:
    """A type and its values.

    Attributes:
        annotation: The type.
        values: Its values.
        is_key: Whether it can be a dict's key or in a set.
        is_nullable: Whether `None` is a value of it.
    """

    annotation: Any
    values: st.SearchStrategy[Any] = field(repr=False)
    is_key: bool = False
    is_nullable: bool = False


LEAVES: list[Sample] = [
    Sample(None, st.none(), is_nullable=True),
    Sample(bool, st.booleans()),
    Sample(int, INTEGERS, is_key=True),
    Sample(float, FLOATS, is_key=True),
    Sample(str, TEXT, is_key=True),
    Sample(bytes, st.binary(max_size=8), is_key=True),
    Sample(datetime, st.datetimes(), is_key=True),
    Sample(datetime, st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)),  # noqa: DTZ001
    Sample(date, st.dates(), is_key=True),
    Sample(time, st.times(), is_key=True),
    Sample(time, st.times(timezones=OFFSETS)),
    Sample(timedelta, st.timedeltas(), is_key=True),
    Sample(Decimal, st.decimals(allow_nan=False, allow_infinity=False), is_key=True),
    Sample(UUID, st.uuids(), is_key=True),
    Sample(Colour, st.sampled_from(Colour), is_key=True),
    Sample(Level, st.sampled_from(Level), is_key=True),
    Sample(Mood, st.sampled_from(Mood), is_key=True),
    Sample(Rights, st.integers(0, 7).map(Rights), is_key=True),
    Sample(Literal["a", "b"], st.sampled_from(["a", "b"]), is_key=True),
    Sample(Literal[1, "b", True] | None, st.sampled_from([1, "b", None, True]), is_nullable=True),
    Sample(Literal[Colour.RED, Level.LOW], st.sampled_from([Colour.RED, Level.LOW])),
    Sample(ShopId, INTEGERS, is_key=True),
    Sample(Percent, st.integers(0, 100)),
    Sample(int | str, INTEGERS | TEXT),
    Sample(int | float, INTEGERS | FLOATS),
    Sample(int | float | str | bool | None, INTEGERS | FLOATS | TEXT | st.booleans() | st.none(), is_nullable=True),
    Sample(list, st.lists(json_values, max_size=3)),
    Sample(dict, st.dictionaries(TEXT, json_values, max_size=3)),
    Sample(Any, json_values, is_nullable=True),
]

_numbers = itertools.count()


@functools.cache
def pool() -> list[Sample]:
    """Make types at random, the same ones in every run: making one for every example would take too long."""
    maker = Random(2026)
    made = [_sample(maker, 3) for _ in range(150)]
    return [*made, *(_of_models(maker) for _ in range(25)), *LEAVES]


def samples() -> st.SearchStrategy[Sample]:
    """Draw a type."""
    return st.sampled_from(pool())


def _sample(maker: Random, depth: int) -> Sample:
    """Make a type: a leaf, or what can be made of others."""
    makes = [_container, _record, _union] if depth else [_leaf]
    return maker.choice(makes)(maker, depth - 1)


def _leaf(maker: Random, depth: int) -> Sample:
    return maker.choice(LEAVES)


def _several(maker: Random, depth: int) -> dict[str, Sample]:
    return {f"f{place}": _sample(maker, maker.randint(0, depth)) for place in range(maker.randint(0, 3))}


def _container(maker: Random, depth: int) -> Sample:
    item = _sample(maker, depth)
    annotation, values = item.annotation, item.values
    lists = st.lists(values, max_size=3)
    found = [
        Sample(list[annotation], lists),
        Sample(Sequence[annotation], lists),
        Sample(tuple[annotation, ...], lists.map(tuple)),
        Sample(tuple[annotation, int], st.tuples(values, INTEGERS)),
        Sample(dict[str, annotation], st.dictionaries(TEXT, values, max_size=3)),
        Sample(Mapping[int, annotation], st.dictionaries(INTEGERS, values, max_size=3)),
        Sample(Annotated[list[annotation], msgspec.Meta(max_length=3)], lists),
    ]
    if not item.is_nullable:
        found.append(Sample(Union[annotation, None], values | st.none(), is_nullable=True))  # noqa: UP007
    if item.is_key:
        found += [
            Sample(set[annotation], st.sets(values, max_size=3)),
            Sample(frozenset[annotation], st.frozensets(values, max_size=3)),
            Sample(dict[annotation, int], st.dictionaries(values, INTEGERS, max_size=3)),
        ]
    return maker.choice(found)


def _record(maker: Random, depth: int) -> Sample:
    kinds = [_dataclass, _frozen_dataclass, _slots_dataclass, _struct, _array_struct, _typed_dict, _named_tuple]
    return maker.choice(kinds)(_several(maker, depth))


def _values(make: Callable[..., Any], named: dict[str, Sample]) -> st.SearchStrategy[Any]:
    return st.builds(make, **{name: each.values for name, each in named.items()})


def _name() -> str:
    return f"Class{next(_numbers)}"


def _dataclass(named: dict[str, Sample], **options: Any) -> Sample:
    fields = [(name, each.annotation) for name, each in named.items()]
    cls = make_dataclass(_name(), [*fields, ("kept", int, field(default=5, kw_only=True))], **options)
    return Sample(cls, _values(cls, named))


def _frozen_dataclass(named: dict[str, Sample]) -> Sample:
    return _dataclass(named, frozen=True, kw_only=True)


def _slots_dataclass(named: dict[str, Sample]) -> Sample:
    return _dataclass(named, slots=True, eq=True)


def _struct(named: dict[str, Sample], **options: Any) -> Sample:
    fields = [(name, each.annotation) for name, each in named.items()]
    cls = msgspec.defstruct(_name(), fields, rename="camel", **options)
    return Sample(cls, _values(cls, named))


def _array_struct(named: dict[str, Sample]) -> Sample:
    return _struct(named, array_like=True)


def _typed_dict(named: dict[str, Sample]) -> Sample:
    fields = {name: each.annotation for name, each in named.items()}
    cls: Any = TypedDict(_name(), {**fields, "more-or-less": NotRequired[int]})  # type: ignore[misc]
    required = {name: each.values for name, each in named.items()}
    return Sample(cls, st.fixed_dictionaries(required, optional={"more-or-less": INTEGERS}))


def _named_tuple(named: dict[str, Sample]) -> Sample:
    cls: Any = NamedTuple(_name(), [(name, each.annotation) for name, each in named.items()])  # type: ignore[misc]
    return Sample(cls, _values(cls, named))


def _model(named: dict[str, Sample]) -> Sample:
    cls = pydantic.create_model(_name(), **{name: (each.annotation, ...) for name, each in named.items()})
    return Sample(cls, _values(cls, named))


_FOR_MODELS = [each for each in LEAVES if each.annotation in (int, str, date, Decimal, UUID, Colour)]


def _of_models(maker: Random) -> Sample:
    """Make a pydantic model by itself, in a container, or in a class; one field may have an alias."""
    named = {f"f{place}": maker.choice(_FOR_MODELS) for place in range(maker.randint(1, 3))}
    model = maker.choice([_model, _aliased_model])(named)
    annotation, values = model.annotation, model.values
    lists = st.lists(values, max_size=3)
    return maker.choice(
        [
            model,
            Sample(list[annotation], lists),
            Sample(dict[str, annotation], st.dictionaries(TEXT, values, max_size=3)),
            Sample(annotation | None, values | st.none(), is_nullable=True),
            _dataclass({"model": model, "number": LEAVES[2]}),
            _struct({"models": Sample(tuple[annotation, ...], lists.map(tuple))}),
        ]
    )


def _aliased_model(named: dict[str, Sample]) -> Sample:
    fields = {name: (each.annotation, pydantic.Field(alias=f"the-{name}")) for name, each in named.items()}
    cls: Any = pydantic.create_model(_name(), **fields)
    return Sample(
        cls,
        st.fixed_dictionaries({f"the-{name}": each.values for name, each in named.items()}).map(
            lambda given: cls(**given)
        ),
    )


def _union(maker: Random, depth: int) -> Sample:
    """Make a union of classes, of which one may be given its tag, perhaps with None and a number beside them."""
    members = [_dataclass(_several(maker, depth))]
    for kind in maker.choices([_frozen_dataclass, _struct, _tagged, _model], k=maker.randint(1, 3)):
        fields = _several(maker, depth) if kind is not _model else {"f0": maker.choice(_FOR_MODELS)}
        members.append(kind(fields))
    members += maker.sample([LEAVES[0], LEAVES[2]], maker.randint(0, 2))
    annotations = [member.annotation for member in members]
    if maker.random() < 1 / 2:
        annotations[0] = Annotated[annotations[0], Tag("first")]
    values = st.one_of(member.values for member in members)
    return Sample(Union[tuple(annotations)], values, is_nullable=LEAVES[0] in members)  # noqa: UP007


def _tagged(named: dict[str, Sample]) -> Sample:
    """Make a class that brings its own tag, in a field."""
    tag = _name()
    fields = [("type", Literal[tag], field(default=tag, kw_only=True))]
    cls = make_dataclass(tag, [*((name, each.annotation) for name, each in named.items()), *fields])
    return Sample(cls, _values(cls, named))


@dataclass(frozen=True)
class Drawn:
    """A value and the codec of its type."""

    codec: Codec[Any]
    value: Any


def drawn() -> st.SearchStrategy[Drawn]:
    """Draw a type and a value of it."""
    return samples().flatmap(lambda sample: sample.values.map(lambda value: Drawn(codec_for(sample.annotation), value)))
