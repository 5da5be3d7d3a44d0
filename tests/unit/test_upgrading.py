"""Upgrades work on plain JSON values, and lose nothing of them on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given, settings

from perdure.core.codec import codec_for
from perdure.errors import PayloadUndecodable
from perdure.options import Options
from perdure.upgrading import bring_up
from tests.unit.codec_samples import Drawn, drawn, json_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster import Cluster

SAME = Options(version=3, upgrades={1: lambda _kind, data: data, 2: lambda _kind, data: data})


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
@settings(max_examples=150)
def test_what_an_upgrade_leaves_alone_is_decoded_to_an_equal_value(
    through_jsonb: Callable[[bytes], bytes], each: Drawn
) -> None:
    stored = through_jsonb(each.codec.encode(each.value, what="it", limit=None))
    upgraded = through_jsonb(bring_up("it", SAME, "metadata", stored, 1))
    assert each.codec.decode(upgraded, what="it") == each.value


@given(value=json_values)
def test_an_upgrade_may_make_any_json_value(value: Any) -> None:
    options = Options(version=2, upgrades={1: lambda _kind, _data: value})
    made = bring_up("it", options, "event", b"null", 1)
    assert codec_for(Any).decode(made, what="it") == value


def test_each_is_called_with_the_kind_and_what_the_one_before_has_made() -> None:
    called: list[Any] = []

    def upgrade(kind: str, data: Any) -> Any:
        called.append((kind, data))
        return data + 1

    options = Options(version=4, upgrades={2: upgrade, 3: upgrade})
    assert bring_up("it", options, "event", b"7", 2) == b"9"
    assert bring_up("it", options, "event", b"7", 4) == b"7"
    assert called == [("event", 7), ("event", 8)]


@pytest.mark.parametrize("made", [float("inf"), "\0", {1: 2}, (1, 2), {1, 2}, object()])
def test_what_is_no_json_is_refused_and_not_guessed_at(made: Any) -> None:
    options = Options(version=2, upgrades={1: lambda _kind, _data: made})
    with pytest.raises(PayloadUndecodable, match="the upgrades from version 1 to 2 have to make plain JSON values"):
        bring_up("it", options, "metadata", b"null", 1)
