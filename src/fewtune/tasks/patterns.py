"""Checks a pattern before anything is scored with it.

Owns reading a template's fields and refusing patterns that cannot work. Does not know tokenizers: whether
label words split into tokens is `text`'s to report.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import pairwise

from fewtune.errors import DataError, list_names, name_choices, shorten
from fewtune.tasks.base import Pattern


def template_fields(template: str) -> tuple[str, ...]:
    """The text fields that a template names in braces; raises DataError where its braces are not plain."""
    names: list[str] = []
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise DataError(
            f"template {template!r}: {error}. Write a text field as {{name}}, a brace itself as {{{{ or }}}}."
        ) from error
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name or form or conversion or "." in name or "[" in name:
            raise DataError(f"template {template!r}: write a text field as {{name}}, with nothing else in the braces.")
        names.append(name)
    return tuple(names)


def check_pattern(pattern: Pattern, fields: Sequence[str], labels: Sequence[str]) -> None:
    """Raise DataError where a pattern cannot be used with these text fields and labels."""
    shown = f"pattern {pattern.name!r}"
    check_template(pattern.template, fields, shown)
    if pattern.template.endswith((" ", "\t")):
        raise DataError(f"{shown}: its template ends in a space. End it before the space: label words bring their own.")
    words = pattern.label_words
    if len(words) != len(labels):
        raise DataError(
            f"{shown}: {len(words)} label words for {len(labels)} labels. "
            f"Give one for each, in this order: {list_names(labels)}."
        )
    check_label_words(words, shown)


def check_template(template: str, fields: Sequence[str], shown: str) -> None:
    """Raise DataError where a template names another text field than these, or none."""
    named = template_fields(template)
    for name in named:
        if name not in fields:
            raise DataError(f"{shown}: {name_choices(name, fields, 'text field')}")
    if not named:
        raise DataError(
            f"{shown}: its template {template!r} names no text field. "
            f"Put at least one in braces: {', '.join('{' + name + '}' for name in fields)}."
        )


def check_label_words(words: Sequence[str], shown: str) -> None:
    """Raise DataError where label words are empty, collide, or differ in their leading space."""
    for word in words:
        if not word.strip():
            raise DataError(f"{shown}: a label word is empty. Give a word for each label, such as ' yes'.")
    if len({word[0].isspace() for word in words}) > 1:
        raise DataError(
            f"{shown}: some label words begin with a space and some do not ({list_names(map(repr, words))}). "
            "Begin all of them with a space, or none."
        )
    ordered = sorted(words)
    # Whatever one word begins stands right behind it.
    for first, second in pairwise(ordered):
        if first == second:
            raise DataError(
                f"{shown}: the label word {shorten(first)!r} stands for two labels. Give each label its own."
            )
        if second.startswith(first):
            raise DataError(
                f"{shown}: the label word {shorten(first)!r} begins the label word {shorten(second)!r}, so scores "
                "cannot tell them apart. Choose words of which none begins another."
            )
