"""A query is checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from perdure import JobQuery, JobState
from perdure.core.codec import codec_for
from perdure.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"states": ["gone"]}, "states=['gone']): there is no such state; the states are pending, enqueued, running"),
        ({"states": "suspended"}, "give a list: states=['suspended']"),
        ({"names": "orders.import"}, "give a list: names=['orders.import']"),
        ({"queues": "slow"}, "give a list: queues=['slow']"),
        ({"metadata": {"a": float("nan")}}, "JobQuery(metadata="),
        ({"execution_metadata": object()}, "can't be written as JSON: there is no JSON for a value of type object"),
        ({"created_after": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"max_scheduled_at": timedelta(1)}, "a duration is no point in time"),
        ({"page_size": 0}, "JobQuery(page_size=0): allowed are 1 to 10000"),
        ({"page_size": 10_001}, "allowed are 1 to 10000"),
        ({"page_size": True}, "page_size=True"),
        ({"order": "random"}, 'allowed are "ascending" and "descending"'),
    ],
)
def test_what_no_query_can_mean_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError) as refusal:
        JobQuery(**arguments)
    assert said in str(refusal.value)


def test_what_is_left_out_does_not_filter() -> None:
    assert set(JobQuery().filters().values()) == {None}


def test_a_query_keeps_what_its_iterables_held() -> None:
    query = JobQuery(states=(state for state in [JobState.FAILED]), names={"a": 1}, created_after=datetime.now(UTC))
    assert query.states == (JobState.FAILED,)
    assert query.filters()["states"] == query.filters()["states"] == [JobState.FAILED.code]
    assert query.filters().get("tasks") == ["a"]


def test_a_state_may_be_given_by_its_word() -> None:
    words: Any = ["suspended"]
    assert JobQuery(states=words).states == (JobState.SUSPENDED,)


def test_a_filter_of_null_is_no_filter_and_other_values_are_json() -> None:
    assert JobQuery(metadata={"at": datetime(2030, 1, 1, tzinfo=UTC)}).filters()["metadata"] == (
        b'{"at":"2030-01-01T00:00:00Z"}'
    )
    assert JobQuery(metadata=0).filters()["metadata"] == b"0"


class Shop(pydantic.BaseModel):
    shop_name: str = pydantic.Field(alias="shopName")
    since: date = date(2030, 1, 1)


@dataclass
class Holder:
    shop: Shop


@pytest.mark.parametrize("around", [lambda shop: shop, lambda shop: {"shop": shop}, Holder])
def test_a_model_of_pydantics_filters_as_it_is_stored(around: Callable[[Shop], object]) -> None:
    shop = Shop(shopName="riga")
    stored = codec_for(Shop).encode(shop, what="it", limit=None)
    expected = stored if around(shop) is shop else b'{"shop":' + stored + b"}"
    assert JobQuery(metadata=around(shop)).filters()["metadata"] == expected
