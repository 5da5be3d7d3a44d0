"""JSON merge patches, by the examples of RFC 7396, appendix A; and what a type doesn't keep of them."""

from __future__ import annotations

import json

import pytest

from perdure.cli.jobs.merging import lost_keys, merged


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_the_examples_of_the_rfc(target: str, patch: str, result: str) -> None:
    before = json.loads(target)
    assert merged(before, json.loads(patch)) == json.loads(result)
    assert before == json.loads(target)


def test_keys_that_a_type_did_not_keep_are_named_with_their_path() -> None:
    assert lost_keys({"a": 1, "b": {"c": 1, "d": {}}}, {"a": 2, "b": {"d": {}}, "e": 3}) == ["b.c"]
    assert lost_keys({"a": {"b": 1}}, {"a": []}) == ["a.b"]
    assert lost_keys([1], {}) == []
