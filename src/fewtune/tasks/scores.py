"""Scores a test set's predictions: every metric, breakdowns by facet, and baselines.

Owns how the task's labels count as a test set's. Does not know which method predicted; metrics are `metrics`' own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fewtune.errors import TrialFailure
from fewtune.metrics.probabilities import describe
from fewtune.metrics.table import METRICS
from fewtune.records import Breakdown
from fewtune.tasks.base import TestSet

_MOST_FACET_VALUES = 40


def score_test_set(test_set: TestSet, log_probabilities: ArrayLike) -> tuple[list[int], dict[str, float]]:
    """Predicted indices in the test set's labels, and every metric; no AUROC where all rows have one gold label.

    `log_probabilities` (rows, the task's labels) are normalised first. The likeliest of the task's labels is
    predicted and counts as the test set's label that `label_of` says; probabilities are summed likewise.
    Raises TrialFailure of kind `diverged` where a row has no finite score, ValueError where the shape is
    wrong.
    """
    scores = np.asarray(log_probabilities, dtype=np.float64)
    if scores.shape != (len(test_set.rows), len(test_set.label_of)):
        raise ValueError(f"scores are {scores.shape}, wanted {(len(test_set.rows), len(test_set.label_of))}")
    top = scores.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        row = int(np.argmin(np.isfinite(top)))
        raise TrialFailure("diverged", f"{test_set.name}: row {row + 1} has no finite score for its labels.")
    probabilities = np.exp(scores - top)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    merged = np.zeros((len(scores), len(test_set.labels)))
    for index, counts_as in enumerate(test_set.label_of):
        merged[:, counts_as] += probabilities[:, index]
    predicted = np.asarray(test_set.label_of, dtype=np.int64)[scores.argmax(axis=1)]
    gold = np.array(_gold_labels(test_set), dtype=np.int64)
    metrics = {name: metric.compute(gold, predicted, merged) for name, metric in METRICS.items()}
    metrics |= describe(merged, gold)
    return [int(label) for label in predicted], metrics


def breakdowns(test_set: TestSet, predicted: Sequence[int]) -> list[Breakdown]:
    """Accuracy by facet value and gold label, for every facet of at most 40 values."""
    gold = _gold_labels(test_set)
    found: list[Breakdown] = []
    for facet in sorted({facet for row in test_set.rows for facet in row.facets}):
        groups: dict[tuple[str, int], list[bool]] = {}
        for row, right, said in zip(test_set.rows, gold, predicted, strict=True):
            if facet in row.facets:
                groups.setdefault((row.facets[facet], right), []).append(right == said)
        if len({value for value, _ in groups}) > _MOST_FACET_VALUES:
            continue
        found += [
            Breakdown(
                test_set=test_set.name,
                facet=facet,
                value=value,
                gold=test_set.labels[label],
                rows=len(hits),
                accuracy=sum(hits) / len(hits),
            )
            for (value, label), hits in sorted(groups.items())
        ]
    return found


def baselines(test_set: TestSet) -> dict[str, float]:
    """Accuracy of guessing (`chance`), share of the commonest gold label (`majority`), `rows`, `labels` that occur."""
    counts = Counter(_gold_labels(test_set))
    rows = len(test_set.rows)
    majority = max(counts.values()) / rows
    return {"chance": 1 / len(test_set.labels), "majority": majority, "rows": float(rows), "labels": float(len(counts))}


def _gold_labels(test_set: TestSet) -> list[int]:
    return [row.label for row in test_set.rows if row.label is not None]
