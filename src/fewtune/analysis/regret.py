"""Regret bounds: how many points each method of a group may be below the best one, all at once.

Owns the bound. Does not know what a method costs, or which one to use (`decision`).

The method: multiple comparisons with the best under common random numbers. With k methods, whose scores are paired by
draw, method c is at most R_c below the best, R_c being the largest over the others j of

    mean of (j - c) over draws + reach, and 0,

where the reach is one-sided at a level of 5 % over k - 1. Whichever method b is truly the best, the k - 1 pairs (b, c)
decide whether any bound is wrong: so all k hold at once, at 95 % or more. The variance of a pair's differences over
draws borrows from the other pairs of c (a few draws tell little of a variance), is never below what the choice of test
rows alone brings about, and what rows that draws share do to all of them is added by the squares.
Sources: Hsu 1981, https://doi.org/10.1214/aos/1176345582; Nelson and Matejcik 1995,
https://doi.org/10.1287/mnsc.41.12.1935; Smyth 2004, https://doi.org/10.2202/1544-6115.1027
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from fewtune.analysis import statistics
from fewtune.analysis.answers import VariantAnswers
from fewtune.analysis.comparison import IN_DOMAIN_ALONE
from fewtune.analysis.leaderboard import DrawKey
from fewtune.analysis.statistics import FloatArray, IntArray
from fewtune.errors import RecordError, name_choices

FEWEST_DRAWS = 2
"""One draw says nothing of how the next may differ."""


@dataclass(frozen=True)
class PairedDraw:
    """One method's score on one draw: rows' codes (rows,), and what one more of each would add to it (rows,)."""

    score: float
    rows: IntArray
    effects: FloatArray


Scored = Mapping[DrawKey, PairedDraw]
"""One method's scores by draw."""


@dataclass(frozen=True)
class PairDifference:
    """Two methods on the draws that both have: differences by draw, and what the choice of rows does to their mean.

    `rows_variance` is the variance of the mean by rows that are each draw's own, `common_variance` that by shared ones.
    """

    by_draw: tuple[float, ...]
    rows_variance: float
    common_variance: float


@dataclass(frozen=True)
class RegretBound:
    """A method is at most `bound` below the best, in the metric's own unit; None where that cannot be told yet.

    `rival` is the method that may be above it by so much, None where none may be; `draws` the fewest it was paired on.
    """

    bound: float | None
    rival: str | None
    draws: int


def bound_regrets(
    answers: Mapping[str, VariantAnswers],
    metric: str,
    weights: Mapping[str, float] = IN_DOMAIN_ALONE,
    level: float = statistics.LEVEL,
) -> dict[str, RegretBound]:
    """Every method's bound, all at once at 1 - level; test sets weigh as told. Raises RecordError for other metrics."""
    return bound_scored(score_draws(answers, metric, weights), metric, level)


def bound_scored(scored: Mapping[str, Scored], metric: str, level: float = statistics.LEVEL) -> dict[str, RegretBound]:
    """Every method's bound from its scores by draw."""
    span = statistics.RANGES[metric][1] - statistics.RANGES[metric][0]
    return {name: _bound_one(name, scored, level / max(1, len(scored) - 1), span) for name in scored}


def score_draws(
    answers: Mapping[str, VariantAnswers], metric: str, weights: Mapping[str, float] = IN_DOMAIN_ALONE
) -> dict[str, Scored]:
    """Each method's score on each draw, test sets weighed, fit seeds averaged."""
    if metric not in statistics.SCORES:
        raise RecordError(name_choices(metric, statistics.SCORES, "primary metric"))
    return {name: {key: _score_draw(key, draws, metric, weights) for key in draws} for name, draws in answers.items()}


def _score_draw(key: DrawKey, draws: VariantAnswers, metric: str, weights: Mapping[str, float]) -> PairedDraw:
    parts = [(share, draws[key][test_set]) for test_set, share in weights.items()]
    scores = []
    for share, each in parts:
        gold, predicted = each.gold.astype(np.int64), each.predicted.astype(np.int64)
        scores.append((share, statistics.score_with_effects(gold, predicted, each.labels, metric)))
    return PairedDraw(
        sum(share * score for share, (score, _) in scores),
        np.concatenate([each.rows for _, each in parts]).astype(np.int64),
        np.concatenate([share * effects for share, (_, effects) in scores]),
    )


def subtract(first: Scored, second: Scored) -> PairDifference:
    """First minus second, draw by draw over those that both have."""
    shared = sorted(first.keys() & second.keys())
    by_draw = tuple(first[key].score - second[key].score for key in shared)
    if not shared:
        return PairDifference((), 0.0, 0.0)
    rows = np.concatenate([first[key].rows for key in shared])
    effects = np.concatenate([first[key].effects - second[key].effects for key in shared]) / len(shared)
    own = float((effects**2).sum())
    together = float((np.bincount(np.unique(rows, return_inverse=True)[1], effects) ** 2).sum())
    return PairDifference(by_draw, own, max(0.0, together - own))


def _bound_one(name: str, scored: Mapping[str, Scored], level: float, span: float) -> RegretBound:
    pairs = {other: subtract(draws, scored[name]) for other, draws in scored.items() if other != name}
    fewest = min((len(pair.by_draw) for pair in pairs.values()), default=len(scored[name]))
    if fewest < FEWEST_DRAWS:
        return RegretBound(None, None, fewest)
    reaches = {
        other: reach_above(pair, borrow(pairs.values(), len(pair.by_draw)), level) for other, pair in pairs.items()
    }
    highest = {other: float(np.mean(pair.by_draw)) + reaches[other] for other, pair in pairs.items()}
    rival = max(highest, key=highest.__getitem__, default=None)
    if rival is None or highest[rival] <= 0:
        return RegretBound(0.0, None, fewest)
    return RegretBound(min(span, highest[rival]), rival, fewest)


def borrow(pairs: Iterable[PairDifference], draws: int) -> statistics.Borrowed:
    """What the variances of pairs on so many draws say of each of theirs."""
    return statistics.borrow_variance([each.by_draw for each in pairs if len(each.by_draw) == draws])


def reach_above(pair: PairDifference, borrowed: statistics.Borrowed, level: float, draws: int | None = None) -> float:
    """How far above its mean a pair's difference may be, one-sided at a level; of `draws` draws like these."""
    have = len(pair.by_draw)
    draws = have if draws is None else draws
    own = (have - 1) * float(np.var(pair.by_draw, ddof=1)) + borrowed.freedom * borrowed.variance
    variance = max(own / (have - 1 + borrowed.freedom), have * pair.rows_variance)
    by_draws = -float(special.stdtrit(draws - 1 + borrowed.freedom, level)) * math.sqrt(variance / draws)
    by_rows = -float(special.ndtri(level)) * math.sqrt(pair.common_variance)
    return math.hypot(by_draws, by_rows)
