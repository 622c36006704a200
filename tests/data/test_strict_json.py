"""Strict JSON: each key of an object once, all else as Python reads it."""

from __future__ import annotations

import json

import pytest

from fewtune.data.strict_json import RepeatedKeyError, parse_json


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"text": "a", "label": "yes", "label": "no"}', "label"),
        ('{"text": "a", "text": "a"}', "text"),
        ('[1, {"rows": [{"in": {"b": 1, "c": 2, "b": 3}}]}]', "b"),
        (r'{"a": 1, "\u0061": 2}', "a"),
        ('{"a": {"a": 1}, "b": 2, "c": 3, "b": 4, "a": 5}', "b"),
        ('{"": 1, "": 2}', ""),
    ],
)
def test_a_key_that_stands_twice_in_one_object_is_refused_by_its_name(text: str, key: str) -> None:
    with pytest.raises(RepeatedKeyError, match="stands twice in one object") as refused:
        parse_json(text)
    assert refused.value.key == key
    assert repr(key) in str(refused.value)


def test_a_key_of_many_characters_is_cut_where_it_is_told() -> None:
    key = "k" * 10_000
    with pytest.raises(RepeatedKeyError) as refused:
        parse_json(json.dumps({key: 1})[:-1] + f', "{key}": 2}}')
    assert refused.value.key == key
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ['{"a": 1, "A": 2, "b": {"a": 3}, "c": [{"a": 4}, {"a": 5}]}', '"a"', "null", "{}"])
def test_what_says_each_key_once_is_read_as_python_reads_it(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_what_is_no_json_is_refused_as_python_refuses_it() -> None:
    with pytest.raises(json.JSONDecodeError, match="Expecting"):
        parse_json('{"a": }')
