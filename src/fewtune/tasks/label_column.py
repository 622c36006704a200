"""Reads a column of labels: their order, missing labels, and signs that it holds none.

Owns the rules that a label's text must keep. Does not know files or texts.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path

from fewtune.errors import DataError, list_names, shorten
from fewtune.plurals import pluralise

LONGEST_LABEL = 200
MOST_LABELS = 1000
FEW_LABELS = 20
"""Labels up to which no column is taken for an id."""
MISSING = frozenset({"nan", "na", "n/a", "<na>", "nat", "null", "none"})
"""How programs write a missing value as text, in small letters."""


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels in an order that depends on them alone: numbers by value, then other texts."""
    return tuple(sorted(set(labels), key=_place))


def is_number(label: str) -> bool:
    """Whether a label reads as a number, one that is not finite or "not a number" among them."""
    try:
        float(label)
    except ValueError:
        return False
    return True


def _place(label: str) -> tuple[bool, float, str]:
    if not is_number(label):
        return (True, 0.0, label)
    value = float(label)
    # Not a number is neither before nor after any: it stands last. Equal numbers go by their texts.
    return (False, math.inf if math.isnan(value) else value, label)


def check_labels(labels: Mapping[int, str], column: str, path: Path) -> list[str]:
    """Notes on what was taken as a label, from one label a row by the row's number.

    Raises DataError where a label is too long, there are too many, or one looks like a missing one beside numbers.
    """
    rows: dict[str, int] = {}
    for number, label in labels.items():
        rows.setdefault(label, number)
    for label, number in rows.items():
        if len(label) > LONGEST_LABEL:
            raise DataError(
                f"{path}: row {number} has a label of {len(label)} characters in column {column!r} "
                f"({shorten(label)!r}); {LONGEST_LABEL} are allowed. Name the column of labels with `label`."
            )
    if len(rows) > MOST_LABELS:
        raise DataError(
            f"{path}: column {column!r} holds {len(rows)} labels in {len(labels)} rows ({list_names(rows, 5)}); "
            f"{MOST_LABELS} are allowed.{describe_id(len(rows), len(labels), column)}"
        )
    missing = [label for label in rows if looks_missing(label)]
    others = [label for label in rows if not looks_missing(label)]
    if missing and others and all(map(is_number, others)):
        raise DataError(
            f"{path}: row {rows[missing[0]]} holds {missing[0]!r} in column {column!r}, beside numbers: a missing "
            "label? Fill it in, or leave the row out. Where it is a label, give it another name."
        )
    counts = Counter(labels.values())
    return [
        f"Label {_count_rows(label, counts)} is taken as a label of that name. Where it stands for a missing "
        "label, leave those rows out."
        for label in missing
    ] + [
        f"{list_names(_count_rows(label, counts) for label in alike)} differ in spelling alone and are taken "
        "as labels of their own. Where they are one, spell it alike in all rows."
        for alike in find_alike(rows)
    ]


def _count_rows(label: str, counts: Mapping[str, int]) -> str:
    return f"{label!r} ({pluralise(counts[label], 'row')})"


def find_alike(labels: Iterable[str]) -> list[list[str]]:
    """Labels that differ in capitals, white space or accents' encoding alone, or are one number, groups of several."""
    alike: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        alike.setdefault(_spell(label), []).append(label)
    return [group for group in alike.values() if len(group) > 1]


def find_respelt(labels: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Those of the labels that are none of the known ones but differ from one in spelling alone, with that one."""
    allowed = set(known)
    spelt = {_spell(label): label for label in sorted(allowed)}
    others = (label for label in dict.fromkeys(labels) if label not in allowed)
    return {label: spelt[spelling] for label in others if (spelling := _spell(label)) in spelt}


def _spell(label: str) -> str:
    if is_number(label) and math.isfinite(float(label)):
        return str(Decimal(label).normalize())
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def looks_missing(label: str) -> bool:
    """Whether a label is how a program writes that there is none."""
    return label.lower() in MISSING or (is_number(label) and math.isnan(float(label)))


def describe_id(labels: int, rows: int, column: str) -> str:
    """A sentence, after a space, where so many labels in so many rows look like an id; else nothing."""
    if labels <= FEW_LABELS or labels <= rows / 2:
        return ""
    return (
        f" Column {column!r} looks like an id: {labels} different labels in {rows} rows. Name the column of labels "
        "with `label`."
    )
