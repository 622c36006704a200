"""What a model's answers to test rows are worth.

Owns what is made of labels that a model never saw, or of no answer at all; each metric is fewtune's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.take_home.side import NO_ANSWER
from fewtune.metrics.counts import count_answers, score_all

LEAST_PROBABILITY = 1e-3
"""What a model is taken to have given a label that it gave less: a small sample lacks labels, and infinity is no
figure."""


def score_answers(probabilities: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 and log loss of probabilities (rows, labels) and predictions (rows,); NO_ANSWER is wrong."""
    labels = probabilities.shape[1]
    # No answer is a label that is never right, which macro F1 counts as one where it is given.
    counts = count_answers(gold, np.where(predicted == NO_ANSWER, labels, predicted), labels + 1)
    given = np.maximum(probabilities[np.arange(len(gold)), gold], LEAST_PROBABILITY)
    return {**score_all(counts, ("accuracy", "macro_f1")), "log_loss": float(-np.log(given).mean())}


def place_labels(given: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """The place of each label among all, (rows,)."""
    places: dict[str, Any] = {label: place for place, label in enumerate(labels)}
    return np.array([places[label] for label in given], dtype=np.int64)
