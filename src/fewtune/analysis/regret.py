"""Regret bounds: how many points each method of a group may be below the best one, all at once.

Owns the bound. Does not know what a method costs, or which one to use (`decision`).

The method: multiple comparisons with the best under common random numbers. With k methods, whose scores are paired by
draw, the upper confidence limit of method j's lead over method c is, one-sided at 5 % over k - 1,

    mean of (j - c) over draws + reach.

Whichever method b is truly the best, with 95 % or more the k - 1 limits of its own leads all hold, and all that follows
then holds too. A method whose lead over some other has a negative limit is inferior: it is not the best. So method c is
at most R_c below the best, R_c being the largest limit of the leads over it of methods that are not inferior, or 0.
Several looks share the 5 %; a lead has a limit by each of them, and the lowest counts.

The variance of a pair's differences over draws borrows from the other pairs of c (a few draws tell little of a
variance), is never below what the choice of test rows alone brings about, and what rows that draws share do to all of
them is added by the squares. The reach is never shorter than what so many rows can tell where they show no difference.
Sources: Hsu 1981, https://doi.org/10.1214/aos/1176345582; Nelson and Matejcik 1995,
https://doi.org/10.1287/mnsc.41.12.1935; Smyth 2004, https://doi.org/10.2202/1544-6115.1027
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import special

from fewtune.analysis import resampling, statistics
from fewtune.analysis.answers import VariantAnswers
from fewtune.analysis.comparison import IN_DOMAIN_ALONE
from fewtune.analysis.leaderboard import DrawKey
from fewtune.analysis.unseen import RowsTested, SetWeight, look_at_pair, look_at_rows, reach_unseen, weigh_rows
from fewtune.errors import RecordError, name_choices
from fewtune.metrics.counts import RANGES, SCORES, FloatArray, IntArray

FEWEST_DRAWS = 2
"""One draw says nothing of how the next may differ."""


@dataclass(frozen=True)
class PairedDraw:
    """One method's score on one draw: rows' codes (rows,), from 0, and what one more of each adds to it (rows,)."""

    score: float
    rows: IntArray
    effects: FloatArray
    shared_support: float = 0.0
    """Share of its labelled rows that another draw has too, on average."""
    tested: tuple[RowsTested, ...] = ()
    """Its test sets, each with what one of its rows can add to the score."""


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
    shared_support: float = 0.0
    tested: tuple[SetWeight, ...] = ()
    """What one test row of all that were drawn can add to the mean difference, by test set."""


@dataclass(frozen=True)
class Rivals:
    """One method against all others: each other's scores minus its own, by the other's name.

    `borrowed` is what the variances of these differences say of one another, by the number of draws.
    """

    draws: int
    """Those of the method itself."""
    pairs: Mapping[str, PairDifference]
    borrowed: Mapping[int, statistics.Borrowed]

    def highest(self, level: float, draws: int | None = None, rows: float = 1.0) -> dict[str, float]:
        """How far each other may be above, one-sided at a level; infinite: not known.

        Of `draws` draws like these, on `rows` times as many rows.
        """
        return {
            name: self._mean(pair) + self._reach(pair, level, draws, rows)
            if len(pair.by_draw) >= FEWEST_DRAWS
            else math.inf
            for name, pair in self.pairs.items()
        }

    def _mean(self, pair: PairDifference) -> float:
        return float(np.mean(pair.by_draw))

    def _reach(self, pair: PairDifference, level: float, draws: int | None, rows: float) -> float:
        return reach_above(pair, self.borrowed[len(pair.by_draw)], level, draws, rows)


@dataclass(frozen=True)
class RegretBound:
    """A method is at most `bound` below the best, in the metric's own unit; None where that cannot be told yet.

    `rival` is the method that may be above it by so much, None where none may be; `draws` the fewest it was paired on.
    """

    bound: float | None
    rival: str | None
    draws: int
    least: float = 0.0
    """How far below `above` it is at the least: the truly best method is above 0 as seldom as a bound is wrong."""
    above: str | None = None
    """The method that is above it beyond doubt, None where none is."""


@dataclass(frozen=True)
class UpperLimits:
    """Upper confidence limits of all leads, by all looks so far: highest[c][j] is that of j's lead over c."""

    highest: Mapping[str, Mapping[str, float]]

    @cached_property
    def inferior(self) -> dict[str, str]:
        """The methods that are not the best, each with one that is above it.

        Empty where this would be said of all of them: then some limit is wrong, and which one is not known.
        """
        found = {}
        for name in self.highest:
            over = {other: row[name] for other, row in self.highest.items() if other != name}
            above = min(over, key=over.__getitem__, default=None)
            if above is not None and over[above] < 0:
                found[name] = above
        return found if len(found) < len(self.highest) else {}

    def find_lead(self, name: str, over: str) -> float:
        """The limit of how far `over` leads `name`: below 0 where `name` is above it beyond doubt."""
        return self.highest[name].get(over, 0.0)

    def find_rivals(self, name: str) -> dict[str, float]:
        """Those of the others that may be the best, with the limits of their leads over this method."""
        return {other: high for other, high in self.highest[name].items() if other not in self.inferior}


def combine_looks(looks: Sequence[tuple[Mapping[str, Rivals], float]]) -> UpperLimits:
    """The limits by several looks, each with the differences that it saw and its level; of the last one's methods."""
    rivals, level = looks[-1]
    highest = {name: each.highest(share_level(level, len(rivals))) for name, each in rivals.items()}
    for seen, spent in looks[:-1]:
        for name, each in seen.items():
            row = highest.get(name, {})
            for other, high in each.highest(share_level(spent, len(seen))).items():
                if other in row:
                    row[other] = min(row[other], high)
    return UpperLimits(highest)


def bound_rivals(
    rivals: Mapping[str, Rivals], limits: UpperLimits, metric: str, able: Collection[str] = ()
) -> dict[str, RegretBound]:
    """Every method's bound, all at once, from its differences to all others and what these may be.

    Of several that are above a method beyond doubt, one of the `able` ones, which may be chosen, is told before others.
    """
    span = RANGES[metric][1] - RANGES[metric][0]
    return {name: _bound_one(name, each, limits, span, able) for name, each in rivals.items()}


def share_level(level: float, methods: int) -> float:
    """The level of one pair of so many methods, of which one is the best."""
    return level / max(1, methods - 1)


def score_draws(
    answers: Mapping[str, VariantAnswers], metric: str, weights: Mapping[str, float] = IN_DOMAIN_ALONE
) -> dict[str, Scored]:
    """Each method's score on each draw, test sets weighed, fit seeds averaged.

    Raises RecordError for a metric that answers alone do not give.
    """
    if metric not in SCORES:
        raise RecordError(name_choices(metric, SCORES, "primary metric"))
    return {name: {key: _score_draw(key, draws, metric, weights) for key in draws} for name, draws in answers.items()}


def _score_draw(key: DrawKey, draws: VariantAnswers, metric: str, weights: Mapping[str, float]) -> PairedDraw:
    parts = [(share, draws[key][test_set]) for test_set, share in weights.items()]
    scores = []
    for share, each in parts:
        gold, predicted = each.gold.astype(np.int64), each.predicted.astype(np.int64)
        scores.append((share, resampling.score_with_effects(gold, predicted, each.labels, metric)))
    return PairedDraw(
        sum(share * score for share, (score, _) in scores),
        np.concatenate([each.rows for _, each in parts]).astype(np.int64),
        np.concatenate([share * effects for share, (_, effects) in scores]),
        max(each.shared_support for _, each in parts),
        tuple(look_at_rows(each, metric, share) for share, each in parts),
    )


def subtract(first: Scored, second: Scored) -> PairDifference:
    """First minus second, draw by draw over those that both have."""
    both = sorted(first.keys() & second.keys())
    by_draw = tuple(first[key].score - second[key].score for key in both)
    if not both:
        return PairDifference((), 0.0, 0.0)
    rows = np.concatenate([first[key].rows for key in both])
    effects = np.concatenate([first[key].effects - second[key].effects for key in both]) / len(both)
    own = float((effects**2).sum())
    together = float((np.bincount(rows, effects) ** 2).sum())
    shared_support = max(first[key].shared_support for key in both)
    sides = [zip(first[key].tested, second[key].tested, strict=True) for key in both]
    tested = weigh_rows([[look_at_pair(*pair) for pair in pairs] for pairs in sides])
    return PairDifference(by_draw, own, max(0.0, together - own), shared_support, tested)


def pair_methods(scored: Mapping[str, Scored]) -> dict[str, Rivals]:
    """Every method's differences to all others."""
    names = list(scored)
    differences: dict[tuple[str, str], PairDifference] = {}
    for place, first in enumerate(names):
        for second in names[:place]:
            found = subtract(scored[first], scored[second])
            differences[first, second] = found
            differences[second, first] = replace(found, by_draw=tuple(-each for each in found.by_draw))
    return {name: _pair_one(name, names, len(scored[name]), differences) for name in names}


def _pair_one(
    name: str, names: Sequence[str], draws: int, differences: Mapping[tuple[str, str], PairDifference]
) -> Rivals:
    pairs = {other: differences[other, name] for other in names if other != name}
    counts = {len(pair.by_draw) for pair in pairs.values()}
    borrowed = {
        count: statistics.borrow_variance([each.by_draw for each in pairs.values() if len(each.by_draw) == count])
        for count in counts
    }
    return Rivals(draws, pairs, borrowed)


def _bound_one(name: str, rivals: Rivals, limits: UpperLimits, span: float, able: Collection[str]) -> RegretBound:
    above = limits.inferior.get(name)
    if above is not None and above not in able:
        above = min((o for o in able if o in limits.highest), key=lambda o: limits.find_lead(o, name), default=above)
        above = above if limits.find_lead(above, name) < 0 else limits.inferior[name]
    least = -limits.highest[above][name] if above is not None else 0.0
    open_rivals = limits.find_rivals(name)
    fewest = min((len(rivals.pairs[other].by_draw) for other in open_rivals), default=rivals.draws)
    if fewest < FEWEST_DRAWS:
        return RegretBound(None, None, fewest)
    rival = max(open_rivals, key=open_rivals.__getitem__, default=None)
    if rival is None or open_rivals[rival] <= 0:
        return RegretBound(0.0, None, fewest, least, above)
    return RegretBound(min(span, open_rivals[rival]), rival, fewest, least, above)


def reach_above(
    pair: PairDifference,
    borrowed: statistics.Borrowed,
    level: float,
    draws: int | None = None,
    rows: float = 1.0,
) -> float:
    """How far above its mean a pair's difference may be, one-sided at a level; of `draws` draws like these.

    With `rows` times as many rows to draw from and to test on, what the choice of test rows does varies so many times
    less, and draws share so many times fewer of their labelled rows.
    """
    have = len(pair.by_draw)
    draws = have if draws is None else draws
    own = (have - 1) * float(np.var(pair.by_draw, ddof=1)) + borrowed.freedom * borrowed.variance
    seen, by_rows_alone = own / (have - 1 + borrowed.freedom), have * pair.rows_variance
    share, common = min(pair.shared_support, statistics.MOST_SHARED), pair.common_variance
    by_rows_shown = statistics.show_rows(by_rows_alone, common, have)
    if rows != 1.0:
        # What shows of the supports is what draws do not share of them: they share less now.
        shown = max(0.0, seen - by_rows_shown) * (1 - share / rows) / (1 - share)
        share, common, by_rows_alone = share / rows, common / rows, by_rows_alone / rows
        by_rows_shown /= rows
        seen = shown + by_rows_shown
    if draws != have:
        common *= (1 - 1 / draws) / (1 - 1 / have)  # of a mean over n draws 1/n is each draw's own
    support = statistics.vary_by_shared_support(seen, by_rows_shown, share)
    variance = max(seen, by_rows_alone) / draws + support
    by_draws = -float(special.stdtrit(draws - 1 + borrowed.freedom, level)) * math.sqrt(variance)
    by_rows = -float(special.ndtri(level)) * math.sqrt(common)
    return max(math.hypot(by_draws, by_rows), reach_unseen(pair.tested, level, draws - have, rows))
