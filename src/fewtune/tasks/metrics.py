"""What a test set's predictions are worth: metrics, breakdowns by facet, and the scores to beat.

Owns the table of metrics and how the task's labels count as a test set's. Does not know which method
predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewtune.errors import TrialFailure
from fewtune.records import Breakdown
from fewtune.tasks.base import TestSet

_CALIBRATION_BINS = 10
_MOST_FACET_VALUES = 40

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric's line for the user, its direction, and how it is computed.

    `compute(gold (rows), predicted (rows), probabilities (rows, labels)) -> float`, never NaN.
    """

    summary: str
    higher_is_better: bool
    compute: Callable[[Indices, Indices, Floats], float]


def compute_accuracy(gold: Indices, predicted: Indices, probabilities: Floats) -> float:
    """Share of rows predicted right."""
    return float(np.mean(gold == predicted))


def compute_mcc(gold: Indices, predicted: Indices, probabilities: Floats) -> float:
    """Matthews correlation, in [-1, 1]; 0.0 where gold or prediction is constant."""
    if np.unique(gold).size < 2 or np.unique(predicted).size < 2:
        return 0.0
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predicted))


def compute_macro_f1(gold: Indices, predicted: Indices, probabilities: Floats) -> float:
    """Mean F1 over the labels that occur in gold or prediction."""
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predicted, average="macro", zero_division=0.0))


def compute_ece(gold: Indices, predicted: Indices, probabilities: Floats) -> float:
    """Expected calibration error (Guo et al. 2017): 10 equal-width bins over the predicted label's probability."""
    confidence = probabilities[np.arange(len(predicted)), predicted]
    right = (gold == predicted).astype(np.float64)
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=_CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(gold))


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("share of rows predicted right", True, compute_accuracy),
    "mcc": Metric("Matthews correlation, from -1 to 1; 0 for constant predictions", True, compute_mcc),
    "macro_f1": Metric("mean F1 over labels", True, compute_macro_f1),
    "ece": Metric("expected calibration error, 10 bins", False, compute_ece),
}


def score_test_set(test_set: TestSet, log_probabilities: ArrayLike) -> tuple[list[int], dict[str, float]]:
    """Predicted indices in the test set's labels, and every metric.

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
