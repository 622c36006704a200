"""Estimates the share of rows whose label the file lacks, and how much that lowers the scores of folds.

Owns both estimates: Good and Turing's of the rows of such labels, Chao's of how many labels there are. Both take the
file's rows for a random sample. Folds judge no label of one row and none that is absent: the scores of all others alone
would be too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewtune.metrics.counts import count_answers, total_answers

DRAWS = 2000
"""Of how many labels have one row and two, for the error of what follows from both."""


@dataclass(frozen=True)
class AbsentLabels:
    """How many of a file's labels have one row and two."""

    single: int
    double: int
    rows: int
    """Of the file."""

    @property
    def share(self) -> float:
        """Of new rows, those of a label that the file lacks (I. J. Good, Biometrika 40, 1953)."""
        return self.single / self.rows

    def lower_accuracy(self, accuracy: float) -> float:
        """What an accuracy on rows of known labels is on all: a row of an absent label is answered wrong."""
        return accuracy * (1 - self.share)

    def lower_macro_f1(
        self, score: float, error: float, gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]
    ) -> tuple[float, float]:
        """A macro F1 and its error over all labels, from those on rows of the labels that folds judge, (rows,) each.

        A label of one row is taken to be found as those of two are, for the folds' models had one row of these, and
        not at all where there are none of two; an absent label's F1 is 0. Where labels are absent, which ones the
        file has is a draw too: the error is at least that of a mean over labels drawn at random.
        """
        if not self.single:
            return score, error
        right, given, answered = total_answers(
            count_answers(gold, predicted, int(max(gold.max(), predicted.max())) + 1)
        )
        judged = given > 0
        own = 2 * right[judged] / (given + answered)[judged]
        pairs = own[given[judged] == 2]
        alike = float(pairs.mean()) if pairs.size else 0.0
        labels = judged.sum() + (~judged & (answered > 0)).sum()  # that the score is the mean over
        rng = np.random.default_rng(0)
        single = np.concatenate([[self.single], rng.poisson(self.single, DRAWS)])
        absent = _count_absent(single, np.concatenate([[self.double], rng.poisson(self.double, DRAWS)]))
        found = (own.sum() + single * alike) / (judged.sum() + single + absent)
        of_labels = float(own.std(ddof=1)) / math.sqrt(len(own)) if len(own) > 1 else 0.0
        return score + float(found[0] - own.sum() / labels), math.hypot(max(error, of_labels), float(found[1:].std()))


def find_absent_labels(labels: npt.NDArray[np.int64]) -> AbsentLabels:
    """What a file's labels (rows,) say of those it lacks."""
    counts = np.bincount(labels)
    return AbsentLabels(int((counts == 1).sum()), int((counts == 2).sum()), len(labels))


def _count_absent(single: npt.NDArray[np.int64], double: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How many labels have no row (A. Chao, Scandinavian Journal of Statistics 11, 1984, its form without bias)."""
    return np.asarray(single * (single - 1) / (2 * (double + 1)), dtype=np.float64)
