"""Derives a pattern from column names, and label words from labels, for rows that come without one.

Owns which words stand for labels, and how that is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, product

from fewtune.errors import DataError, list_names
from fewtune.tasks.base import Pattern
from fewtune.tasks.label_column import is_number
from fewtune.tasks.patterns import check_label_words, check_pattern

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def derive_pattern(fields: tuple[str, ...], labels: tuple[str, ...]) -> Pattern:
    """A pattern of the columns' names, and as label words the labels' names where these can be; constrained.

    Else letters; beyond 26 labels names closed by a full stop, so that none begins another, or codes of equal length.
    """
    template = "\n".join(f"{{{name}}}" for name in fields) + "\nLabel:"
    names = _make_plain(labels)
    pattern = Pattern("derived", template, names, constrained=True)
    if all(map(is_number, labels)) or _words_collide(names):
        pattern = replace(pattern, label_words=_stand_in(labels, names))
    check_pattern(pattern, fields, labels)
    return pattern


def describe_derived(pattern: Pattern, labels: Sequence[str]) -> str:
    """What was derived, and why label words are not the labels' names where they are others."""
    words = list_names(f"{label} = {word!r}" for label, word in zip(labels, pattern.label_words, strict=True))
    return (
        f"Pattern derived: {pattern.template!r}; label words, constrained to what tells them apart: {words}."
        f"{_explain_words(pattern, labels)}"
    )


def _explain_words(pattern: Pattern, labels: Sequence[str]) -> str:
    """A sentence, after a space, where label words are not the labels' names; else nothing."""
    plain = _make_plain(labels)
    if pattern.label_words == plain:
        return ""
    if all(word == f"{name}." for word, name in zip(pattern.label_words, plain, strict=True)):
        return " Each ends in a full stop, for some names begin others."
    why = "numbers" if all(map(is_number, labels)) else "names of which one begins or equals another"
    return f" They stand in for {why}."


def _make_plain(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(f" {label.replace('_', ' ')}" for label in labels)


def _stand_in(labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Label words for labels whose names cannot be: letters, names with a closing, or codes of as many letters."""
    if len(labels) <= len(_LETTERS):
        return tuple(f" {letter}" for letter in _LETTERS[: len(labels)])
    closed = tuple(f"{name}." for name in names)
    if not all(map(is_number, labels)) and not _words_collide(closed):
        return closed
    length = 2
    while len(_LETTERS) ** length < len(labels):
        length += 1
    return tuple(f" {''.join(code)}" for code in islice(product(_LETTERS, repeat=length), len(labels)))


def _words_collide(words: Sequence[str]) -> bool:
    try:
        check_label_words(words, "derived words")
    except DataError:
        return True
    return False
