"""What variants answered, draw by draw and test set by test set, as numbers that can be paired.

Owns reading predictions into arrays: rows ordered by row id, labels as indices that all variants of a group share. Does
not know what is done with them (`comparison`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fewtune.analysis.leaderboard import DrawKey, LoadPredictions, draw_of
from fewtune.analysis.statistics import IntArray
from fewtune.records import Record

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class DrawAnswers:
    """One variant's answers on one draw's test set: gold (rows,), predicted (fit seeds, rows), as label indices.

    Rows are ordered by row id, so that two variants' answers on one draw are paired row by row; indices mean the same
    labels, of which there are `labels`, in every answer read together.
    """

    gold: IntArray
    predicted: IntArray
    labels: int


VariantAnswers = Mapping[DrawKey, Mapping[str, DrawAnswers]]
"""One variant's answers by draw and test set."""


def read_answers(
    members: Iterable[Record],
    load: LoadPredictions,
    test_sets: Sequence[str],
    name: Callable[[Record], str] = lambda record: record.trial.variant,
) -> dict[str, VariantAnswers]:
    """Read scored trials: name -> draw -> test set -> answers; those that lack a test set are left out.

    Trials of one draw and name are fit seeds of one another.
    """
    tables: dict[str, dict[DrawKey, list[pl.DataFrame]]] = {}
    for record in members:
        scored = all(record.primary_metric in record.metrics.get(test_set, {}) for test_set in test_sets)
        if record.status == "done" and scored:
            draws = tables.setdefault(name(record), {})
            draws.setdefault(draw_of(record), []).append(load(record.trial_id))
    flat = [table for draws in tables.values() for seeds in draws.values() for table in seeds]
    names = {test_set: _name_labels(flat, test_set) for test_set in test_sets}
    return {
        variant: {
            draw: {test_set: _stack(seeds, test_set, names[test_set]) for test_set in test_sets}
            for draw, seeds in draws.items()
        }
        for variant, draws in tables.items()
    }


def answer_majority(rows: DrawAnswers) -> DrawAnswers:
    """Always the commonest gold label of these rows, the first of equally common ones."""
    commonest = int(np.bincount(rows.gold, minlength=rows.labels).argmax())
    return DrawAnswers(rows.gold, np.full((1, len(rows.gold)), commonest), rows.labels)


def _name_labels(tables: Iterable[pl.DataFrame], test_set: str) -> list[str]:
    found: set[str] = set()
    for table in tables:
        rows = table.filter(table["test_set"] == test_set)
        found.update(rows["gold"].unique(), rows["predicted"].unique())
    return sorted(found)


def _stack(seeds: Sequence[pl.DataFrame], test_set: str, names: Sequence[str]) -> DrawAnswers:
    import polars as pl

    label = pl.Enum(names)
    rows = [table.filter(table["test_set"] == test_set).sort("row_id") for table in seeds]
    code = [
        {side: table[side].cast(label).to_physical().to_numpy().astype(np.int64) for side in ("gold", "predicted")}
        for table in rows
    ]
    return DrawAnswers(code[0]["gold"], np.stack([one["predicted"] for one in code]), len(names))
