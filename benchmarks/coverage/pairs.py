"""Made-up methods two by two, and leaders of groups: how often intervals hold the truth and "better" is false.

Owns how their rows are made up. `__main__` says what is measured of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewtune.analysis import resampling, statistics
from fewtune.analysis.answers import DrawAnswers, VariantAnswers, answer_commonest
from fewtune.analysis.comparison import Comparison, apply_rule, compare, correct_leader, correct_selected
from fewtune.analysis.leaderboard import IN_DOMAIN

ROWS, RESAMPLES, REPETITIONS, GROUPS = 500, 400, 4000, 600
DISAGREE = 0.4
"""Share of rows on which two methods answer differently."""
COLLAPSE, LOSS = 1 / 7, 0.2
RIGHT = 0.75
"""Share of rows that each of several methods answers right."""
LOWER = 0.1
ONES = np.ones(ROWS, dtype=np.uint8)
DRAWS = (3, 5, 10)
DEVIATIONS = ((0.03, 0.03), (0.01, 0.08))
"""Of the methods of a group, over draws: the least and the most."""


def draw_shifts(draws: int, deviation: float, collapses: bool, rng: np.random.Generator) -> np.ndarray:
    """True differences (draws,) whose mean over all draws there could be is zero."""
    shifts = rng.normal(0.0, deviation, draws)
    if collapses:
        shifts += LOSS * ((rng.random(draws) < COLLAPSE) - COLLAPSE)
    return np.clip(shifts, -DISAGREE, DISAGREE)


def bound_pair(shifts: np.ndarray, steady: float | None, rng: np.random.Generator) -> statistics.Interval:
    """The interval of two methods' difference; `steady`: all draws share their rows, None: each has its own."""
    chances = [[(DISAGREE + shift) / 2, (DISAGREE - shift) / 2, 1 - DISAGREE] for shift in (0.0, *shifts)]
    always, *rows = [rng.choice([1.0, -1.0, 0.0], size=ROWS, p=chance) for chance in chances]
    if steady is not None:
        rows = [np.where(rng.random(ROWS) < steady, always, each) for each in rows]
    names = [np.arange(ROWS) + (0 if steady is not None else ROWS * draw) for draw in range(len(rows))]
    draws = [resampling.subtract_rows(each, own, rng) for each, own in zip(rows, names, strict=True)]
    return statistics.bound_difference(draws, RESAMPLES, rng)


def measure_pairs(
    draws: int, deviation: float, collapses: bool, steady: float | None, repetitions: int, seed: int = 0
) -> dict[str, float]:
    """Shares of repetitions in which the interval holds zero, and in which the answer is "better"."""
    rng = np.random.default_rng(seed)
    found = [bound_pair(draw_shifts(draws, deviation, collapses, rng), steady, rng) for _ in range(repetitions)]
    return {
        "covered": float(np.mean([interval.low <= 0 <= interval.high for interval in found])),
        "better": float(np.mean([apply_rule(interval)[0] == "better" for interval in found])),
        "worse": float(np.mean([apply_rule(interval)[0] == "worse" for interval in found])),
    }


def measure_leaders(
    methods: int, draws: int, deviations: tuple[float, float], groups: int, seed: int = 0
) -> dict[str, float]:
    """Share of groups in which the leader is called better than an equal, with the correction and without.

    Methods' deviations over draws go from the first to the last in equal ratios. `told`: in other groups, of which half
    are LOWER than the rest, the share of these that a leader is called better than.
    """
    rng = np.random.default_rng(seed)
    each = np.geomspace(*deviations, methods)
    equal = [judge_group([answer_rows(draws, d, RIGHT, rng) for d in each], rng) for _ in range(groups)]
    levels = [RIGHT - LOWER * (m % 2) for m in range(methods)]
    apart = [
        judge_group([answer_rows(draws, d, right, rng) for d, right in zip(each, levels, strict=True)], rng)
        for _ in range(groups // 3)
    ]
    below = [found[1].get(m, False) for found in apart for m in range(1, methods, 2)]
    return {
        "plain": float(np.mean([any(plain.values()) for plain, _ in equal])),
        "corrected": float(np.mean([any(corrected.values()) for _, corrected in equal])),
        "told": float(np.mean(below)),
    }


def measure_floors(
    methods: int, draws: int, deviations: tuple[float, float], groups: int, seed: int = 0
) -> dict[str, float]:
    """Share of groups in which the leader is called better than the commonest label, which all methods equal.

    `told`: in other groups, where all are LOWER above it. Deviations are as in `measure_leaders`.
    """
    rng = np.random.default_rng(seed)
    gold = (np.arange(ROWS) < RIGHT * ROWS).astype(np.int64)

    def judge(right: float) -> tuple[bool, bool]:
        return judge_floor([answer_rows(draws, d, right, rng, gold) for d in np.geomspace(*deviations, methods)], rng)

    equal, apart = [judge(RIGHT) for _ in range(groups)], [judge(RIGHT + LOWER) for _ in range(groups // 3)]
    return {
        "plain": float(np.mean([plain for plain, _ in equal])),
        "corrected": float(np.mean([corrected for _, corrected in equal])),
        "told": float(np.mean([corrected for _, corrected in apart])),
    }


def judge_floor(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether the leader is called better than the commonest label answered always, without and with the correction."""
    leader, others = compare_leader(answers, rng)
    plain = compare(answers[leader], answer_commonest(answers[leader]), "accuracy", rng, RESAMPLES)
    corrected = correct_selected(plain, len(answers), others.values())
    return plain.answer == "better", corrected.answer == "better"


def compare_leader(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[int, dict[str, Comparison]]:
    """The method with the highest mean, and its comparisons with each other one by its number, as they are."""
    means = [np.mean([np.mean(s[IN_DOMAIN].predicted == s[IN_DOMAIN].gold) for s in each.values()]) for each in answers]
    leader = int(np.argmax(means))
    found = {
        str(m): compare(answers[leader], other, "accuracy", rng, RESAMPLES)
        for m, other in enumerate(answers)
        if m != leader
    }
    return leader, found


def judge_group(answers: Sequence[VariantAnswers], rng: np.random.Generator) -> tuple[dict[int, bool], dict[int, bool]]:
    """Whether the leader of a group is called better than each other method, without and with the correction."""
    _, found = compare_leader(answers, rng)
    plain, corrected = (
        {int(m): comparison.answer == "better" for m, comparison in each.items()}
        for each in (found, correct_leader(found))
    )
    return plain, corrected


def answer_rows(
    draws: int, deviation: float, right: float, rng: np.random.Generator, gold: np.ndarray = ONES
) -> VariantAnswers:
    """One method's answers to rows with gold labels (rows,): right on a share that differs from draw to draw."""
    shares = np.clip(right + rng.normal(0.0, deviation / np.sqrt(2), draws), 0, 1)
    return {
        (draw, ""): {
            IN_DOMAIN: DrawAnswers(
                gold,
                np.where(rng.random((1, ROWS)) < share, gold, 1 - gold),
                2,
                ROWS * draw + np.arange(ROWS, dtype=np.int32),
            )
        }
        for draw, share in enumerate(shares)
    }
