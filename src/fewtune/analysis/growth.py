"""Extrapolates a learning curve to twice as many labelled rows.

Owns the curve and its interval. Each draw's errors follow a power of the number of rows (Hestness et al. 2017,
https://arxiv.org/abs/1712.00409); the spread of what the draws expect gives the interval, widened because draws of one
file share rows (Nadeau and Bengio 2003, https://doi.org/10.1023/A:1024068626366).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewtune.errors import DataError


@dataclass(frozen=True)
class Growth:
    """The mean score at the most rows tried, and what is expected at twice as many, with its 95 % interval.

    `fitted` is what the curve through all sizes has at the most rows tried.
    """

    shots: int
    score: float
    fitted: float
    expected: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """What the curve gains by as many rows again: nothing where it is flat."""
        return self.expected - self.fitted


@dataclass(frozen=True)
class RowEffects:
    """What the choice of a draw's test rows does to its score: a variance; and the most that one row can change."""

    variance: float
    weight: float


def expect_growth(
    scores: Mapping[int, Sequence[float]],
    test_rows: int,
    apart: float = 0.0,
    tests_shared: bool = False,
    by_rows: RowEffects | None = None,
) -> Growth:
    """What twice as many rows as the most tried are expected to bring, from scores by shots, draws in one order.

    Scores are of 1 at most, where there is no error. `apart` is the share of one file's rows that a draw did not fit
    on, 0 where draws share none; `tests_shared` that all were tested on the same rows, whose choice then counts too.
    `by_rows` says what it does to a score that is no share of right answers.

    Raises DataError for fewer than two sizes, or fewer than two draws.
    """
    from scipy.stats import t

    sizes = sorted(scores)
    draws = {len(scores[size]) for size in sizes}
    if len(sizes) < 2 or len(draws) != 1 or min(draws) < 2:
        raise DataError("a learning curve needs two numbers of rows at least, and two draws of each.")
    [count] = draws
    errors = np.maximum(1 - np.array([scores[size] for size in sizes], dtype=float), 0.5 / test_rows)
    logs = np.log(sizes)
    centred = logs - logs.mean()

    def extrapolate(of: np.ndarray, steepest: float, times: int = 2) -> np.ndarray:
        """The score of so many times the most rows, from errors (sizes,) or (sizes, draws); slopes are that at most."""
        slopes = np.minimum(centred @ np.log(of) / (centred @ centred), steepest)
        ahead = np.log(of).mean(axis=0) + slopes * (math.log(times * sizes[-1]) - logs.mean())
        scores: np.ndarray = 1 - np.exp(np.minimum(ahead, 0.0))
        return scores

    by_draw = extrapolate(errors, math.inf)
    by_draws = float(t.ppf(0.975, count - 1) * by_draw.std(ddof=1) * math.sqrt(1 / count + apart / (1 - apart)))
    # More rows do no harm in the long run: a curve that falls by chance is taken for a flat one.
    least, score = 0.5 / test_rows, float(np.mean(scores[sizes[-1]]))
    fitted, mean = (float(extrapolate(errors.mean(axis=1), 0.0, times)) for times in (1, 2))
    if 1 - mean <= least * (1 + 1e-9):
        # No error was seen: the floor stood for it and is no loss; the low end is by the rule of three.
        expected = max(mean, score)
        unseen = 3 / test_rows if by_rows is None else 3 * by_rows.weight
        return Growth(sizes[-1], score, max(fitted, score), expected, max(0.0, min(mean, 1 - unseen)), 1.0)
    variance = mean * (1 - mean) / test_rows if by_rows is None else by_rows.variance
    reach = math.hypot(by_draws, 1.96 * math.sqrt(variance) if tests_shared else 0.0)
    return Growth(sizes[-1], score, fitted, mean, max(0.0, mean - reach), min(1.0, mean + reach))
