"""What a codec encodes, it decodes to an equal value; also after PostgreSQL's jsonb has had it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import psycopg
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.core.codec import codec_for
from tests.unit.codec_samples import LEAVES, Drawn, Sample, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.core.codec import Codec
    from tests.support.cluster import Cluster


def encoded(each: Drawn) -> bytes:
    return each.codec.encode(each.value, what="it", limit=None)


@pytest.mark.parametrize("sample", LEAVES, ids=lambda sample: str(sample.annotation))
@given(data=st.data())
@settings(max_examples=30)
def test_each_kind_of_value_comes_back_equal(sample: Sample, data: st.DataObject) -> None:
    value = data.draw(sample.values)
    codec = codec_for(sample.annotation)
    back = codec.decode(codec.encode(value, what="it", limit=None), what="it")
    assert back == value
    assert type(back) is type(value)


@given(drawn())
@settings(max_examples=400)
def test_whatever_is_made_of_them_comes_back_equal(each: Drawn) -> None:
    assert each.codec.decode(encoded(each), what="it") == each.value


@given(drawn())
@settings(max_examples=400)
def test_what_is_taken_for_certain_does_come_back(each: Drawn) -> None:
    """The short cut of `certain` never accepts what trying would refuse."""
    if each.codec._is_certain(each.value):
        assert each.codec._find_fault(each.value) is None


@pytest.fixture(scope="module")
def through_jsonb(cluster: Cluster) -> Iterator[Callable[[bytes], bytes]]:
    """What a jsonb column gives back."""
    name = cluster.create_database()
    with psycopg.connect(cluster.dsn(name), autocommit=True) as connection:

        def pass_through(data: bytes) -> bytes:
            row: Any = connection.execute("select %s::text::jsonb::text", [data.decode()]).fetchone()
            stored: str = row[0]
            return stored.encode()

        yield pass_through
    cluster.drop_database(name)


@given(each=drawn())
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
def test_what_jsonb_gives_back_is_decoded_to_an_equal_value(
    through_jsonb: Callable[[bytes], bytes], each: Drawn
) -> None:
    back = each.codec.decode(through_jsonb(encoded(each)), what="it")
    assert back == each.value


@pytest.mark.parametrize(
    "value", [1e300, -1e300, 5e-324, 1.7976931348623157e308, 1e23, 1e16, 123456789012345680.0, 0.1]
)
@pytest.mark.parametrize("annotation", [float, float | None, int | float, Any, float | bool, float | str | int])
def test_jsonb_keeps_every_float_a_float(
    through_jsonb: Callable[[bytes], bytes], annotation: Any, value: float
) -> None:
    codec: Codec[Any] = codec_for(annotation)
    back = codec.decode(through_jsonb(codec.encode(value, what="it", limit=None)), what="it")
    assert back == value
    assert type(back) is float


class LooseModel(pydantic.BaseModel):
    number: int | float
    anything: Any


def test_jsonb_keeps_the_floats_of_models_floats(through_jsonb: Callable[[bytes], bytes]) -> None:
    codec = codec_for(LooseModel)
    value = LooseModel(number=1e300, anything=[1e16, 10**16])
    back = codec.decode(through_jsonb(codec.encode(value, what="it", limit=None)), what="it")
    assert back == value
    assert [type(each) for each in (back.number, *back.anything)] == [float, float, int]


def test_minus_zero_comes_back_as_zero_from_jsonb(through_jsonb: Callable[[bytes], bytes]) -> None:
    codec = codec_for(float)
    back = codec.decode(through_jsonb(codec.encode(-0.0, what="it", limit=None)), what="it")
    assert back == 0.0
    assert math.copysign(1, back) == 1


@pytest.mark.parametrize("annotation", [int, int | None, int | float, Any])
@pytest.mark.parametrize("value", [2**53 + 1, 2**64, -(10**40), 10**4299])
def test_jsonb_keeps_integers_exact(through_jsonb: Callable[[bytes], bytes], annotation: Any, value: int) -> None:
    codec: Codec[Any] = codec_for(annotation)
    back = codec.decode(through_jsonb(codec.encode(value, what="it", limit=None)), what="it")
    assert back == value
    assert type(back) is int
