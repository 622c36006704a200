"""What a model's answers to labelled rows are worth: metrics with intervals, and which label was taken for which.

Owns the measuring. Intervals are those of the choice of rows: an accuracy's is Wilson's (1927,
https://doi.org/10.1080/01621459.1927.10502953), of others normal, by what each row adds, and never shorter than so
many rows can tell where all are answered alike. One that would hold every score there is says nothing and is left out.
So is a Matthews correlation's where all rows have one answer, or one label: it is 0 then whatever they are, the only
score that nothing varies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from fewtune.analysis.stability import Bounds, bound_within
from fewtune.inference.answers import DrawAnswers
from fewtune.inference.better import LEVEL
from fewtune.inference.differences import measure_score
from fewtune.inference.scores import score_answers
from fewtune.metrics.counts import RANGES, SCORES, IntArray, count_answers
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
        answers = DrawAnswers(gold, predicted[None], labels, np.arange(len(gold)))
        measured = measure_score([score_answers(answers, name)])
        mean, reach = measured.mean, measured.reach(LEVEL / 2)
        varies = measured.error > 0
        found[name] = (
            bound_within(mean, mean - reach, mean + reach, RANGES[name]) if varies else Bounds(mean, None, None)
        )
    right = binomtest(int((predicted == gold).sum()), len(gold)).proportion_ci(0.95, method="wilson")
    found["accuracy"] = replace(found["accuracy"], low=float(right.low), high=float(right.high))
    for name, value in describe(probabilities, gold).items():
        found.setdefault(name, Bounds(value, None, None))
    found["ece"] = Bounds(measure_calibration(gold, predicted, probabilities), None, None)
    share = float(np.bincount(gold, minlength=labels).max() / len(gold))
    return Evaluation(found, share, count_answers(gold, predicted, labels))
