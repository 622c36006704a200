"""Reliability: accuracy by the stated probability.

Owns the bins and the figures of calibration that go together. Source: Niculescu-Mizil and Caruana 2005,
https://doi.org/10.1145/1102351.1102430
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from fewtune.metrics.counts import FloatArray, IntArray
from fewtune.metrics.probabilities import CALIBRATED, CALIBRATION_BINS, describe, measure_calibration


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose answer had a probability in one tenth of 0 to 1: their mean probability, and the share that was right
    with its 95 % interval (Wilson's).
    """

    rows: int
    confidence: float
    accuracy: float
    low: float
    high: float


def describe_calibration(probabilities: FloatArray, gold: IntArray) -> Mapping[str, float]:
    """Log loss, Brier score and calibration error of probabilities (rows, labels), and that of a calibrated model."""
    figures = describe(probabilities, gold)
    error = measure_calibration(gold, probabilities.argmax(axis=1).astype(np.int64), probabilities)
    return {"log_loss": figures["log_loss"], "brier": figures["brier"], "ece": error, CALIBRATED: figures[CALIBRATED]}


def bin_answers(probabilities: FloatArray, gold: IntArray) -> list[ReliabilityBin]:
    """Rows by the probability of their answer, in tenths; those that hold none are left out."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == gold
    places = np.minimum((sure * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        interval = binomtest(int(right[inside].sum()), int(inside.sum())).proportion_ci(method="wilson")
        found.append(
            ReliabilityBin(
                rows=int(inside.sum()),
                confidence=float(sure[inside].mean()),
                accuracy=float(right[inside].mean()),
                low=float(interval.low),
                high=float(interval.high),
            )
        )
    return found
