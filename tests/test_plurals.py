"""Numbers of things are worded in one place, and agree with what they count."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewtune.plurals import choose_verb, pluralise

SOURCE = Path(__file__).parent.parent / "src" / "fewtune"


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "trial", "1 trial"),
        (0, "trial", "0 trials"),
        (2, "process", "2 processes"),
        (3, "test row", "3 test rows"),
        (2, "query", "2 queries"),
        (2, "day", "2 days"),
        (5, "match", "5 matches"),
    ],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, words: str) -> None:
    assert pluralise(number, noun) == words


def test_a_number_agrees_as_it_is_written() -> None:
    assert pluralise(1.04, "point", ".1f") == "1.0 point" and pluralise(3.0, "point", "g") == "3 points"
    assert choose_verb(1, "has", "have") == "has" and choose_verb(0, "has", "have") == "have"


def test_no_message_makes_a_plural_of_its_own() -> None:
    own = re.compile(r"""['"]s['"] if """)
    for path in SOURCE.rglob("*.py"):
        if path.name != "page.py":  # beside its template, which has its own way
            assert not own.search(path.read_text(encoding="utf-8")), f"{path}: use pluralise"
