"""Finds rows of the same text with different labels.

Owns what counts as such. What is done with them is `own_files`'s to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewtune.errors import list_names, shorten
from fewtune.tasks.base import Example
from fewtune.tasks.texts import text_key

MOST_SHOWN = 3
"""Texts whose rows are told one by one."""


def find_contradictions(rows: Sequence[Example]) -> list[list[Example]]:
    """The rows of each text that carries different labels, in the order of the file."""
    groups: dict[str, list[Example]] = {}
    for row in rows:
        groups.setdefault(text_key(row), []).append(row)
    return [group for group in groups.values() if len({row.label for row in group}) > 1]


def describe_contradictions(groups: Sequence[Sequence[Example]], labels: Sequence[str]) -> str:
    """How many rows and texts these are, and the first ones by row number and label; texts are not shown."""
    texts = "one text" if len(groups) == 1 else f"{len(groups)} texts"
    shown = list_names((_describe_group(group, labels) for group in groups), MOST_SHOWN)
    return f"{sum(map(len, groups))} rows of {texts} carry different labels: {shown}"


def _describe_group(group: Sequence[Example], labels: Sequence[str]) -> str:
    said = [f"{row.row_id.rsplit('/', 1)[-1]} ({shorten(labels[row.label or 0], 20)})" for row in group]
    more = f" and {len(said) - MOST_SHOWN} more" if len(said) > MOST_SHOWN else ""
    return f"rows {' and '.join(said[:MOST_SHOWN])}{more}"
