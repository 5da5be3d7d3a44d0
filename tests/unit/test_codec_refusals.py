"""What would be lost is refused before it is stored, what doesn't fit when it is read: with place and reason."""

from __future__ import annotations

import contextlib
import enum
import json
from dataclasses import dataclass, field, make_dataclass
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.codec import codec_for
from perdure.errors import PayloadRefused, PayloadTooLarge, PayloadUndecodable
from tests.unit.codec_samples import TEXT, json_values, samples


@dataclass
class Line:
    price: float
    name: str = ""


@dataclass
class Order:
    number: int
    orders: list[Line] = field(default_factory=list)
    by_name: dict[str, Line] = field(default_factory=dict)
    at: datetime | None = None
    extra: Any = None
    pair: tuple[int, float] = (0, 0.0)


class Parcel(msgspec.Struct, rename="camel"):
    full_name: str
    lines: list[Line] = []


class Options(TypedDict, total=False):
    level: int


class Point(NamedTuple):
    x: float


class Model(pydantic.BaseModel):
    lines: list[Line] = []
    note: str = ""
    excluded: int = pydantic.Field(default=0, exclude=True)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Chain:
    next: Chain | None = None


NUL = r"a text with the character \u0000, which PostgreSQL can't hold"
SURROGATE = "a text with a lone surrogate, which UTF-8 can't hold"
NAN = "nan can't be stored: JSON has only finite numbers"
RIGA = ZoneInfo("Europe/Riga")
NOON = datetime(2026, 3, 1, 12)  # noqa: DTZ001


def refusal_of(annotation: Any, value: Any) -> str:
    with pytest.raises(PayloadRefused) as refusal:
        codec_for(annotation).encode(value, what="metadata of shop", limit=None)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Order, Order(1, [Line(1), Line(float("nan"))]), f"orders[1].price: {NAN}"),
        (Order, Order(1, by_name={"a b": Line(float("inf"))}), "by_name['a b'].price: inf can't be stored"),
        (Order, Order(1, by_name={"a": Line(1, "x\0")}), f"by_name['a'].name: {NUL}"),
        (Order, Order(1, by_name={"a\0": Line(1)}), rf"by_name: the key 'a\x00': {NUL}"),
        (Order, Order(1, [Line(1, "\ud800")]), f"orders[0].name: {SURROGATE}"),
        (Order, Order(1, by_name={"\ud800": Line(1)}), rf"by_name: the key '\ud800': {SURROGATE}"),
        (Order, Order("1"), "number: expected int, got '1' of the class str"),
        (Order, Order(True), "number: expected int, got bool"),
        (Order, Order(1.0), "number: expected int, got 1.0 of the class float"),
        (Order, Order(1, [Line("1")]), "orders[0].price: expected float, got '1' of the class str"),
        (Order, Order(1, (Line(1),)), "orders: (Line(price=1, name=''),) (a tuple) comes back as [Line("),
        (Order, Order(1, [{"price": 1.0}]), "orders[0]: expected Line, got {'price': 1.0} of the class dict"),
        (Order, Order(1, [Parcel("x")]), "orders[0]: expected Line, got Parcel("),
        (
            Order,
            Order(1, at="2026-03-01T12:00:00"),
            "at: expected datetime | None, got '2026-03-01T12:00:00' of the class str",
        ),
        (
            Order,
            Order(1, at=NOON.replace(tzinfo=timezone(timedelta(seconds=90)))),
            "at: 2026-03-01T12:00:00+00:01:30 can't be stored: its offset",
        ),
        (Order, Order(1, pair=(1, float("-inf"))), "pair[1]: -inf can't be stored"),
        (Order, Order(1, pair=(1, 1.0, 2)), "pair: expected array of length 2"),
        (Order, Order(1, extra={"a": [1, NOON]}), "extra['a'][1]: "),
        (Order, Order(1, extra={"a": {1: 2}}), "extra['a']: the key 1 isn't a text, as all keys of JSON objects are"),
        (Order, Order(1, extra=[float("nan")]), f"extra[0]: {NAN}"),
        (Order, Order(1, extra=[{"x": "\0"}]), f"extra[0]['x']: {NUL}"),
        (Order, Order(1, extra=[(1, 2)]), "extra[0]: (1, 2) (a tuple) comes back as [1, 2] (a list)"),
        (Order, Order(1, extra={"a": object()}), "extra['a']: "),
        (Order, Order(10**4300), "number: "),
        (Order, None, "expected Order, got None"),
        (Parcel, Parcel(3), "full_name: expected str, got 3 of the class int"),
        (Parcel, Parcel("x", [Line(float("nan"))]), f"lines[0].price: {NAN}"),
        (Options, {"level": "x"}, "level: expected int, got 'x' of the class str"),
        (Options, {"levels": 1}, "the key 'levels' doesn't come back"),
        (Point, Point(float("nan")), f"x: {NAN}"),
        (Model, Model(lines=[Line(1), Line(float("nan"))]), f"lines[1].price: {NAN}"),
        (Model, Model(note="\0"), f"note: {NUL}"),
        (Model, Model(excluded=3), "excluded: 3 comes back as 0"),
        (Model, {"note": "x"}, "expected Model, got dict"),
        (Decimal, Decimal("NaN"), "Decimal('NaN') can't be stored: it equals nothing"),
        (Decimal, 0.1, "expected Decimal, got 0.1 of the class float"),
        (str, UUID(int=1), "expected str, got UUID("),
        (str, NOON, "expected str, got datetime"),
        (str, b"x", "expected str, got b'x' of the class bytes"),
        (float, 2**53 + 1, "9007199254740993 (an int) comes back as 9007199254740992.0 (a float)"),
        (Colour, "red", "expected Colour, got 'red' of the class str"),
        (list[int], [1, 2, "x"], "[2]: expected int, got 'x' of the class str"),
        (set[int], [1], "[1] (a list) comes back as {1} (a set)"),
        (dict[str, int], {1: 2}, "the key 1 doesn't come back"),
        (dict[int, int], {"1": 2}, "the key '1' doesn't come back"),
        (int, None, "expected int, got None"),
        (None, 3, "expected None, got 3 of the class int"),
        (
            time,
            time(12, tzinfo=RIGA),
            f"{time(12, tzinfo=RIGA)!r} can't be stored: its zone has no offset without a date",
        ),
    ],
)
def test_what_would_be_lost_is_refused_with_its_place(annotation: Any, value: Any, message: str) -> None:
    assert refusal_of(annotation, value).startswith(f"metadata of shop: {message}")


BAD_OFFSET = timezone(timedelta(seconds=90))


@pytest.mark.parametrize(
    ("annotation", "bad"),
    [
        (float, float("nan")),
        (float, float("-inf")),
        (str, "\0"),
        (str, "\ud800"),
        (int, 10**4300),
        (int, "1"),
        (datetime, NOON.replace(tzinfo=BAD_OFFSET)),
        (time, time(12, tzinfo=BAD_OFFSET)),
        (time, time(12, tzinfo=RIGA)),
        (Decimal, Decimal("NaN")),
        (Colour, "red"),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, type) else each.__name__,
)
def test_what_is_refused_is_refused_wherever_it_is(annotation: Any, bad: Any) -> None:
    holder = make_dataclass("Holder", [("part", annotation)])
    struct = msgspec.defstruct("Struct", [("part", annotation)])
    for around, value, path in [
        (annotation, bad, ""),
        (annotation | None, bad, ""),
        (list[annotation], [bad], "[0]: "),
        (tuple[annotation, ...], (bad,), "[0]: "),
        (tuple[int, annotation], (1, bad), "[1]: "),
        (dict[str, annotation], {"a": bad}, "['a']: "),
        (dict[int, list[annotation]], {1: [bad]}, "[1][0]: "),
        (holder, holder(bad), "part: "),
        (struct, struct(bad), "part: "),
        (holder | Line, holder(bad), "part: "),
        (list[holder | None], [None, holder(bad)], "[1].part: "),
    ]:
        assert refusal_of(around, value).startswith(f"metadata of shop: {path}")


def test_a_text_that_only_looks_like_an_escaped_nul_is_stored() -> None:
    codec = codec_for(list[str])
    for text in (r"\u0000", r"\\u0000", "\\" * 7 + "u0000"):
        assert codec.decode(codec.encode([text], what="it", limit=None), what="it") == [text]
    with pytest.raises(PayloadRefused):
        codec.encode(["\\\0"], what="it", limit=None)


@given(TEXT, st.sampled_from(["\0", "\ud800", "\udfff", ""]), TEXT)
def test_texts_are_refused_exactly_when_postgresql_cannot_hold_them(before: str, bad: str, after: str) -> None:
    codec = codec_for(dict[str, Any])
    value = {"a": [before + bad + after]}
    if bad:
        with pytest.raises(PayloadRefused, match=r"it: \['a'\]\[0\]: "):
            codec.encode(value, what="it", limit=None)
    else:
        assert codec.decode(codec.encode(value, what="it", limit=None), what="it") == value


def test_a_time_in_a_repeated_hour_is_stored_with_its_offset() -> None:
    codec = codec_for(datetime)
    for fold in (0, 1):
        value = datetime(2026, 10, 25, 3, 30, fold=fold, tzinfo=RIGA)
        back = codec.decode(codec.encode(value, what="it", limit=None), what="it")
        assert back.timestamp() == value.timestamp()
        assert back.utcoffset() == value.utcoffset()


@pytest.mark.parametrize(("limit", "fits"), [(10, True), (9, False), (None, True), (0, False)])
def test_the_limit_is_in_bytes_of_json(limit: int | None, fits: bool) -> None:  # noqa: FBT001 - a column of the table
    codec = codec_for(str)
    if fits:
        assert codec.encode("äöüß", what="it", limit=limit) == '"äöüß"'.encode()
    else:
        with pytest.raises(PayloadTooLarge) as refusal:
            codec.encode("äöüß", what="result", limit=limit)
        assert str(refusal.value) == f"result: 10 bytes of JSON; allowed are {limit} (execution.max_payload_bytes)"


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(199):
        deep = [deep]
    assert codec_for(Any).encode(deep, what="it", limit=None) == b"[" * 200 + b"]" * 200
    assert "nested too deeply" in refusal_of(Any, [deep])
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in refusal_of(Any, deep)
    endless: list[Any] = []
    endless.append(endless)
    assert "nested too deeply, or contains itself" in refusal_of(Any, endless)
    loop = Chain()
    loop.next = loop
    assert "nested too deeply, or contains itself" in refusal_of(Chain, loop)
    assert codec_for(list[str]).encode(["[" * 300], what="it", limit=None) == b'["' + b"[" * 300 + b'"]'


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (Order, b'{"number":"1"}', "number: expected int, got str"),
        (Order, b'{"number":1,"orders":[{"price":1},{"price":"x"}]}', "orders[1].price: expected float, got str"),
        (Order, b"{}", "object missing required field number"),
        (Order, b"null", "expected object, got null"),
        (Order, b"", "input data was truncated"),
        (Order, b'{"number":1', "input data was truncated"),
        (Order, b"\xff\xfe", "JSON is malformed"),
        (Order, b'{"number":1,"at":"yesterday"}', "at: invalid RFC3339 encoded datetime"),
        (Parcel, b'{"fullName":1}', "fullName: expected str, got int"),
        (Model, b'{"lines":[{"price":"x"}]}', "lines[0].price: Input should be a valid number"),
        (Model, b'{"lines":', "Invalid JSON"),
        (dict[int, int], b'{"x":1}', "a key: expected int, got str"),
        (Any, b"[" * 100_000, "it is nested too deeply"),
        (None, b"{}", "expected null, got object"),
        (int, b"1" + b"0" * 5000, "integer value out of range"),
        (float, b"1e999", "number out of range"),
        (str, b'"\xff"', "UnicodeDecodeError"),
    ],
)
def test_what_does_not_fit_is_undecodable_with_its_place(annotation: Any, data: bytes, message: str) -> None:
    with pytest.raises(PayloadUndecodable) as refusal:
        codec_for(annotation).decode(data, what="job 7: metadata")
    assert str(refusal.value).lower().startswith(f"job 7: metadata: {message}".lower())


def test_an_error_of_the_class_itself_is_undecodable() -> None:
    @dataclass
    class Picky:
        n: int

        def __post_init__(self) -> None:
            if self.n < 0:
                errors = {-1: ValueError, -2: ZeroDivisionError, -3: KeyError}
                message = "no such number"
                raise errors[self.n](message)

    codec = codec_for(list[Picky])
    for n, message in (
        (-1, "it: [0]: no such number"),
        (-2, "it: ZeroDivisionError: no such number"),
        (-3, "it: KeyError"),
    ):
        with pytest.raises(PayloadUndecodable) as refusal:
            codec.decode(json.dumps([{"n": n}]).encode(), what="it")
        assert str(refusal.value).startswith(message)


def test_keys_that_are_not_known_are_passed_over_and_missing_fields_get_their_defaults() -> None:
    decode = codec_for(Order).decode
    assert decode(b'{"number":1,"new":{"a":[1]}}', what="it") == Order(1)
    assert codec_for(Options).decode(b'{"new":1}', what="it") == {}
    assert codec_for(Model).decode(b'{"new":1}', what="it") == Model()
    assert decode(b'{"number":1}', what="it").orders is not decode(b'{"number":1}', what="it").orders


class Guarded(msgspec.Struct, forbid_unknown_fields=True):
    side: Line | Chain | None = None


@pytest.mark.parametrize("annotation", [Guarded, Guarded | Line])
def test_a_struct_that_forbids_unknown_keys_does_so_when_it_has_a_twin(annotation: Any) -> None:
    with pytest.raises(PayloadUndecodable, match="object contains unknown field new"):
        codec_for(annotation).decode(
            b'{"type":"Guarded","new":1}' if annotation != Guarded else b'{"new":1}', what="it"
        )


@given(samples(), st.binary(max_size=30))
@settings(max_examples=400)
def test_any_bytes_are_decoded_or_undecodable(sample: Any, data: bytes) -> None:
    _decode_or_refuse(sample.annotation, data)


@given(samples(), json_values)
@settings(max_examples=400)
def test_any_json_is_decoded_or_undecodable(sample: Any, value: Any) -> None:
    _decode_or_refuse(sample.annotation, msgspec.json.encode(value))


@given(samples(), st.data())
@settings(max_examples=400)
def test_damaged_json_is_decoded_or_undecodable(sample: Any, data: st.DataObject) -> None:
    codec = codec_for(sample.annotation)
    stored = bytearray(codec.encode(data.draw(sample.values), what="it", limit=None))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(stored) - 1))
        stored[place] = data.draw(st.sampled_from(b'{}[]",:0-eEntf\\\xff '))
    _decode_or_refuse(sample.annotation, bytes(stored))


def _decode_or_refuse(annotation: Any, data: bytes) -> None:
    with contextlib.suppress(PayloadUndecodable):
        codec_for(annotation).decode(data, what="it")


@given(samples(), samples(), st.data())
@settings(max_examples=400)
def test_a_value_of_another_type_is_refused_or_comes_back_equal(own: Any, other: Any, data: st.DataObject) -> None:
    codec = codec_for(own.annotation)
    value = data.draw(other.values)
    with contextlib.suppress(PayloadRefused):
        stored = codec.encode(value, what="it", limit=None)
        assert codec.decode(stored, what="it") == value


class Awkward:
    """As the scalars of some libraries for data are, which answer `==` with neither yes nor no."""

    def __eq__(self, other: object) -> bool:
        message = "the truth value is ambiguous"
        raise TypeError(message)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("annotation", [Literal["a", "b"], Literal["a"] | None, list[Literal["a"]], int, Any])
def test_a_value_that_cant_even_be_compared_is_refused_as_any_other(annotation: Any) -> None:
    value: Any = [Awkward()] if annotation == list[Literal["a"]] else Awkward()
    with pytest.raises(PayloadRefused, match=r"Awkward|ambiguous"):
        codec_for(annotation).encode(value, what="metadata", limit=1000)
