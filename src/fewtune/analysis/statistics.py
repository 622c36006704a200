"""Intervals, tests and summaries over plain arrays.

Owns the statistics: interquartile mean, hierarchical bootstrap, sign-flip test, Holm's correction, and the
scores that are computed from counts. Does not know what a record, a method or a file is.
Sources: https://arxiv.org/abs/2108.13264 (interquartile mean, bootstrap over runs); Holm 1979,
https://www.jstor.org/stable/4615733; Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006
(Matthews correlation beyond two labels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Score = Callable[[npt.NDArray[np.int64]], FloatArray]
"""Counts (..., gold label, predicted label) -> scores (...)."""

CONFIDENCE = 0.95
FEWEST_DRAWS_TO_TEST = 6
"""Below six draws the exact two-sided sign-flip test cannot reach p < 0.05 whatever the data."""


@dataclass(frozen=True)
class Interval:
    """A mean difference with its 95 % interval; with one draw it covers the choice of rows only."""

    point: float
    low: float
    high: float
    draws: int


@dataclass(frozen=True)
class PairedRows:
    """One draw's answers of two methods: gold (rows,), first (fit seeds, rows), second (fit seeds, rows).

    All three hold label indices.
    """

    gold: IntArray
    first: IntArray
    second: IntArray


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Average the middle half of the values (runs,); below four values nothing is cut and it is the mean."""
    return float(stats.trim_mean(np.asarray(values, dtype=np.float64).ravel(), 0.25))


def bootstrap_difference(differences: Sequence[FloatArray], resamples: int, rng: np.random.Generator) -> Interval:
    """Bound the mean over draws of row differences: draws are resampled, then rows within each.

    The interval is that bootstrap's, or Student's t over the draws' own differences where that is wider.
    differences: one array (rows,) a draw, first method minus second on the same row; draws weigh the same.
    """
    resample_rows = [_resample_mean(rows, rng) for rows in differences]
    return _bound([float(rows.mean()) for rows in differences], resample_rows, resamples, rng)


def bootstrap_score_difference(
    draws: Sequence[PairedRows], labels: int, score: Score, resamples: int, rng: np.random.Generator
) -> Interval:
    """Bound the difference of a score that is no mean over rows (Matthews correlation, macro-F1).

    Resampled as in `bootstrap_difference`; the score is taken over each resample's counts for every fit seed,
    and averaged over fit seeds.
    """
    resample_rows = [_resample_score(rows, labels, score, rng) for rows in draws]
    return _bound([score_difference(rows, labels, score) for rows in draws], resample_rows, resamples, rng)


def score_difference(rows: PairedRows, labels: int, score: Score) -> float:
    """Score the first method minus the second on one draw, each averaged over its fit seeds."""
    first = [score(count_answers(rows.gold, answers, labels)) for answers in rows.first]
    second = [score(count_answers(rows.gold, answers, labels)) for answers in rows.second]
    return float(np.mean(first) - np.mean(second))


def bound_by_draws(points: Sequence[float]) -> tuple[float, float] | None:
    """Student's t interval of the mean over draws (draws,), each its own point; None for a single draw.

    Resampling two or three draws cannot show how much draws differ; this is right for few when they are normal.
    """
    if len(points) < 2:
        return None
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(points) - 1) * np.std(points, ddof=1) / np.sqrt(len(points))
    return float(np.mean(points) - reach), float(np.mean(points) + reach)


def sign_flip_p(draw_differences: npt.ArrayLike) -> float | None:
    """Test that differences (draws,) are symmetric about zero, two-sided and exact; None below six draws."""
    differences = np.asarray(draw_differences, dtype=np.float64)
    if len(differences) < FEWEST_DRAWS_TO_TEST:
        return None
    half = len(differences) // 2
    # Every signed sum is one of the left half plus one of the right: 2^(n/2) values each, not 2^n.
    left, right = _signed_sums(differences[:half]), np.sort(_signed_sums(differences[half:]))
    reach = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    if reach <= 0:
        return 1.0
    above = len(right) - np.searchsorted(right, reach - left, side="left")
    below = np.searchsorted(right, -reach - left, side="right")
    return float((above + below).sum() / 2 ** len(differences))


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Correct p values (comparisons,) for their number by Holm's step-down rule, in the order given."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    steps = given[order] * np.arange(len(given), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def count_answers(gold: IntArray, predicted: IntArray, labels: int) -> IntArray:
    """Count gold (rows,) against predicted (rows,) label indices: (gold label, predicted label)."""
    counts = np.bincount(gold * labels + predicted, minlength=labels * labels)
    return counts.reshape(labels, labels).astype(np.int64)


def score_accuracy(counts: IntArray) -> FloatArray:
    """Share of right answers: counts (..., gold, predicted) -> (...)."""
    return np.asarray(_diagonal(counts).sum(-1) / counts.sum((-2, -1)), dtype=np.float64)


def score_matthews(counts: IntArray) -> FloatArray:
    """Matthews correlation, 0 where either side is one label: counts (..., gold, predicted) -> (...)."""
    exact = counts.astype(np.float64)
    rows, right = exact.sum((-2, -1)), _diagonal(exact).sum(-1)
    gold, predicted = exact.sum(-1), exact.sum(-2)
    covariance = right * rows - (gold * predicted).sum(-1)
    spread = (rows**2 - (gold**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1))
    correlation = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(correlation, dtype=np.float64)


def score_macro_f1(counts: IntArray) -> FloatArray:
    """Mean F1 over labels, 0 for one neither gold nor predicted: counts (..., gold, predicted) -> (...)."""
    exact = counts.astype(np.float64)
    total = exact.sum(-1) + exact.sum(-2)
    f1 = np.divide(2 * _diagonal(exact), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(f1.mean(-1), dtype=np.float64)


SCORES: Mapping[str, Score] = {
    "accuracy": score_accuracy,
    "mcc": score_matthews,
    "macro_f1": score_macro_f1,
}
"""The primary metrics that can be resampled, by their name in a record."""


def _diagonal(counts: npt.NDArray[np.generic]) -> FloatArray:
    return np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)


def _signed_sums(values: FloatArray) -> FloatArray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _bound(
    points: Sequence[float],
    resample_rows: Sequence[Callable[[int], FloatArray]],
    resamples: int,
    rng: np.random.Generator,
) -> Interval:
    draws = len(resample_rows)
    chosen = rng.integers(draws, size=(resamples, draws))
    values = np.empty((resamples, draws))
    for draw, resample in enumerate(resample_rows):
        here = chosen == draw
        values[here] = resample(int(here.sum()))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values.mean(1), [tail, 1 - tail])
    by_draws = bound_by_draws(points)
    if by_draws is not None:
        low, high = min(low, by_draws[0]), max(high, by_draws[1])
    return Interval(float(np.mean(points)), float(low), float(high), draws)


def _resample_mean(rows: FloatArray, rng: np.random.Generator) -> Callable[[int], FloatArray]:
    # Rows drawn with replacement are counts of their distinct values: exact, and few values are distinct.
    values, counts = np.unique(rows, return_counts=True)

    def resample(times: int) -> FloatArray:
        drawn = rng.multinomial(len(rows), counts / len(rows), size=times)
        return np.asarray(drawn @ values / len(rows), dtype=np.float64)

    return resample


def _resample_score(
    rows: PairedRows, labels: int, score: Score, rng: np.random.Generator
) -> Callable[[int], FloatArray]:
    stacked = np.vstack([rows.gold[None], rows.first, rows.second])
    kinds, counts = np.unique(stacked, axis=1, return_counts=True)
    gold, answers, seeds = kinds[0], kinds[1:], len(rows.first)

    def score_seed(drawn: IntArray, predicted: IntArray) -> FloatArray:
        cell_of = np.eye(labels * labels, dtype=np.int64)[gold * labels + predicted]
        return score((drawn @ cell_of).reshape(-1, labels, labels))

    def resample(times: int) -> FloatArray:
        drawn = rng.multinomial(len(rows.gold), counts / len(rows.gold), size=times)
        scores = np.array([score_seed(drawn, predicted) for predicted in answers])
        return np.asarray(scores[:seeds].mean(0) - scores[seeds:].mean(0), dtype=np.float64)

    return resample
