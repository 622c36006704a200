"""One method against another: better, tie, worse or cannot tell.

Owns the rule that turns a difference into an answer. Does not know how the difference is made (`differences`) or
worded.

The rule, with `region` = the largest difference that does not matter (0.01 = 1 point by default), in order:
- fewer than two draws in common: cannot tell, whatever the rows say, for the next draw may differ;
- two one-sided tests at 5 % put the difference inside ±region (the 90 % interval lies there): tie;
- the whole interval lies above 0 and its point is beyond the region: better; mirrored: worse;
- anything else: cannot tell.

A leader is the best of several by chance too. So its comparisons are corrected together, step by step: with k methods
still level, 0 must be left out at a level of 5 % over k (k - 1) / 2 pairs, the clearest difference first, which then
leaves k - 1. That keeps the chance of a single false "better" in a group at 5 % or less: where it first goes wrong, all
methods that truly equal the leader are still among the k, and so are their pairs (Holm's rule with Shaffer's counts,
https://doi.org/10.1080/01621459.1986.10478341). Of several leaders the pairs of all their groups are counted together.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fewtune.inference.differences import Difference
from fewtune.metrics.counts import FloatArray

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
REGION = 0.01
FEWEST_DRAWS_TO_TEST = 6
"""Below six draws the exact two-sided sign-flip test cannot reach p < 0.05 whatever the data."""
MOST_DRAWS_EXACTLY = 36
"""Beyond so many draws the sign-flip test tries FLIPS sign patterns by chance instead of all."""
FLIPS, FLIPS_AT_ONCE = 100_000, 2_000
LITTLE_SHARED = 0.01
"""Draws whose supports share more than this are not independent enough for the exact test."""
MOST_FURTHER_DRAWS = 100
"""Beyond so many, further draws are no advice."""

Answer = Literal["better", "tie", "worse", "cannot tell"]
Reason = Literal[
    "no draw in common",
    "one draw",
    "within the region",
    "interval above 0",
    "interval below 0",
    "interval holds 0",
    "difference within the region",
    "corrected for several comparisons",
]
"""Why an answer is what it is."""


@dataclass(frozen=True)
class Comparison:
    """The answer on a first method against a second; the numbers are None where they share no draw.

    `point`, `low`, `high` are differences of the metric with their 95 % interval, no further than the metric can
    differ, and `by_draw` each draw's own. `p` is the two-sided p value of the mean difference (Student's t), and
    `exact_p` that of the sign-flip test, None below six draws and where draws share rows, which it does not allow for;
    both are corrected where the answer is. `wins` is the share of draws in which the first scored higher, equal ones
    counting half; `further_draws` about how many more would settle a "cannot tell" if they go on as these (None: none
    within reach, or one draw).
    """

    answer: Answer
    reason: Reason
    point: float | None = None
    low: float | None = None
    high: float | None = None
    draws: int = 0
    p: float | None = None
    exact_p: float | None = None
    by_draw: tuple[float, ...] = ()
    wins: float | None = None
    further_draws: int | None = None
    region: float = REGION
    """The largest difference that does not matter."""
    level: float = LEVEL
    """The level at which 0 has to be left out: less than 5 % where several comparisons share it."""


NOT_COMPARED = Comparison("cannot tell", "no draw in common")


def judge(difference: Difference, span: float, region: float = REGION, level: float = LEVEL) -> Comparison:
    """Judge a difference by the rule in this module's text; values of the metric lie `span` apart at the most.

    "Better" and "worse" have to leave 0 out at `level` too.
    """
    answer, reason = _apply_rule(difference, region)
    if answer in ("better", "worse") and difference.find_level() > level:
        answer, reason = "cannot tell", "corrected for several comparisons"
    reach = difference.reach(LEVEL / 2)
    draws = len(difference.by_draw)
    further = _count_further_draws(difference, region, level) if answer == "cannot tell" and draws > 1 else None
    return Comparison(
        answer=answer,
        reason=reason,
        point=difference.mean,
        low=max(-span, difference.mean - reach),
        high=min(span, difference.mean + reach),
        draws=draws,
        p=difference.find_level() if draws > 1 else None,
        exact_p=_test_exactly(difference),
        by_draw=difference.by_draw,
        wins=share_wins(difference.by_draw),
        further_draws=further,
        region=region,
        level=level,
    )


@dataclass(frozen=True)
class LeaderDifferences:
    """One leader's differences from all others of its group, in a metric whose values lie `span` apart at the most.

    `level` is the chance that any "better" of the group is wrong: less than 5 % where it is one of several looks.
    """

    differences: Mapping[str, Difference]
    span: float
    level: float = LEVEL


def judge_leaders(leaders: Sequence[LeaderDifferences], region: float = REGION) -> list[dict[str, Comparison]]:
    """Judge the leaders of several groups, all comparisons corrected together, the clearest of all first.

    Of each group count the pairs of its methods that are still level.
    """
    shares = [
        (each.find_level() / leader.level if each.is_known else math.inf, place, name)
        for place, leader in enumerate(leaders)
        for name, each in leader.differences.items()
    ]
    open_methods = [len(leader.differences) + 1 for leader in leaders]
    pairs: dict[tuple[int, str], int] = {}
    told = True
    for share, place, name in sorted(shares):
        pairs[place, name] = sum(map(count_pairs, open_methods))
        told = told and share <= 1 / pairs[place, name]
        open_methods[place] -= told
    return [
        _judge_one(leader, [pairs[place, name] for name in leader.differences], region)
        for place, leader in enumerate(leaders)
    ]


def _judge_one(leader: LeaderDifferences, pairs: Sequence[int], region: float) -> dict[str, Comparison]:
    judged = [
        judge(each, leader.span, region, leader.level / count)
        for each, count in zip(leader.differences.values(), pairs, strict=True)
    ]
    corrected = [correct_steps([getattr(each, kind) for each in judged], pairs) for kind in ("p", "exact_p")]
    return {
        name: replace(each, p=p, exact_p=exact_p)
        for name, each, p, exact_p in zip(leader.differences, judged, *corrected, strict=True)
    }


def correct_steps(p_values: Sequence[float | None], counts: Sequence[int]) -> list[float | None]:
    """Correct p values by numbers of comparisons, the smallest by the largest; none comes below one before it.

    None stays None.
    """
    known = [place for place, p in enumerate(p_values) if p is not None]
    found: list[float | None] = [None] * len(p_values)
    most = 0.0
    order = sorted(known, key=lambda place: p_values[place] or 0.0)
    for place, count in zip(order, sorted(counts, reverse=True), strict=False):
        most = max(most, min(1.0, count * (p_values[place] or 0.0)))
        found[place] = most
    return found


def judge_selected(
    difference: Difference, methods: int, span: float, region: float = REGION, level: float = LEVEL
) -> Comparison:
    """Judge the best of so many methods beside something that was not among them."""
    judged = judge(difference, span, region, level / methods)
    p, exact_p = (None if each is None else min(1.0, methods * each) for each in (judged.p, judged.exact_p))
    return replace(judged, p=p, exact_p=exact_p)


def count_pairs(methods: int) -> int:
    """How many pairs so many methods make."""
    return methods * (methods - 1) // 2


def share_wins(by_draw: Sequence[float]) -> float:
    """Share of draws whose difference (draws,) is above 0, a tie counting half: the probability of improvement."""
    differences = np.asarray(by_draw, dtype=np.float64)
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


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


def _signed_sums(values: FloatArray) -> FloatArray:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _apply_rule(difference: Difference, region: float) -> tuple[Answer, Reason]:
    if not difference.is_known:
        return "cannot tell", "one draw"
    size, reach = difference.mean, difference.reach(LEVEL / 2)
    if abs(size) + difference.reach(LEVEL) <= region:
        return "tie", "within the region"
    if size - reach > 0 and size > region:
        return "better", "interval above 0"
    if size + reach < 0 and size < -region:
        return "worse", "interval below 0"
    return "cannot tell", "interval holds 0" if abs(size) <= reach else "difference within the region"


def _count_further_draws(difference: Difference, region: float, level: float) -> int | None:
    """Count the draws to add until the rule is met, if draws go on as these; None: not within MOST_FURTHER_DRAWS."""
    size = abs(difference.mean)

    def settled(further: int) -> bool:
        then = difference.foresee(*(count + further for count in difference.counts))
        apart = size > max(region, then.reach(min(LEVEL, level) / 2))
        return apart or size + then.reach(LEVEL) <= region

    # An interval of more draws reaches less far: what is settled with some stays so with more.
    further = 1 + bisect_left(range(1, MOST_FURTHER_DRAWS + 1), True, key=settled)
    return further if further <= MOST_FURTHER_DRAWS else None


def _test_exactly(difference: Difference) -> float | None:
    independent = difference.shared_support <= LITTLE_SHARED and not difference.shares_rows
    return sign_flip_p(difference.by_draw) if independent else None
