"""Repeats are left out, sets share no text, and the fingerprint follows the rows."""

from __future__ import annotations

import pytest

from fewtune.tasks import base
from fewtune.tasks.base import Example
from fewtune.tasks.build import drop_repeats, fingerprint_rows, separate_sets


def rows(*texts: str, label: int = 0) -> tuple[Example, ...]:
    return tuple(Example(text, {"text": text}, label) for text in texts)


def test_texts_that_differ_in_case_and_punctuation_are_the_same() -> None:
    kept, notes = drop_repeats(rows("A b.", "a  B", "c"), "train")
    assert [row.row_id for row in kept] == ["A b.", "c"]
    assert notes == ["train: 1 row left out that repeats the text of another row."]


@pytest.mark.parametrize(
    ("first", "second"),
    [("की", "का"), ("ดี", "ดุ"), ("Thanks 😊", "Thanks 😡"), ("C++", "C#"), ("about 5 €", "about 5 $"), ("5°", "5")],
)
def test_vowel_signs_emoji_and_signs_tell_texts_apart(first: str, second: str) -> None:
    assert len(drop_repeats(rows(first, second), "train")[0]) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("re\u0301sume\u0301", "r\u00e9sum\u00e9"),
        ("STRASSE", "straße"),
        ("$ 100,000 a year", "$100,000 a year"),
        ("``quoted'' <b>", "quoted b"),
        ("snake_case", "snake case"),
        ("so good \u2764\ufe0f", "so good \u2764"),
    ],
)
def test_texts_that_are_written_otherwise_are_the_same(first: str, second: str) -> None:
    assert len(drop_repeats(rows(first, second), "train")[0]) == 1


def test_texts_of_punctuation_alone_are_told_apart() -> None:
    assert len(drop_repeats(rows(":)", ":("), "train")[0]) == 2


def test_a_text_with_two_labels_is_left_out() -> None:
    kept, notes = drop_repeats((*rows("a", "b"), *rows("A", label=1)), "train")
    assert [row.row_id for row in kept] == ["b"]
    assert notes == ["train: 2 rows left out whose text carries different labels."]


def test_sets_share_no_text_once_separated() -> None:
    inside = base.TestSet("in_domain", rows("t1", "both"), ("a", "b"), (0, 1))
    outside = base.TestSet("out", rows("o1", "Both!"), ("a", "b"), (0, 1))
    train, (inside, outside), notes = separate_sets(rows("x", "T1", "o1"), (inside, outside))
    assert [row.row_id for row in train] == ["x"]
    assert [row.row_id for row in inside.rows] == ["t1"]
    assert len(outside.rows) == 2
    assert len(notes) == 2


def test_the_fingerprint_depends_on_ids_texts_labels_and_sets() -> None:
    train = rows("a", "b")
    test_set = base.TestSet("in_domain", rows("c"), ("a", "b"), (0, 1))
    variants = [
        (train, [test_set]),
        (rows("a", "b", label=1), [test_set]),
        (train[:1], [test_set]),
        (train[::-1], [test_set]),
        (train, []),
        (tuple(Example(row.row_id, {"text": row.fields["text"] + " "}, 0) for row in train), [test_set]),
    ]
    assert len({fingerprint_rows(*variant) for variant in variants}) == len(variants)
