"""Finds rows that two sets of a draw have in common, by their texts.

Owns the comparison; what it finds goes into a trial's record, and the audit reads it there. Tasks leave such rows out
when they read their files (`build`); this looks again at what a trial was really given.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from fewtune.records import SharedRows
from fewtune.tasks.base import Draw, Example
from fewtune.tasks.texts import text_key

SUPPORT, POOL = "support", "pool"


def find_shared_rows(draw: Draw) -> list[SharedRows]:
    """Find every pair of sets that share texts, exactly or but for case, spacing and punctuation.

    Support and pool come from the same rows and never share one; two
    sets out of domain may, for neither is a yardstick of the other.
    """
    sets = {SUPPORT: draw.support, POOL: draw.pool, **{test.name: test.rows for test in draw.test_sets}}
    texts = {name: _collect(rows) for name, rows in sets.items()}
    apart = {SUPPORT, POOL, draw.test_sets[0].name}
    pairs = [pair for pair in combinations(sets, 2) if pair != (SUPPORT, POOL) and not apart.isdisjoint(pair)]
    return [shared for first, second in pairs if (shared := _share(first, second, texts, sets[second]))]


def _collect(rows: Sequence[Example]) -> dict[str, Example]:
    return {text_key(row): row for row in rows}


def _share(first: str, second: str, texts: dict[str, dict[str, Example]], rows: Sequence[Example]) -> SharedRows | None:
    if texts[first].keys().isdisjoint(texts[second]):
        return None
    twins = [(texts[first][key], row) for row in rows if (key := text_key(row)) in texts[first]]
    return SharedRows(
        sets=[first, second],
        rows=len(twins),
        exact=sum(twin.fields == row.fields for twin, row in twins),
        example=[twins[0][0].row_id, twins[0][1].row_id],
    )
