"""Mean paired difference of two methods over draws, from which intervals, bounds and losses are made.

Owns how its variance is put together. For methods c and j, n_c and n_j draws of each:

- each method's variance over draws is moderated by the other methods' (`variances`), sigma_i^2;
- r_j = Var(x_j - x_c) / (sigma_c^2 + sigma_j^2), on the draws that both have, is moderated by the other rivals' of c.
  So a method that varies much makes its own pairs wide and no other's. Then V_j = (sigma_c^2 + sigma_j^2) r_j;
- the variance of the mean difference is sigma_c^2/n_c + sigma_j^2/n_j - (sigma_c^2 + sigma_j^2 - V_j)/max(n_c, n_j),
  which is V_j/n where they have equally many. Where V_j is less than the variance of the method that has fewer, the
  difference on the draws that both have is the surer one, and is taken instead: draws then matter more than methods.
  The variance is at least what the choice of test rows alone brings about;
- labelled rows that draws share add to it (`vary_by_shared_support`). So do test rows that draws share, which do the
  same to every draw. Rows themselves tell how much, so that degrees of freedom are those of Welch and Satterthwaite.

Differences from nothing, of a score by itself, are made in the same way without moderation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import special

from fewtune.inference.scores import DrawScore, MethodScores
from fewtune.inference.unseen import RowsWeighed, SetWeight, look_at_pair, look_at_score, reach_unseen, weigh_rows
from fewtune.inference.variances import (
    MOST_SHARED,
    Moderation,
    estimate_moderation,
    vary_by_shared_support,
)
from fewtune.metrics.counts import FloatArray, IntArray

FEWEST_DRAWS = 2
"""One draw says nothing of how the next may differ."""
NEARLY_ONE = 1e-6
"""Degrees of freedom that are not told from one: the general form cancels there."""


@dataclass(frozen=True)
class Variance:
    """The variance of one draw's score or difference: `draws` over draws, `rows` by the choice of its test rows.

    `shared` is the covariance of two draws by the test rows that they share.
    """

    draws: float
    rows: float = 0.0
    shared: float = 0.0


NO_VARIANCE = Variance(0.0)


@dataclass(frozen=True)
class Difference:
    """The mean over its draws of one method's scores less that of another's, and what is not known of it.

    `by_draw` are the differences on the draws that both have, `counts` the draws of each method.
    """

    mean: float
    by_draw: tuple[float, ...]
    counts: tuple[int, int]
    first: Variance
    second: Variance
    pair: Variance
    """Of the difference on one draw."""
    lent: float = 0.0
    """Degrees of freedom that other pairs lend."""
    shared_support: float = 0.0
    """Share of a draw's labelled rows that another draw has too, on average."""
    tested: tuple[SetWeight, ...] = ()
    """What one test row of all that were drawn can add to the mean, by test set."""
    further: int = 0
    """Draws that are foreseen beyond those at hand."""

    @property
    def is_known(self) -> bool:
        """Whether draws show how the difference varies."""
        return len(self.by_draw) >= FEWEST_DRAWS

    @property
    def shares_rows(self) -> bool:
        """Whether draws share test rows."""
        return any(each.shared for each in self.tested)

    @property
    def row_weight(self) -> float:
        """What one test row of all that were drawn can add to the mean; draws that are foreseen bring rows too."""
        return max((each.weight / (1 + self.further * each.fresh) for each in self.tested), default=0.0)

    @cached_property
    def _seen(self) -> float:
        """The variance of the mean by what draws differ by, as they show it."""
        return self._vary_mean(*(each.draws for each in self._parts))

    @cached_property
    def _own_rows(self) -> float:
        """The variance of the mean by the choice of each draw's test rows, rows that draws share apart."""
        return self._vary_mean(*(each.rows for each in self._parts))

    @cached_property
    def _common_rows(self) -> float:
        """The variance of the mean by the choice of test rows that draws share."""
        return max(0.0, self.pair.shared - self._vary_mean(*(each.shared for each in self._parts)))

    @cached_property
    def _support(self) -> float:
        """The variance of the mean by labelled rows that draws share."""
        shown = max(0.0, self.pair.rows - self.pair.shared)
        return vary_by_shared_support(self.pair.draws, shown, self.shared_support) if self.is_known else 0.0

    @cached_property
    def error(self) -> float:
        """The standard error of the mean: never less than what test rows bring about, or one of them can add to it."""
        by_draws = max(self._seen, self._own_rows) + self._support
        return math.sqrt(max(by_draws + self._common_rows, self.row_weight**2))

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error; without end where draws do not show it and rows do."""
        return self._join_freedom(max(self._seen, self._own_rows) + self._support)

    def reach(self, level: float) -> float:
        """How far the true difference may be from the mean to one side, wrong with a chance of `level`.

        By what draws differ by, or by draws and rows as if both were drawn anew, whichever is more: a few draws that
        are alike by luck do not show how they differ, and their rows are known. Never less than what so many test rows
        can tell where they show no difference.
        """
        by_draws = -float(special.stdtrit(self._seen_freedom, level)) * self._seen_error
        by_rows = -float(special.ndtri(level)) * self._error_drawn_anew
        return max(by_draws, by_rows, reach_unseen(self.tested, level, self.further))

    def find_level(self) -> float:
        """The level of both sides at which the interval would touch 0: a two-sided p value."""
        size = abs(self.mean)
        one_side = (
            _find_tail(size, self._seen_error, self._seen_freedom),
            _find_tail(size, self._error_drawn_anew, math.inf),
            math.exp(-size / self.row_weight) if self.row_weight > 0 else 0.0,
        )
        return min(1.0, 2 * max(one_side))

    @property
    def _seen_error(self) -> float:
        return math.sqrt(self._seen + self._support + self._common_rows) if self.is_known else 0.0

    @property
    def _seen_freedom(self) -> float:
        return self._join_freedom(self._seen + self._support)

    @property
    def _error_drawn_anew(self) -> float:
        """The standard error if draws, and of each its rows, were drawn anew from those at hand."""
        again = (1 - 1 / min(self.counts)) * self._seen if self.is_known else 0.0
        return math.sqrt(again + self._own_rows + self._common_rows)

    def _join_freedom(self, by_draws: float) -> float:
        """Degrees of freedom of a variance by draws and by shared rows, which are known (Welch and Satterthwaite)."""
        if not self.is_known or by_draws == 0:
            return math.inf
        return (min(self.counts) - 1 + self.lent) * ((by_draws + self._common_rows) / by_draws) ** 2

    def exceed(self, by: float) -> float:
        """The chance that the true difference is more than `by`."""
        if self.error == 0:
            return float(self.mean > by)
        return float(special.stdtr(self.freedom, (self.mean - by) / self.error))

    def integrate_excess(self, low: float, high: float) -> float:
        """The integral from `low` to `high` of the chance that the true difference is more than that."""
        if high <= low:
            return 0.0
        if self.error == 0:
            return max(0.0, min(high, self.mean) - low)
        ends = [(bound - self.mean) / self.error for bound in (low, high)]
        return self.error * (_integrate_tail(ends[1], self.freedom) - _integrate_tail(ends[0], self.freedom))

    def negate(self) -> Difference:
        """The second method's less the first's."""
        return replace(
            self,
            mean=-self.mean,
            by_draw=tuple(-each for each in self.by_draw),
            counts=self.counts[::-1],
            first=self.second,
            second=self.first,
        )

    def foresee(self, first: int, second: int, rows: float = 1.0) -> Difference:
        """What it would be after so many draws of each method like those at hand, on `rows` times as many rows.

        With more rows to draw from and to test on, what the choice of test rows does varies so many times less, and
        draws share so many times fewer of their labelled rows.
        """
        share = min(self.shared_support, MOST_SHARED)
        kept = (1 - share / rows) / (1 - share)  # of what supports do, what draws do not share shows
        return replace(
            self,
            counts=(first, second),
            first=_scale_rows(self.first, rows, kept),
            second=_scale_rows(self.second, rows, kept),
            pair=_scale_rows(self.pair, rows, kept),
            shared_support=share / rows,
            tested=tuple(replace(each, weight=each.weight / rows) for each in self.tested),
            # Two methods with more draws than they have in common may be foreseen with fewer, but not with none.
            further=max(1 - len(self.by_draw), self.further + min(first, second) - min(self.counts)),
        )

    @property
    def _parts(self) -> tuple[Variance, Variance, Variance]:
        return self.first, self.second, self.pair

    def _vary_mean(self, first: float, second: float, pair: float) -> float:
        """The variance of a difference of means over draws, from those of one draw's scores and their difference."""
        have = (
            (min(self.counts),) * 2
            if is_surer_in_common(self.counts, self.first, self.second, self.pair)
            else self.counts
        )
        # Of two that go up and down alike, rounding may leave less than nothing.
        return max(0.0, first / have[0] + second / have[1] - (first + second - pair) / max(have))


def is_surer_in_common(counts: tuple[int, int], first: Variance, second: Variance, pair: Variance) -> bool:
    """Whether two methods of unlike numbers of draws are better compared on those that both have."""
    fewer = first if counts[0] < counts[1] else second
    return counts[0] != counts[1] and pair.draws < fewer.draws


Rivals = Mapping[str, Difference]
"""All others less one method, by the other's name."""


def measure_score(draws: Sequence[DrawScore]) -> Difference:
    """The mean of a score over draws, as its difference from nothing."""
    scores = [each.score for each in draws]
    variance = _vary_scores(draws)
    tested = weigh_rows([[look_at_score(tested) for tested in each.tested] for each in draws])
    shared = max(each.shared_support for each in draws)
    mean, count = float(np.mean(scores)), len(draws)
    return Difference(mean, tuple(scores), (count, count), variance, NO_VARIANCE, variance, 0.0, shared, tuple(tested))


def subtract(first: MethodScores, second: MethodScores) -> Difference:
    """First less second, without moderation: of two methods by themselves. They share a draw at the least."""
    return _put_together(
        first, second, _vary_scores(first.values()), _vary_scores(second.values()), _subtract_draws(first, second)
    )


def pair_methods(scored: Mapping[str, MethodScores]) -> dict[str, Rivals]:
    """Every method's rivals, each less the method, by its name; pairs without a draw in common are left out."""
    alone = {name: _vary_scores(draws.values()) for name, draws in scored.items()}
    prior = estimate_moderation([each.draws for each in alone.values()], [len(draws) - 1 for draws in scored.values()])
    moderated = {
        name: replace(each, draws=prior.moderate(each.draws, len(scored[name]) - 1)[0]) for name, each in alone.items()
    }
    pairs: dict[tuple[str, str], _PairedDraws] = {}
    names = list(scored)
    for place, one in enumerate(names):
        for other in names[:place]:
            if scored[one].keys() & scored[other].keys():
                found = _subtract_draws(scored[one], scored[other])
                pairs[one, other] = found
                pairs[other, one] = replace(found, by_draw=tuple(-each for each in found.by_draw))
    return {name: _face_rivals(name, names, scored, moderated, pairs) for name in names}


@dataclass(frozen=True)
class _PairedDraws:
    """Two methods on the draws that both have: differences, and what the choice of test rows does to one of them."""

    by_draw: tuple[float, ...]
    variance: Variance
    shared_support: float
    tested: tuple[SetWeight, ...]


def _face_rivals(
    name: str,
    names: Sequence[str],
    scored: Mapping[str, MethodScores],
    moderated: Mapping[str, Variance],
    pairs: Mapping[tuple[str, str], _PairedDraws],
) -> Rivals:
    others = [other for other in names if (other, name) in pairs]
    sums = {other: moderated[other].draws + moderated[name].draws for other in others}
    ratios = {o: pairs[o, name].variance.draws / sums[o] for o in others if sums[o] > 0}
    prior = estimate_moderation(list(ratios.values()), [len(pairs[o, name].by_draw) - 1 for o in ratios])
    found = {}
    for other in others:
        pair = pairs[other, name]
        ratio = _moderate_ratio(ratios.get(other, 0.0), len(pair.by_draw) - 1, prior)
        found[other] = _put_together(
            scored[other],
            scored[name],
            moderated[other],
            moderated[name],
            replace(pair, variance=replace(pair.variance, draws=sums[other] * ratio[0])),
            ratio[1],
        )
    return found


def _moderate_ratio(ratio: float, freedom: int, prior: Moderation) -> tuple[float, float]:
    """A pair's variance over the sum of its methods', moderated, and the degrees of freedom lent."""
    value, whole = prior.moderate(ratio, freedom)
    return value, whole - freedom


def _put_together(
    first: MethodScores,
    second: MethodScores,
    first_varies: Variance,
    second_varies: Variance,
    pair: _PairedDraws,
    lent: float = 0.0,
) -> Difference:
    counts = (len(first), len(second))
    mean = float(np.mean(pair.by_draw))
    if counts[0] != counts[1] and not is_surer_in_common(counts, first_varies, second_varies, pair.variance):
        means = [float(np.mean([draw.score for draw in draws.values()])) for draws in (first, second)]
        mean = means[0] - means[1]
    return Difference(
        mean=mean,
        by_draw=pair.by_draw,
        counts=counts,
        first=first_varies,
        second=second_varies,
        pair=pair.variance,
        lent=lent,
        shared_support=pair.shared_support,
        tested=pair.tested,
    )


def _subtract_draws(first: MethodScores, second: MethodScores) -> _PairedDraws:
    both = sorted(first.keys() & second.keys())
    by_draw = [first[key].score - second[key].score for key in both]
    effects = [(first[key].rows, first[key].effects - second[key].effects) for key in both]
    sides = [zip(first[key].tested, second[key].tested, strict=True) for key in both]
    tested: list[list[RowsWeighed]] = [[look_at_pair(*pair) for pair in pairs] for pairs in sides]
    shared = max(first[key].shared_support for key in both)
    return _PairedDraws(tuple(by_draw), _vary(by_draw, effects), shared, weigh_rows(tested))


def _vary_scores(draws: Collection[DrawScore]) -> Variance:
    return _vary([each.score for each in draws], [(each.rows, each.effects) for each in draws])


def _vary(values: Sequence[float], effects: Sequence[tuple[IntArray, FloatArray]]) -> Variance:
    """The variance of a draw's value, from several draws and what each row adds: rows (rows,), effects (rows,)."""
    count = len(values)
    own = sum(float((each**2).sum()) for _, each in effects)
    if count == 1:
        return Variance(0.0, own)
    rows, added = (np.concatenate(parts) for parts in zip(*effects, strict=True))
    together = float((np.bincount(rows, added) ** 2).sum()) if len(rows) else 0.0
    shared = max(0.0, together - own) / (count * (count - 1))
    return Variance(float(np.var(values, ddof=1)), own / count, shared)


def _scale_rows(variance: Variance, rows: float, kept: float) -> Variance:
    """The variance with so many times as many rows, of which draws show `kept` times as much of their supports."""
    shown = max(0.0, variance.rows - variance.shared)
    return Variance(
        max(0.0, variance.draws - shown) * kept + min(shown, variance.draws) / rows,
        variance.rows / rows,
        variance.shared / rows,
    )


def _find_tail(size: float, error: float, freedom: float) -> float:
    """The chance to be so far off to one side."""
    return float(special.stdtr(freedom, -size / error)) if error > 0 else float(size == 0)


def _integrate_tail(place: float, freedom: float) -> float:
    """An antiderivative of the upper tail of Student's t."""
    tail = float(special.stdtr(freedom, -place))
    if math.isinf(freedom):
        return place * tail - math.exp(-(place**2) / 2) / math.sqrt(2 * math.pi)
    if freedom - 1 < NEARLY_ONE:
        return place * tail + math.log1p(place**2) / (2 * math.pi)
    log_density = (
        special.gammaln((freedom + 1) / 2)
        - special.gammaln(freedom / 2)
        - math.log(freedom * math.pi) / 2
        - (freedom + 1) / 2 * math.log1p(place**2 / freedom)
    )
    return place * tail - (freedom + place**2) / (freedom - 1) * math.exp(log_density)
