"""Made-up methods two by two, and leaders of groups: how often intervals hold the truth and "better" is false.

Owns how their rows are made up. `__main__` says what is measured of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fewtune.analysis.answers import answer_commonest
from fewtune.analysis.decision import IN_DOMAIN_ALONE
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.inference.answers import DrawAnswers, MethodAnswers
from fewtune.inference.better import Comparison, LeaderDifferences, judge, judge_leaders, judge_selected
from fewtune.inference.differences import Difference, Rivals, measure_score, pair_methods, subtract
from fewtune.inference.scores import DrawScore, MethodScores, score_methods

ROWS, REPETITIONS, GROUPS, SPAN = 500, 4000, 600, 1.0
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


def bound_pair(shifts: np.ndarray, steady: float | None, rng: np.random.Generator) -> Difference:
    """The difference of two methods; `steady`: all draws share their rows, None: each has its own."""
    chances = [[(DISAGREE + shift) / 2, (DISAGREE - shift) / 2, 1 - DISAGREE] for shift in (0.0, *shifts)]
    always, *rows = [rng.choice([1.0, -1.0, 0.0], size=ROWS, p=chance) for chance in chances]
    if steady is not None:
        rows = [np.where(rng.random(ROWS) < steady, always, each) for each in rows]
    names = [np.arange(ROWS) + (0 if steady is not None else ROWS * draw) for draw in range(len(rows))]
    means = [float(each.mean()) for each in rows]
    return measure_score(
        [DrawScore(mean, own, (each - mean) / ROWS) for mean, each, own in zip(means, rows, names, strict=True)]
    )


def measure_pairs(
    draws: int, deviation: float, collapses: bool, steady: float | None, repetitions: int, seed: int = 0
) -> dict[str, float]:
    """Shares of repetitions in which the interval holds zero, and in which the answer is "better"."""
    rng = np.random.default_rng(seed)
    pairs = [bound_pair(draw_shifts(draws, deviation, collapses, rng), steady, rng) for _ in range(repetitions)]
    found = [judge(pair, SPAN) for pair in pairs]
    return {
        "covered": float(np.mean([(each.low or 0) <= 0 <= (each.high or 0) for each in found])),
        "better": float(np.mean([each.answer == "better" for each in found])),
        "worse": float(np.mean([each.answer == "worse" for each in found])),
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
    equal = [judge_group([answer_rows(draws, d, RIGHT, rng) for d in each]) for _ in range(groups)]
    levels = [RIGHT - LOWER * (m % 2) for m in range(methods)]
    apart = [
        judge_group([answer_rows(draws, d, right, rng) for d, right in zip(each, levels, strict=True)])
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
    """Share of groups in which the leader is called better than the majority class, which all methods equal.

    `told`: in other groups, where all are LOWER above it. Deviations are as in `measure_leaders`.
    """
    rng = np.random.default_rng(seed)
    gold = (np.arange(ROWS) < RIGHT * ROWS).astype(np.int64)

    def judge(right: float) -> tuple[bool, bool]:
        return judge_floor([answer_rows(draws, d, right, rng, gold) for d in np.geomspace(*deviations, methods)])

    equal, apart = [judge(RIGHT) for _ in range(groups)], [judge(RIGHT + LOWER) for _ in range(groups // 3)]
    return {
        "plain": float(np.mean([plain for plain, _ in equal])),
        "corrected": float(np.mean([corrected for _, corrected in equal])),
        "told": float(np.mean([corrected for _, corrected in apart])),
    }


def judge_floor(answers: Sequence[MethodAnswers]) -> tuple[bool, bool]:
    """Whether the leader is called better than the majority class answered always, without and with the correction."""
    leader, scored, _ = compare_leader(answers)
    majority = score_methods({"": answer_commonest(answers[int(leader)])}, "accuracy", IN_DOMAIN_ALONE)[""]
    lead = subtract(scored[leader], majority)
    plain, corrected = judge(lead, SPAN), judge_selected(lead, len(answers), SPAN)
    return plain.answer == "better", corrected.answer == "better"


def compare_leader(answers: Sequence[MethodAnswers]) -> tuple[str, Mapping[str, MethodScores], Rivals]:
    """The method with the highest mean by its number, all scores, and the leader's differences from each other one."""
    scored = score_methods({str(m): each for m, each in enumerate(answers)}, "accuracy", IN_DOMAIN_ALONE)
    leader = max(scored, key=lambda name: float(np.mean([draw.score for draw in scored[name].values()])))
    return leader, scored, {name: each.negate() for name, each in pair_methods(scored)[leader].items()}


def judge_group(answers: Sequence[MethodAnswers]) -> tuple[dict[int, bool], dict[int, bool]]:
    """Whether the leader of a group is called better than each other method, without and with the correction."""
    _, scored, found = compare_leader(answers)
    leader = (scored.keys() - found.keys()).pop()
    alone = {name: judge(subtract(scored[leader], scored[name]), SPAN) for name in found}
    plain, corrected = (tell_better(each) for each in (alone, judge_leaders([LeaderDifferences(found, SPAN)])[0]))
    return plain, corrected


def tell_better(comparisons: Mapping[str, Comparison]) -> dict[int, bool]:
    """Whether a leader is called better than each other method, by its number."""
    return {int(name): each.answer == "better" for name, each in comparisons.items()}


def answer_rows(
    draws: int, deviation: float, right: float, rng: np.random.Generator, gold: np.ndarray = ONES
) -> MethodAnswers:
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
