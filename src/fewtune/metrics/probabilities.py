"""Metrics of label probabilities: log loss, ranking and calibration, which do not depend on a threshold.

Owns AUROC, log loss, Brier score, accuracy after recentring and expected calibration error, over plain arrays. Does not
know how predictions are read. Sources: Guo et al. 2017, https://arxiv.org/abs/1706.04599 (calibration error); DeLong et
al. 1988, https://doi.org/10.2307/2531595 (what each row adds to an AUROC); Brier 1950,
https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2; Zhou et al. 2024, https://arxiv.org/abs/2309.17249
(recentring by the mean over unlabelled rows).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fewtune.metrics.counts import FloatArray, IntArray

AUROC = "auroc"
CALIBRATED = "calibrated_ece"
"""The calibration error that a calibrated model would show on so many rows."""
FIGURES = (AUROC, "log_loss", "brier", "recentred_accuracy", CALIBRATED)
"""What `describe` gives, by name."""
LEAST_PROBABILITY = 1e-12
"""A gold label's probability counts as no less in a log loss."""


CALIBRATION_BINS = 10


def measure_calibration(gold: IntArray, predicted: IntArray, probabilities: FloatArray) -> float:
    """Expected calibration error: 10 equal-width bins over the predicted label's probability (rows, labels)."""
    confidence = probabilities[np.arange(len(predicted)), predicted]
    right = (gold == predicted).astype(np.float64)
    gap = np.bincount(_place_in_bins(confidence), weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(gold))


def expect_calibration(confidence: FloatArray) -> float:
    """The calibration error to be expected on these rows (rows,) of answers that are right as often as they say.

    It is not 0: a bin's gap is a sum of few rows, about normal, whose mean size is sqrt(2 / pi) of its deviation.
    """
    spread = np.bincount(_place_in_bins(confidence), weights=confidence * (1 - confidence), minlength=CALIBRATION_BINS)
    return float(np.sqrt(2 / np.pi * np.maximum(spread, 0.0)).sum() / len(confidence))


def _place_in_bins(confidence: FloatArray) -> IntArray:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def merge_labels(log_probabilities: FloatArray, counts_as: IntArray) -> FloatArray:
    """Probabilities (rows, a test set's labels) from unnormalised log probabilities (rows, the task's labels).

    `counts_as` (the task's labels,) says which of the test set's labels, from 0, each stands for.
    """
    shifted = np.exp(log_probabilities - log_probabilities.max(axis=1, keepdims=True))
    probabilities: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    if np.array_equal(counts_as, np.arange(probabilities.shape[1])):  # each stands for itself
        return probabilities
    merged = np.zeros((len(probabilities), int(counts_as.max()) + 1))
    for place, label in enumerate(counts_as):
        merged[:, label] += probabilities[:, place]
    return merged


def describe(probabilities: FloatArray, gold: IntArray) -> Mapping[str, float]:
    """All FIGURES of probabilities (rows, labels) for gold labels (rows,); AUROC is left out where one label is gold.

    The Brier score sums over labels: 0 to 2. Recentred: each label's probability over its mean over these rows.
    """
    return describe_ranked(probabilities, gold, rank_rows(probabilities, gold))


def describe_ranked(
    probabilities: FloatArray, gold: IntArray, ranks: tuple[float, FloatArray] | None
) -> Mapping[str, float]:
    """`describe`, for whoever has the ranks of these rows (`rank_rows`) at hand."""
    rows = len(gold)  # sums over it and not means, which take twice as long of few rows
    given = probabilities[np.arange(rows), gold]
    centred = probabilities / np.maximum(probabilities.sum(axis=0) / rows, LEAST_PROBABILITY)
    found = {
        "log_loss": float(-np.log(np.maximum(given, LEAST_PROBABILITY)).sum() / rows),
        "brier": float(((probabilities**2).sum() - 2 * given.sum()) / rows + 1),
        "recentred_accuracy": float(np.count_nonzero(centred.argmax(axis=1) == gold) / rows),
        CALIBRATED: expect_calibration(probabilities.max(axis=1)),
    }
    return found if ranks is None else {AUROC: ranks[0], **found}


def rank_rows(probabilities: FloatArray, gold: IntArray) -> tuple[float, FloatArray] | None:
    """AUROC, and what one more of each row (rows,) would add to it, to first order; None where one label is gold.

    Of more than two labels it is the mean of each against the rest.
    """
    counts = np.bincount(gold, minlength=probabilities.shape[1]).tolist()
    labels = [label for label, count in enumerate(counts) if 0 < count < len(gold)]
    if not labels:
        return None
    if probabilities.shape[1] == 2:  # one against the rest is the other against it
        with np.errstate(divide="ignore"):  # the odds tell apart what probabilities near 1 do not
            odds = np.log(probabilities[:, 1]) - np.log(probabilities[:, 0])
        return _rank_against_rest(odds, gold == 1)
    each = [_rank_against_rest(probabilities[:, label], gold == label) for label in labels]
    return float(np.mean([area for area, _ in each])), np.asarray(np.mean([effects for _, effects in each], 0))


def _rank_against_rest(scores: FloatArray, positive: np.ndarray) -> tuple[float, FloatArray]:
    ups, downs = scores[positive], scores[~positive]
    wins = np.empty(len(scores))
    above = _count_below(ups, downs) / len(downs)
    wins[positive] = above
    wins[~positive] = 1 - _count_below(downs, ups) / len(ups)
    area = float(above.sum() / len(ups))
    return area, (wins - area) / np.where(positive, len(ups), len(downs))


def _count_below(scores: FloatArray, others: FloatArray) -> FloatArray:
    """How many of the others each score is above, (scores,), ties a half."""
    ordered = others.copy()
    ordered.sort()
    return (ordered.searchsorted(scores, "left") + ordered.searchsorted(scores, "right")) / 2
