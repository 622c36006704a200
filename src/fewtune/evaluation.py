"""What a model's answers to labelled rows are worth: metrics with intervals, and which label was taken for which.

Owns the measuring. Intervals are those of the choice of rows, which are resampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fewtune.analysis import resampling, statistics
from fewtune.analysis.comparison import ANALYSIS_SEED, RESAMPLES
from fewtune.analysis.stability import Bounds
from fewtune.metrics.counts import SCORES, IntArray, count_answers
from fewtune.metrics.probabilities import describe, measure_calibration


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, of which some have no interval; `confusion` (labels, labels) counts rows by gold and answer."""

    metrics: Mapping[str, Bounds]
    majority: float
    """The share of the commonest label."""
    confusion: IntArray


def measure(probabilities: np.ndarray, gold: IntArray) -> Evaluation:
    """Measure probabilities (rows, labels) against gold labels (rows,)."""
    predicted, labels = probabilities.argmax(axis=1).astype(np.int64), probabilities.shape[1]
    found = {}
    for name in SCORES:
        rng = np.random.default_rng(ANALYSIS_SEED)
        taken = resampling.take_score(gold, predicted[None], np.arange(len(gold)), labels, name, rng)
        bounds = statistics.bound_difference([taken], RESAMPLES, rng)
        found[name] = Bounds(bounds.point, bounds.low, bounds.high)
    for name, value in describe(probabilities, gold).items():
        found.setdefault(name, Bounds(value, None, None))
    found["ece"] = Bounds(measure_calibration(gold, predicted, probabilities), None, None)
    share = float(np.bincount(gold, minlength=labels).max() / len(gold))
    return Evaluation(found, share, count_answers(gold, predicted, labels))
