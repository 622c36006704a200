"""Scores, answers and differences made up by a test, so that what follows from them can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fewtune.inference.answers import DrawAnswers, DrawKey, MethodAnswers
from fewtune.inference.differences import Difference, Variance
from fewtune.inference.scores import DrawScore, MethodScores


def make_scores(values: Mapping[str, Sequence[float | None]]) -> dict[str, MethodScores]:
    """Methods' scores by draw (None: the method lacks it), as if over so many rows that they add nothing."""
    return {
        name: {
            (draw, ""): DrawScore(value, np.array([draw]), np.zeros(1))
            for draw, value in enumerate(each)
            if value is not None
        }
        for name, each in values.items()
    }


def make_answers(right: Sequence[float | None], rows: int = 1000, shared: bool = False) -> MethodAnswers:
    """Answers of one fit seed that are right in these shares, one a draw (None: it lacks the draw); gold is one label.

    Draws share their test rows or have each its own.
    """
    found: dict[DrawKey, Mapping[str, DrawAnswers]] = {}
    for draw, share in enumerate(right):
        if share is not None:
            predicted = (np.arange(rows) >= round(share * rows)).astype(np.int64)[None]
            codes = np.arange(rows) + (0 if shared else draw * rows)
            found[draw, ""] = {"in_domain": DrawAnswers(np.zeros(rows, dtype=np.int64), predicted, 2, codes)}
    return found


def make_difference(mean: float, error: float, draws: int = 3, lent: float = 0.0) -> Difference:
    """A difference of so large a mean and standard error, which test rows have no part in."""
    each = Variance(draws * error**2 / 2)
    pair = Variance(draws * error**2)
    return Difference(mean, (mean,) * draws, (draws, draws), each, each, pair, lent)
