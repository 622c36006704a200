"""Intervals, tests and summaries over plain arrays.

Owns the statistics: interquartile mean, hierarchical bootstrap, sign-flip test, stepwise correction, variance
components, and how many draws an interval still needs. Does not know how a draw comes out on other rows (`resampling`).
Sources: https://arxiv.org/abs/2108.13264 (interquartile mean, bootstrap over runs, probability of improvement); Holm
1979, https://www.jstor.org/stable/4615733; Searle, Casella and McCulloch 1992, ISBN 978-0-471-62162-6 (variance
components by analysis of variance); Smyth 2004, https://doi.org/10.2202/1544-6115.1027 (variances that borrow from one
another); Efron 1982, https://doi.org/10.1137/1.9781611970319 (infinitesimal jackknife).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from fewtune.analysis.resampling import DrawDifference
from fewtune.analysis.unseen import RowsWeighed, SetWeight, reach_unseen, weigh_rows
from fewtune.metrics.counts import FloatArray

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
LEAST_LEVEL = 1e-12
"""Levels are not told apart below this."""
FEWEST_DRAWS_TO_TEST = 6
"""Below six draws the exact two-sided sign-flip test cannot reach p < 0.05 whatever the data."""
MOST_DRAWS_EXACTLY = 36
"""Beyond so many draws the sign-flip test tries FLIPS sign patterns by chance instead of all."""
FLIPS, FLIPS_AT_ONCE = 100_000, 2_000
MOST_SHARED = 0.9
"""Supports that share more than this are taken to share so much: of supports that are all one, nothing can be said, as
the audit then tells."""
FEWEST_VARIANCES = 5
"""From so many differences of one group on, their variances borrow from one another."""
MOST_BORROWED = 2
"""They borrow at most so many times the degrees of freedom that each has itself."""
MOST_RESAMPLED = 200
"""Draws that are resampled at most; the mean of more is as good as normal."""
MOST_FURTHER_DRAWS = 100
"""Beyond so many, further draws are no advice."""


@dataclass(frozen=True)
class Interval:
    """A mean difference with its 95 % interval; with one draw it covers the choice of rows only."""

    point: float
    low: float
    high: float
    draws: int
    resampled: float = 0.0
    """Half the width of the bootstrap's interval alone."""
    common: float = 0.0
    """Half the width of what test rows that draws share do to all of them; 0 where each draw has its own."""
    tie_reach: float | None = None
    """Half the width at twice the level: two one-sided tests put the difference where all of it lies."""
    shared_support: float = 0.0
    """Share of a draw's labelled rows that another draw has too, on average."""
    row_variance: float = 0.0
    """Variance that the choice of test rows gives draws' differences; what it does to all alike is no part of it."""
    tested: tuple[SetWeight, ...] = ()
    """What one test row of all that were drawn can add to the mean, by test set; none: not asked."""

    def lies_within(self, region: float) -> bool:
        """Whether two one-sided tests, each at LEVEL, put the difference within ±region."""
        reach = max(self.high - self.point, self.point - self.low) if self.tie_reach is None else self.tie_reach
        return abs(self.point) + reach <= region


@dataclass(frozen=True)
class Borrowed:
    """The prior of a difference's variance, estimated from the group's other differences: its mean and its weight.

    `freedom` is the weight, in degrees of freedom; 0: no prior.
    """

    variance: float = 0.0
    freedom: float = 0.0


NOTHING_BORROWED = Borrowed()


@dataclass(frozen=True)
class Spread:
    """Standard deviations that each source alone gives a score; None where it has one level only.

    Where every cell has one fit seed, what fit seeds add stands in `draws`; what test rows add always does, where each
    draw has its own.
    """

    draws: float | None
    fit_seeds: float | None
    patterns: float | None


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Average the middle half of the values (runs,); below four values nothing is cut and it is the mean."""
    return float(stats.trim_mean(np.asarray(values, dtype=np.float64).ravel(), 0.25))


def bound_difference(
    draws: Sequence[DrawDifference],
    resamples: int,
    rng: np.random.Generator,
    tested: Sequence[Sequence[RowsWeighed]] = (),
) -> Interval:
    """Bound the mean difference over draws; draws weigh the same.

    Draws are resampled, then rows within each; the interval is that bootstrap's, or Student's t over the draws' own
    differences where that is wider. Beyond MOST_RESAMPLED draws the bootstrap's is the normal one that it comes to, of
    the variance between draws and within them. Where draws share test rows, their differences hide what the choice of
    those rows does to all of them: that part is added to the wider of the two, by the squares. Where they share
    labelled rows, Student's t is wider for it (`vary_by_shared_support`). With what each draw was `tested` on the
    interval is never narrower than so many rows can tell (`unseen`).
    """
    points = [draw.point for draw in draws]
    shared, own_rows, common_rows = max(draw.shared_support for draw in draws), *_vary_by_rows(draws)
    common, mean = 0.0, float(np.mean(points))
    shown_rows = show_rows(own_rows, common_rows, len(draws))
    if len(draws) > MOST_RESAMPLED:
        reach = _z(LEVEL) * math.sqrt((float(np.var(points)) + own_rows) / len(draws))
        low, high = mean - reach, mean + reach
    else:
        low, high = _resample_draws(draws, resamples, rng)
    resampled = float(high - low) / 2
    weights = weigh_rows(tested)
    unseen = reach_unseen(weights, LEVEL / 2)
    low, high = min(low, mean - unseen), max(high, mean + unseen)
    if len(draws) > 1:
        common, variance = _z(LEVEL) * math.sqrt(common_rows), float(np.var(points, ddof=1))
        whole = variance / len(draws) + vary_by_shared_support(variance, shown_rows, shared)
        by_draws = float(special.stdtrit(len(draws) - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(whole)
        reach = math.hypot(max(by_draws, resampled if common else 0.0), common)
        low, high = min(low, mean - reach), max(high, mean + reach)
    found = Interval(mean, float(low), float(high), len(draws), resampled, common, None, shared, shown_rows, weights)
    return found if len(draws) < 2 else replace(found, tie_reach=reach_of(points, found, 2 * LEVEL))


def _resample_draws(draws: Sequence[DrawDifference], resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Where the mean over draws comes to lie, draws and the rows within each drawn anew: its interval's ends."""
    chosen = rng.integers(len(draws), size=(resamples, len(draws)))
    values = np.empty(chosen.size)
    # Sorted once, for a mask a draw would be as many comparisons as draws, squared; fastest in few bytes.
    places = np.argsort(chosen.astype(np.min_scalar_type(len(draws))), axis=None, kind="stable")
    ends = np.cumsum(np.bincount(chosen.ravel(), minlength=len(draws)))
    for index, draw in enumerate(draws):
        here = places[ends[index - 1] if index else 0 : ends[index]]
        values[here] = draw.resample(len(here))
    low, high = np.quantile(values.reshape(chosen.shape).mean(1), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def show_rows(own: float, common: float, draws: int) -> float:
    """What the choice of test rows does to how draws differ.

    `own` is the variance that it gives one draw's difference. Of it the covariance of any two draws, which rows that
    they share bring about, does not show between them: `common`, the variance of the mean over draws by that alone, has
    (draws - 1) / draws of it.
    """
    return own if draws < 2 else max(0.0, own - common * draws / (draws - 1))


def vary_by_shared_support(variance: float, row_variance: float, share: float) -> float:
    """What labelled rows that draws share add to the variance of their mean, however many draws there are.

    `variance` is that between draws, `row_variance` what of it the choice of test rows alone brings about
    (`show_rows`). Of supports of k rows out of N any two share k/N on average. What a support does to a score is, to
    first order, a sum over its rows: k/N of its variance is common to all draws and does not show among them, what
    shows is the rest. So it is what draws differ by beyond their test rows, times k/N over 1 - k/N. Nadeau and Bengio
    (2003, https://doi.org/10.1023/A:1024068626366) correct for shared labelled and test rows at once; here the latter
    are seen to apart.
    """
    share = min(share, MOST_SHARED)
    return share / (1 - share) * max(0.0, variance - row_variance)


def borrow_variance(differences: Sequence[Sequence[float]]) -> Borrowed:
    """What the variances of several differences (differences, draws), on equally many draws, say of each of them.

    Variances of a group are taken to be spread about one, by an inverse chi-squared law; how alike they are says how
    much that one is worth. A few draws tell little of a variance, several methods on them far more.
    """
    have = len(differences[0]) - 1 if differences else 0
    logs = np.log([max(1e-12, float(np.var(points, ddof=1))) for points in differences]) if have > 0 else np.zeros(0)
    if len(logs) < FEWEST_VARIANCES:
        return NOTHING_BORROWED
    centred = logs - special.digamma(have / 2) + np.log(have / 2)
    most = float(MOST_BORROWED * have)
    beyond = float(np.var(centred, ddof=1) - special.polygamma(1, have / 2))
    freedom = most
    if beyond > special.polygamma(1, most / 2):
        freedom = 2 * optimize.brentq(lambda x: float(special.polygamma(1, x)) - beyond, 1e-3, most / 2)
    centre = float(centred.mean() + special.digamma(freedom / 2) - np.log(freedom / 2))
    return Borrowed(math.exp(centre), freedom)


def find_level(points: Sequence[float], interval: Interval, borrowed: Borrowed = NOTHING_BORROWED) -> float | None:
    """The level at which the interval of these draws' differences (draws,) would touch 0; None for one draw."""
    if len(points) < 2:
        return None
    size = abs(float(np.mean(points)))

    def reach(level: float) -> float:
        return reach_of(points, interval, level, borrowed=borrowed)

    if reach(LEAST_LEVEL) <= size:
        return LEAST_LEVEL if size > 0 else 1.0
    if size == 0 or reach(1.0) >= size:
        return 1.0
    found = optimize.brentq(lambda log: reach(float(np.exp(log))) - size, np.log(LEAST_LEVEL), 0.0)
    return float(np.exp(found))


def reach_of(
    points: Sequence[float],
    interval: Interval,
    level: float,
    draws: int | None = None,
    borrowed: Borrowed = NOTHING_BORROWED,
) -> float:
    """How far an interval of these draws' differences (draws,) reaches to each side at a level; of `draws` like them.

    What rows do that all draws share stays as it is, however many draws there are. At most MOST_BORROWED times the
    degrees of freedom of these draws are borrowed: differences that lend may be of more.
    """
    have = len(points)
    draws = have if draws is None else draws
    lent = min(borrowed.freedom, MOST_BORROWED * (have - 1))
    own = (have - 1) * float(np.var(points, ddof=1)) + lent * borrowed.variance
    variance = own / (have - 1 + lent)
    whole = variance / draws + vary_by_shared_support(variance, interval.row_variance, interval.shared_support)
    by_draws = float(-special.stdtrit(draws - 1 + lent, level / 2)) * math.sqrt(whole)
    by_rows = interval.resampled * _z(level) / _z(LEVEL)
    common = interval.common * _z(level) / _z(LEVEL)
    reach = float(np.hypot(max(by_draws, by_rows * math.sqrt(have / draws)), common))
    return max(reach, reach_unseen(interval.tested, level / 2, draws - have))


def count_further_draws(
    points: Sequence[float], interval: Interval, region: float, level: float, borrowed: Borrowed = NOTHING_BORROWED
) -> int | None:
    """Count the draws to add until an interval leaves 0 out or is told to be within ±region, if draws go on as these.

    `level`: that at which 0 must be left out, with a variance that borrows; at LEVEL it must be left out, or two
    one-sided tests at LEVEL put it within the region, without. Mean and spread are taken as they are, so it is a guess
    to plan by. 0 where it is settled already; None where a single draw shows no spread, or MOST_FURTHER_DRAWS would not
    do.
    """
    have, size = len(points), abs(float(np.mean(points)))
    if have < 2:
        return None

    def settled(draws: int) -> bool:
        alone = reach_of(points, interval, LEVEL, draws)
        apart = size > max(region, alone, reach_of(points, interval, level, draws, borrowed))
        return apart or size + reach_of(points, interval, 2 * LEVEL, draws) <= region

    # An interval of more draws reaches less far: what is settled with some stays so with more.
    further = bisect_left(range(have, have + MOST_FURTHER_DRAWS + 1), True, key=settled)
    return further if further <= MOST_FURTHER_DRAWS else None


def share_wins(points: Sequence[float]) -> float:
    """Share of draws whose difference (draws,) is above 0, a tie counting half: the probability of improvement."""
    differences = np.asarray(points, dtype=np.float64)
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def split_spread(scores: Mapping[tuple[int, str], Sequence[float]]) -> Spread:
    """Split a score's variance into draws, fit seeds and patterns: scores[draw, pattern] = one value a fit seed.

    Fit seeds lie within draw and pattern, patterns cross draws; draws that lack a pattern are left out. Components are
    those of an analysis of variance, cut at 0.
    """
    patterns = sorted({pattern for _, pattern in scores})
    draws = [d for d in sorted({draw for draw, _ in scores}) if all((d, p) in scores for p in patterns)]
    cells = [[np.asarray(scores[d, p], dtype=np.float64) for p in patterns] for d in draws]
    flat = [cell for row in cells for cell in row]
    freedom = sum(len(cell) - 1 for cell in flat)
    within = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in flat) / freedom if freedom else None
    if not flat:
        return Spread(None, None, None)
    seeds = len(flat) / sum(1 / len(cell) for cell in flat)
    means = np.array([[cell.mean() for cell in row] for row in cells])
    unexplained = (within or 0.0) / seeds
    if min(means.shape) > 1:
        residual = means - means.mean(0) - means.mean(1)[:, None] + means.mean()
        unexplained = float((residual**2).sum()) / ((means.shape[0] - 1) * (means.shape[1] - 1))
    return Spread(
        draws=_component(means.mean(1), unexplained / len(patterns)),
        fit_seeds=None if within is None else float(np.sqrt(within)),
        patterns=_component(means.mean(0), unexplained / len(draws)),
    )


def sign_flip_p(draw_differences: npt.ArrayLike) -> float | None:
    """Test that differences (draws,) are symmetric about zero, two-sided, exact to 36 draws; None below six.

    Draws must be independent of one another: where they share test rows it finds differences where there are none.
    """
    differences = np.asarray(draw_differences, dtype=np.float64)
    if len(differences) < FEWEST_DRAWS_TO_TEST:
        return None
    if len(differences) > MOST_DRAWS_EXACTLY:
        rng, limit = np.random.default_rng(0), abs(float(differences.sum())) * (1 - 1e-12)
        beyond = 0
        for start in range(0, FLIPS, FLIPS_AT_ONCE):  # all at once would take gigabytes for a thousand draws
            signs = rng.choice([-1.0, 1.0], size=(min(FLIPS_AT_ONCE, FLIPS - start), len(differences)))
            beyond += int((np.abs(signs @ differences) >= limit).sum())
        return float((beyond + 1) / (FLIPS + 1))
    half = len(differences) // 2
    # Every signed sum is one of the left half plus one of the right: 2^(n/2) values each, not 2^n.
    left, right = _signed_sums(differences[:half]), np.sort(_signed_sums(differences[half:]))
    reach = abs(float(differences.sum())) - 1e-12 * float(np.abs(differences).sum())
    if reach <= 0:
        return 1.0
    above = len(right) - np.searchsorted(right, reach - left, side="left")
    below = np.searchsorted(right, -reach - left, side="right")
    return float((above + below).sum() / 2 ** len(differences))


def correct_with_leader(p_values: npt.ArrayLike, methods: int) -> FloatArray:
    """Correct p values (comparisons,) of the leader of so many methods with others of them, in the order given.

    The leader is the best of them by chance too: with k methods still level its comparison is the clearest of k (k - 1)
    / 2 pairs (Holm's rule with Shaffer's counts). A method without a p stays level.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    steps = given[order] * [count_pairs(k) for k in range(methods, methods - len(given), -1)]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def count_pairs(methods: int) -> int:
    """How many pairs so many methods make."""
    return methods * (methods - 1) // 2


def _signed_sums(values: FloatArray) -> FloatArray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _component(means: FloatArray, unexplained: float) -> float | None:
    """The standard deviation behind level means (levels,), whose variance holds `unexplained` besides."""
    return None if len(means) < 2 else float(np.sqrt(max(0.0, float(np.var(means, ddof=1)) - unexplained)))


def _vary_by_rows(draws: Sequence[DrawDifference]) -> tuple[float, float]:
    """What the choice of test rows does: to a draw's difference, and by shared rows alone to the mean of all draws.

    Both are variances, to first order (the infinitesimal jackknife). The second is that with rows resampled once for
    all draws, less that with rows resampled in each draw for itself; 0 where no row is shared.
    """
    places = np.unique(np.concatenate([draw.rows for draw in draws]), return_inverse=True)[1]
    effects = np.concatenate([draw.effects for draw in draws]) / len(draws)
    own = np.bincount(places, effects**2)
    together = np.bincount(places, effects) ** 2
    return len(draws) * float(own.sum()), max(0.0, float((together - own).sum()))


def _z(level: float) -> float:
    return float(-special.ndtri(level / 2))
