"""Repeats are left out, sets share no text, and the fingerprint follows the rows."""

from __future__ import annotations

from fewtune.tasks import base
from fewtune.tasks.base import Example
from fewtune.tasks.build import drop_repeats, fingerprint_rows, separate_sets


def rows(*texts: str, label: int = 0) -> tuple[Example, ...]:
    return tuple(Example(text, {"text": text}, label) for text in texts)


def test_texts_that_differ_in_case_and_punctuation_are_the_same() -> None:
    kept, notes = drop_repeats(rows("A b.", "a  B", "c"), "train")
    assert [row.row_id for row in kept] == ["A b.", "c"]
    assert notes == ["train: 1 rows left out that repeat the text of another row."]


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
