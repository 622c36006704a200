"""The table of metrics that every trial is scored by: name, direction and formula of each.

Owns the table. Formulas stand in `counts` and `probabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fewtune.metrics.counts import (
    FloatArray,
    IntArray,
    Score,
    count_answers,
    score_accuracy,
    score_macro_f1,
    score_matthews,
)
from fewtune.metrics.probabilities import measure_calibration


@dataclass(frozen=True)
class Metric:
    """A metric's line for the user, its direction, and how it is computed.

    `compute(gold (rows), predicted (rows), probabilities (rows, labels)) -> float`, never NaN.
    """

    summary: str
    higher_is_better: bool
    compute: Callable[[IntArray, IntArray, FloatArray], float]


def _of_counts(score: Score) -> Callable[[IntArray, IntArray, FloatArray], float]:
    def compute(gold: IntArray, predicted: IntArray, probabilities: FloatArray) -> float:
        return float(score(count_answers(gold, predicted, probabilities.shape[1])))

    return compute


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("share of rows predicted right", True, _of_counts(score_accuracy)),
    "mcc": Metric("Matthews correlation, from -1 to 1; 0 for constant predictions", True, _of_counts(score_matthews)),
    "macro_f1": Metric("mean F1 over labels", True, _of_counts(score_macro_f1)),
    "ece": Metric("expected calibration error, 10 bins", False, measure_calibration),
}


def choose_primary_metric(labels: int) -> str:
    """What a task of so many labels is judged by where nobody says: beyond two, each label counts as much as any."""
    return "accuracy" if labels == 2 else "macro_f1"
