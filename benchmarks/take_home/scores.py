"""What a model's answers to test rows are worth.

Owns what is made of labels that a model never saw, and of no answer at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.take_home.side import NO_ANSWER

LEAST_PROBABILITY = 1e-3
"""What a model is taken to have given a label that it gave less: a small sample lacks labels, and infinity is no
figure."""


def score_answers(probabilities: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 and log loss of probabilities (rows, labels) and predictions (rows,); NO_ANSWER is wrong."""
    from sklearn.metrics import f1_score

    labels = sorted({*gold.tolist(), *predicted.tolist()} - {NO_ANSWER})  # as fewtune's own macro F1 has them
    given = np.maximum(probabilities[np.arange(len(gold)), gold], LEAST_PROBABILITY)
    return {
        "accuracy": float((predicted == gold).mean()),
        "macro_f1": float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)),
        "log_loss": float(-np.log(given).mean()),
    }


def place_labels(given: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """The place of each label among all, (rows,)."""
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places[label] for label in given], dtype=np.int64)
