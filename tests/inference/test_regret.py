"""Regret bounds on small tables, their answers computed by hand; and that they hold as often as they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from fewtune.inference.answers import DrawAnswers, MethodAnswers
from fewtune.inference.better import LEVEL
from fewtune.inference.differences import pair_methods
from fewtune.inference.regret import (
    RegretBound,
    UpperLimits,
    bound_regrets,
    combine_looks,
    share_level,
)
from fewtune.inference.scores import MethodScores, score_methods
from made_up_scores import make_answers, make_scores


def bound_scored(
    scored: Mapping[str, MethodScores], level: float = LEVEL, able: Sequence[str] = ()
) -> dict[str, RegretBound]:
    """Every method's bound from its scores by draw, which are looked at once."""
    rivals = pair_methods(scored)
    return bound_regrets(rivals, combine_looks([(rivals, level)]), 1.0, able)


def bound_answers(answers: Mapping[str, MethodAnswers], metric: str, level: float = LEVEL) -> dict[str, RegretBound]:
    return bound_scored(score_methods(answers, metric, {"in_domain": 1.0}), level)


def test_two_methods_have_the_textbook_bound() -> None:
    """One pair: the one-sided t interval of its differences, .02 with a standard deviation of .01 over three draws."""
    found = bound_scored(make_scores({"a": [0.83, 0.82, 0.81], "b": [0.80, 0.80, 0.80]}))
    reach = stats.t.ppf(0.95, 2) * 0.01 / math.sqrt(3)
    assert found["b"].bound == pytest.approx(0.02 + reach) and found["b"].draws == 3
    assert found["a"].bound == 0.0 and reach < 0.02, "nothing may be above it"


def test_rows_that_show_no_difference_leave_one_open_that_they_cannot_tell() -> None:
    """Three draws of ten rows, all right: of 30 rows none differs, and 3.0 in 30 may, at a level of 5 %."""
    same = {name: make_answers([1.0, 1.0, 1.0], rows=10) for name in ("a", "b")}
    assert bound_answers(same, "accuracy")["a"].bound == pytest.approx(-math.log(0.05) / 30)
    again = {name: make_answers([1.0, 1.0, 1.0], rows=10, shared=True) for name in ("a", "b")}
    assert bound_answers(again, "accuracy")["a"].bound == pytest.approx(-math.log(0.05) / 10), "the same ten"


def test_of_three_methods_each_pair_has_half_the_error() -> None:
    assert share_level(0.1, 3) == 0.05 and share_level(0.1, 1) == 0.1
    found = bound_scored(make_scores({"a": [0.9, 0.92], "b": [0.88, 0.86], "c": [0.5, 0.5]}), level=0.1)
    deviation = np.std([0.02, 0.06], ddof=1)
    assert found["b"].bound == pytest.approx(0.04 + stats.t.ppf(0.95, 1) * deviation / math.sqrt(2))
    assert found["c"].bound == pytest.approx(0.41 + stats.t.ppf(0.95, 1) * 0.02 * 2**-0.5 / math.sqrt(2))


def test_a_bound_is_no_more_than_the_metric_can_differ() -> None:
    scored = make_scores({"a": [0.9, 0.1], "b": [0.1, 0.9]})
    assert bound_scored(scored)["a"].bound == 1.0
    rivals = pair_methods(scored)
    assert bound_regrets(rivals, combine_looks([(rivals, LEVEL)]), 2.0)["a"].bound == 2.0


def test_a_method_that_is_not_the_best_bounds_no_other() -> None:
    """c, far below and far more spread, has no part in how far b may be below the best: a is above it beyond doubt."""
    values = {"a": [0.9, 0.92, 0.91], "b": [0.89, 0.90, 0.91], "c": [0.2, 0.4, 0.0]}
    found = bound_scored(make_scores(values))
    # b - a: -.01, -.02, 0; each pair at 2.5 %, two degrees of freedom.
    one = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert found["b"].bound == pytest.approx(0.01 + one)
    # a - c: .7, .52, .91, whose lower end at 2.5 % is above 0; c may be up to 16.6 points above neither.
    least = 0.71 - stats.t.ppf(0.975, 2) * np.std([0.7, 0.52, 0.91], ddof=1) / math.sqrt(3)
    assert found["c"].above == "a" and found["c"].least == pytest.approx(least) and least > 0
    noisy = bound_scored(make_scores({**values, "c": [0.2, 0.8, 0.0]}))
    assert noisy["c"].above is None and (noisy["b"].bound or 0.0) > 0.01 + one, "one that may be the best still counts"


def test_what_an_earlier_look_said_of_two_methods_still_holds() -> None:
    """Three draws put c below; two more, in which a and c swap places, cannot take that back."""
    first = {"a": [0.90, 0.91, 0.92], "b": [0.90, 0.90, 0.91], "c": [0.60, 0.60, 0.61]}
    more = {"a": [0.1, 0.9], "b": [0.9, 0.9], "c": [0.9, 0.1]}
    before, now = (
        pair_methods(make_scores(each)) for each in (first, {name: first[name] + more[name] for name in first})
    )
    alone = bound_regrets(now, combine_looks([(now, 0.02)]), 1.0)
    found = bound_regrets(now, combine_looks([(before, 0.02), (now, 0.02)]), 1.0)
    assert alone["c"].above is None and (alone["b"].bound or 0.0) > 0.4
    assert found["c"].above is not None
    # b against a as of the first look: a - b is 0, .01, .01 there, each pair at 1 %.
    reach = stats.t.ppf(0.99, 2) * np.std([0.0, 0.01, 0.01], ddof=1) / math.sqrt(3)
    assert found["b"].bound == pytest.approx(0.02 / 3 + reach)


def test_an_earlier_look_at_methods_that_are_gone_says_nothing_of_the_others() -> None:
    before = pair_methods(make_scores({"a": [0.9, 0.91], "gone": [0.5, 0.5]}))
    now = pair_methods(make_scores({"a": [0.9, 0.91, 0.9], "b": [0.88, 0.9, 0.91]}))
    assert combine_looks([(before, 0.03), (now, 0.02)]) == combine_looks([(now, 0.02)])


def test_where_all_would_be_inferior_none_is() -> None:
    """Such bounds contradict each other: some are wrong, and which ones cannot be known."""
    found = UpperLimits({"a": {"b": -0.1, "c": 0.2}, "b": {"a": 0.2, "c": -0.1}, "c": {"a": -0.1, "b": 0.2}})
    assert found.inferior == {} and set(found.find_rivals("a")) == {"b", "c"}


def test_a_bound_is_never_below_what_rows_bring_about() -> None:
    """Differences that happen to be equal in three draws of 100 rows are no evidence that draws do not differ."""
    methods = {"a": make_answers([0.8] * 3, rows=100), "b": make_answers([0.7] * 3, rows=100)}
    by_rows = math.sqrt(0.1 * 0.9 / 300)  # ten rows of a hundred differ, in each of three draws
    assert bound_answers(methods, "accuracy")["b"].bound == pytest.approx(0.1 + stats.norm.ppf(0.95) * by_rows)


def test_one_draw_bounds_nothing_and_a_method_alone_has_no_regret() -> None:
    assert bound_scored(make_scores({"a": [0.9], "b": [0.1]}))["b"].bound is None
    assert bound_scored(make_scores({"a": [0.9, 0.8]}))["a"].bound == 0.0


def test_of_several_that_are_above_one_that_may_be_chosen_is_told_first() -> None:
    scored = make_scores({"failed": [0.9, 0.9, 0.91], "able": [0.8, 0.8, 0.81], "below": [0.3, 0.3, 0.3]})
    assert bound_scored(scored)["below"].above == "failed"
    found = bound_scored(scored, able=["able", "below"])
    assert found["below"].above == "able" and 0.48 < found["below"].least < 0.5
    assert found["able"].above == "failed", "none that is able is above it"


def test_a_bound_is_of_the_fewest_draws_that_it_rests_on() -> None:
    assert bound_scored(make_scores({"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8]}))["b"].draws == 2


@pytest.mark.parametrize("means", [(0.8,) * 6, (0.82, 0.8, 0.8, 0.8, 0.6, 0.6)], ids=["equal", "one ahead"])
def test_all_bounds_hold_at_once_as_often_as_they_say(means: tuple[float, ...]) -> None:
    rng, wrong, studies = np.random.default_rng(0), 0, 200
    spreads = np.array([0.01, 0.02, 0.03, 0.02, 0.05, 0.01])
    for _ in range(studies):
        values = {f"m{i}": rng.normal(mean, spreads[i], 4).tolist() for i, mean in enumerate(means)}
        found = bound_scored(make_scores(values))
        regrets = {f"m{i}": max(means) - mean for i, mean in enumerate(means)}
        wrong += any((found[name].bound or 0.0) < regret for name, regret in regrets.items())
    assert wrong / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


def test_methods_that_answer_all_alike_may_differ_by_the_rarest_label() -> None:
    """Two methods without an error on 60 rows, two of them of a rare label: that one's F1 may be another."""
    gold = np.array([0] * 58 + [1] * 2)
    draws = {
        (draw, ""): {"in_domain": DrawAnswers(gold, gold[None], 2, np.arange(60, dtype=np.int32) + 60 * draw)}
        for draw in range(3)
    }
    bounds = bound_answers({"a": draws, "b": draws}, "macro_f1")
    # One of the rare rows missed: F1 of 2 / 3, and 116 / 117 for the other; of 180 rows 3.0 may be, at 5 %.
    weight = (1 - 2 / 3 + 1 - 116 / 117) / 2 / 3
    assert bounds["a"].bound == pytest.approx(-math.log(0.05) * weight) and weight > 10 / 180
