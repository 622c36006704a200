"""Metrics of predicted labels: accuracy, Matthews correlation and macro F1, from a confusion matrix.

Owns their formulas, over any number of tables of counts at once. Does not know where answers come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
ROUNDING = 1e-12
"""Share of a product of counts below which it is nothing but rounding."""
Score = Callable[[IntArray | FloatArray], FloatArray]
"""A metric of counts (..., gold, predicted) -> (...)."""


def count_answers(gold: IntArray, predicted: IntArray, labels: int) -> IntArray:
    """Count gold (rows,) against predicted (rows,) label indices: (gold label, predicted label)."""
    counts = np.bincount(gold * labels + predicted, minlength=labels * labels)
    return counts.reshape(labels, labels).astype(np.int64)


def score_accuracy(counts: IntArray | FloatArray) -> FloatArray:
    """Share of right answers: counts (..., gold, predicted) -> (...)."""
    return _accuracy_of(*total_answers(counts))


def score_matthews(counts: IntArray | FloatArray) -> FloatArray:
    """Matthews correlation, 0 where either side is one label: counts (..., gold, predicted) -> (...)."""
    return _matthews_of(*total_answers(counts))


def score_macro_f1(counts: IntArray | FloatArray) -> FloatArray:
    """Mean F1 over the labels that are gold or predicted: counts (..., gold, predicted) -> (...)."""
    return _macro_f1_of(*total_answers(counts))


def total_answers(counts: IntArray | FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right answers, gold and predicted labels, (..., labels) each: all that any score asks of counts."""
    exact = counts.astype(np.float64)
    return np.diagonal(exact, axis1=-2, axis2=-1), exact.sum(-1), exact.sum(-2)


def _accuracy_of(right: FloatArray, gold: FloatArray, predicted: FloatArray) -> FloatArray:
    return np.asarray(right.sum(-1) / gold.sum(-1), dtype=np.float64)


def _matthews_of(right: FloatArray, gold: FloatArray, predicted: FloatArray) -> FloatArray:
    rows = gold.sum(-1)
    covariance = right.sum(-1) * rows - (gold * predicted).sum(-1)
    spread = (rows**2 - (gold**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1))
    varied = spread > ROUNDING * rows**4  # counts may be weighed: one label alone then leaves what rounding does
    correlation = np.divide(covariance, np.sqrt(np.where(varied, spread, 1.0)), out=np.zeros_like(spread), where=varied)
    return np.asarray(correlation, dtype=np.float64)


def _macro_f1_of(right: FloatArray, gold: FloatArray, predicted: FloatArray) -> FloatArray:
    total = gold + predicted
    f1 = np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(f1.sum(-1) / (total > 0).sum(-1), dtype=np.float64)


OF_TOTALS: Mapping[Score, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    score_accuracy: _accuracy_of,
    score_matthews: _matthews_of,
    score_macro_f1: _macro_f1_of,
}
"""The same, from right answers, gold and predicted labels, (..., labels) each: for whoever moves single rows."""

SCORES: Mapping[str, Score] = {
    "accuracy": score_accuracy,
    "mcc": score_matthews,
    "macro_f1": score_macro_f1,
}
"""The primary metrics, by their name in a record."""


def score_all(counts: IntArray | FloatArray, names: Iterable[str]) -> dict[str, float]:
    """Those of SCORES that are named, of one table of counts (gold, predicted)."""
    totals = total_answers(counts)
    return {name: float(OF_TOTALS[score](*totals)) for name in names if (score := SCORES.get(name)) is not None}


RANGES: Mapping[str, tuple[float, float]] = {"accuracy": (0.0, 1.0), "mcc": (-1.0, 1.0), "macro_f1": (0.0, 1.0)}
"""The least and most that each can be: an interval of a mean does not reach beyond."""


def find_span(metric: str) -> float:
    """How far apart two values of one of RANGES can be."""
    least, most = RANGES[metric]
    return most - least
