"""Rows that two sets share are found by their texts."""

from __future__ import annotations

from dataclasses import replace

from fewtune.records import SharedRows
from fewtune.tasks import base
from fewtune.tasks.base import Draw, Example
from fewtune.tasks.overlap import find_shared_rows


def make_row(row_id: str, text: str) -> Example:
    return Example(row_id=row_id, fields={"text": text}, label=0)


def make_draw(support: list[str], pool: list[str], **tests: list[str]) -> Draw:
    sets = {"support": support, "pool": pool, **tests}
    rows = {name: tuple(make_row(f"{name}/{i}", text) for i, text in enumerate(texts)) for name, texts in sets.items()}
    return Draw(
        rows["support"],
        rows["pool"],
        tuple(base.TestSet(name, rows[name], ("no", "yes"), (0, 1)) for name in tests),
        fingerprint="",
    )


def test_sets_apart_share_nothing() -> None:
    assert find_shared_rows(make_draw(["one"], ["two"], in_domain=["three"], other=["four"])) == []


def test_copies_are_found_to_the_letter_and_but_for_case_spacing_and_punctuation() -> None:
    draw = make_draw(
        ["The film was good.", "A dull one"], ["Never again!"], in_domain=["the  film was GOOD", "A dull one", "fine"]
    )
    assert find_shared_rows(draw) == [
        SharedRows(sets=["support", "in_domain"], rows=2, exact=1, example=["support/0", "in_domain/0"])
    ]


def test_pool_rows_and_other_test_sets_are_compared_too() -> None:
    draw = make_draw(["one"], ["two"], in_domain=["two", "three"], other=["Three!"])
    assert [(s.sets, s.rows, s.exact) for s in find_shared_rows(draw)] == [
        (["pool", "in_domain"], 1, 1),
        (["in_domain", "other"], 1, 0),
    ]


def test_all_fields_must_agree() -> None:
    draw = make_draw(["premise"], [], in_domain=["premise"])
    [test] = draw.test_sets
    longer = replace(test.rows[0], fields={"text": "premise", "hypothesis": "another"})
    assert find_shared_rows(replace(draw, test_sets=(replace(test, rows=(longer,)),))) == []
