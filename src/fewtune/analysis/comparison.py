"""One variant against another: better, tie, worse or cannot tell, with the interval that says so.

Owns the rule that turns an interval into an answer, and its sentence. Does not know how the interval is made
(`statistics`), who is compared with whom (`verdict`, `recommend`) or how it is shown (`report`). Differences are paired
by draw and row, fit seeds averaged inside a draw.

The rule, with `region` = the largest difference that does not matter (0.01 = 1 point by default), in order:
- fewer than two draws in common: cannot tell, whatever the rows say, for the next draw may differ;
- two one-sided tests at 5 % put the difference inside ±region (the 90 % interval lies there): tie;
- the whole interval lies above 0 and its point is beyond the region: better; mirrored: worse;
- anything else: cannot tell.

A leader is the best of several by chance too. So its comparisons are corrected together, step by step: with k methods
still level, 0 must be left out at a level of 5 % over k (k - 1) / 2 pairs, the clearest difference first, which then
leaves k - 1. That keeps the chance of a single false "better" in a group at 5 % or less: where it first goes wrong, all
methods that truly equal the leader are still among the k, and so are their pairs (Holm's rule with Shaffer's counts,
https://doi.org/10.1080/01621459.1986.10478341). A few draws tell little of how much a difference varies, and at levels
that strict they could hardly ever leave 0 out: there, the variances of a group's differences borrow from one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fewtune.analysis import resampling, statistics
from fewtune.analysis.answers import DrawAnswers, VariantAnswers
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.unseen import look_at_pair, look_at_rows
from fewtune.errors import RecordError, name_choices
from fewtune.metrics.counts import RANGES, SCORES
from fewtune.plurals import word_number

Answer = Literal["better", "tie", "worse", "cannot tell"]

LITTLE_SHARED = 0.01
"""Draws whose supports share more than this are not independent enough for the exact test."""
REGION = 0.01
RESAMPLES = 2000
IN_DOMAIN_ALONE = {IN_DOMAIN: 1.0}
ANALYSIS_SEED = 20240501
"""Seed of every bootstrap of a report, so that one folder always gives one report."""


@dataclass(frozen=True)
class Comparison:
    """The answer on a first method against a second; the numbers are None where they share no draw.

    `point`, `low`, `high` are differences of the primary metric with their 95 % interval, no further than the metric
    can differ, and `by_draw` each draw's own; `p` is the exact sign-flip test's, None below six draws and where
    draws share rows, which it does not allow for; `reason` says in
    a few words why the answer is what it is. `wins` is the share of draws in which the first scored higher, equal ones
    counting half; `further_draws` about how many more would settle a "cannot tell" if they go on as these (None: none
    within reach, or not to be guessed from one draw).
    """

    answer: Answer
    point: float | None
    low: float | None
    high: float | None
    draws: int
    p: float | None
    reason: str
    by_draw: tuple[float, ...] = ()
    interval: statistics.Interval | None = None
    """What `low` and `high` are the ends of, and how it was made; None where they share no draw."""
    wins: float | None = None
    further_draws: int | None = None
    region: float = REGION
    """The largest difference that does not matter."""


def compare(
    first: VariantAnswers,
    second: VariantAnswers,
    metric: str,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    region: float = REGION,
    weights: Mapping[str, float] = IN_DOMAIN_ALONE,
) -> Comparison:
    """Compare two variants' answers over the draws that both have, by the rule above; test sets weigh as told."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return Comparison("cannot tell", None, None, None, 0, None, "no draw in common")
    if metric not in SCORES:
        raise RecordError(name_choices(metric, SCORES, "primary metric"))
    sets = list(weights.items())
    draws = [
        resampling.weigh([(w, _subtract(first[key][name], second[key][name], metric, rng)) for name, w in sets])
        for key in shared
    ]
    span = RANGES[metric][1] - RANGES[metric][0]
    tested = [
        [look_at_pair(*(look_at_rows(side[key][name], metric, w) for side in (first, second))) for name, w in sets]
        for key in shared
    ]
    interval = statistics.bound_difference(draws, resamples, rng, tested)
    points = [draw.point for draw in draws]
    answer, reason = apply_rule(interval, region)
    return _plan_further(
        Comparison(
            answer=answer,
            point=interval.point,
            low=max(-span, interval.low),
            high=min(span, interval.high),
            draws=interval.draws,
            p=None
            if interval.shared_support > LITTLE_SHARED or resampling.share_rows(draws)
            else statistics.sign_flip_p(points),
            reason=reason,
            by_draw=tuple(points),
            interval=interval,
            wins=statistics.share_wins(points),
            region=region,
        ),
        statistics.LEVEL,
        region,
    )


def correct_leader(
    comparisons: Mapping[str, Comparison], region: float = REGION, level: float = statistics.LEVEL
) -> dict[str, Comparison]:
    """Correct the comparisons of one leader with all others of its group, by this module's text; the order is kept.

    `level` is what a look may spend, where it is one of several. The exact tests' p are corrected among themselves, by
    the same numbers of pairs.
    """
    tested = {name: c.p for name, c in comparisons.items() if c.p is not None}
    exact = dict(
        zip(tested, statistics.correct_with_leader(list(tested.values()), len(comparisons) + 1).tolist(), strict=True)
    )
    most = max((c.draws for c in comparisons.values()), default=0)
    borrowed = _borrow(comparisons.values(), most)
    least = {name: _p_of(c, borrowed) for name, c in comparisons.items()}
    levels: dict[str, float] = {}
    open_methods, stopped = len(comparisons) + 1, False
    for name in sorted(comparisons, key=least.__getitem__):
        levels[name] = level / statistics.count_pairs(open_methods)
        stopped = stopped or least[name] > levels[name]
        if not stopped:
            open_methods -= 1
    return {
        name: replace(_hold_to(c, levels[name], region, borrowed), p=exact.get(name)) for name, c in comparisons.items()
    }


def correct_selected(
    comparison: Comparison,
    methods: int,
    beside: Iterable[Comparison] = (),
    region: float = REGION,
    level: float = statistics.LEVEL,
) -> Comparison:
    """Correct the comparison of the best of so many methods with something that was not among them.

    Its variance borrows from those of the differences `beside` it: of the best with other methods, on as many draws.
    """
    p = None if comparison.p is None else min(1.0, methods * comparison.p)
    borrowed = _borrow([comparison, *beside], comparison.draws)
    return replace(_hold_to(comparison, level / methods, region, borrowed), p=p)


def apply_rule(interval: statistics.Interval, region: float = REGION) -> tuple[Answer, str]:
    """Turn an interval into an answer and its reason, by the rule in this module's text."""
    points = word_region(region)
    if interval.draws < 2:
        return "cannot tell", "one draw: the interval covers the choice of test rows only"
    if interval.lies_within(region):
        return "tie", f"two one-sided tests put it within {points}"
    if interval.low > 0 and interval.point > region:
        return "better", "the whole interval is above 0"
    if interval.high < 0 and interval.point < -region:
        return "worse", "the whole interval is below 0"
    if interval.low <= 0 <= interval.high:
        return "cannot tell", f"the interval holds 0 and reaches beyond {points}"
    return "cannot tell", f"the difference is within {points} and the interval reaches beyond"


def word_region(region: float) -> str:
    """Word the largest difference that does not matter: '1 point'."""
    return word_number(100 * region, "point", "g")


def word_comparison(other: str, comparison: Comparison) -> str:
    """Word one comparison of the leader: 'better than tfidf by 12.1 points [8.0, 16.3], ahead in 5 of 5 draws'."""
    if comparison.point is None or comparison.low is None or comparison.high is None:
        return f"cannot tell from {other}: {comparison.reason}"
    span = f"[{100 * comparison.low:z.1f}, {100 * comparison.high:z.1f}]"
    size = word_number(abs(100 * comparison.point), "point", ".1f")
    if comparison.answer == "better":
        return f"better than {other} by {size} {span}{_word_draws(comparison)}"
    if comparison.answer == "worse":
        return f"worse than {other} by {size} {span}{_word_draws(comparison)}"
    signed = f"{100 * comparison.point:+z.1f} points {span}"
    if comparison.answer == "tie":
        within = f", within {word_region(comparison.region)}" if comparison.region != REGION else ""
        return f"tie with {other}{within} ({signed})"
    why = f"; {comparison.reason}" if max(comparison.low, -comparison.high) > 0 else ""
    return f"cannot tell from {other}{_word_draws(comparison)} ({signed}{why}{word_further(comparison)})"


def _word_draws(comparison: Comparison) -> str:
    """Word how often the first is ahead: ', ahead in 1.5 of 3 draws'; of one draw, only that there is one."""
    if comparison.draws == 1 or comparison.wins is None:
        return " with 1 draw"
    return f", ahead in {comparison.wins * comparison.draws:g} of {word_number(comparison.draws, 'draw')}"


def word_further(comparison: Comparison) -> str:
    """Word what would settle a "cannot tell": '; about 4 further draws may settle it', or nothing."""
    if comparison.answer != "cannot tell" or comparison.draws == 0:
        return ""
    if comparison.draws == 1:
        return "; a second draw is the least that could tell"
    if comparison.further_draws is None:
        return f"; {statistics.MOST_FURTHER_DRAWS} further draws like these would not settle it"
    return f"; about {word_further_draws(comparison.further_draws)} like these would settle it"


def word_further_draws(count: int) -> str:
    """Word a number of draws that are still to be made: '1 further draw', '4 further draws'."""
    return word_number(count, "further draw")


def _borrow(comparisons: Iterable[Comparison], draws: int) -> statistics.Borrowed:
    """What the variances of those comparisons that have so many draws say of each of them."""
    return statistics.borrow_variance([c.by_draw for c in comparisons if c.draws == draws])


def _p_of(comparison: Comparison, borrowed: statistics.Borrowed) -> float:
    """The level at which its interval, with a variance that borrows, would touch 0; 1 where there is none."""
    if comparison.interval is None:
        return 1.0
    p = statistics.find_level(comparison.by_draw, comparison.interval, borrowed)
    return 1.0 if p is None else p


def _hold_to(
    comparison: Comparison, level: float, region: float, borrowed: statistics.Borrowed = statistics.NOTHING_BORROWED
) -> Comparison:
    """The comparison with a difference that must show at a level, below 5 % where several were looked at."""
    if comparison.answer in ("better", "worse") and _p_of(comparison, borrowed) > level:
        reason = f"0 is out, but not at the {100 * level:.2g} % that so many comparisons ask for"
        comparison = replace(comparison, answer="cannot tell", reason=reason)
    return _plan_further(comparison, level, region, borrowed)


def _plan_further(
    comparison: Comparison,
    level: float,
    region: float,
    borrowed: statistics.Borrowed = statistics.NOTHING_BORROWED,
) -> Comparison:
    if comparison.answer != "cannot tell" or comparison.interval is None:
        return replace(comparison, further_draws=None)
    further = statistics.count_further_draws(comparison.by_draw, comparison.interval, region, level, borrowed)
    # The rule has not been met by these draws, whatever the guess by halves of intervals says.
    return replace(comparison, further_draws=None if further is None else max(1, further))


def _subtract(
    first: DrawAnswers, second: DrawAnswers, metric: str, rng: np.random.Generator
) -> resampling.DrawDifference:
    if metric == "accuracy":
        right = [(side.predicted == side.gold).mean(0) for side in (first, second)]
        found = resampling.subtract_rows(right[0] - right[1], first.rows, rng)
    else:
        gold, ours, theirs = (side.astype(np.int64) for side in (first.gold, first.predicted, second.predicted))
        pair = resampling.PairedRows(gold, ours, theirs)
        found = resampling.subtract_scores(pair, first.rows, first.labels, SCORES[metric], rng)
    return replace(found, shared_support=first.shared_support)
