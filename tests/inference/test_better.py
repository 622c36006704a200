"""Better, tie, worse or cannot tell: the rule, its corrections and its exact test, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fewtune.inference.better import (
    Comparison,
    LeaderDifferences,
    correct_steps,
    count_pairs,
    judge,
    judge_leaders,
    judge_selected,
    share_wins,
    sign_flip_p,
)
from fewtune.inference.differences import Difference, Variance, pair_methods, subtract
from fewtune.inference.scores import score_methods
from fewtune.inference.unseen import SetWeight
from made_up_scores import make_answers, make_difference, make_scores


def subtract_scores(*by_draw: float) -> Difference:
    """A difference of a score and nothing, draw by draw."""
    scored = make_scores({"first": by_draw, "second": [0.0] * len(by_draw)})
    return subtract(scored["first"], scored["second"])


def make_step(mean: float) -> Difference:
    """Three draws a point apart: standard error 0.01 / sqrt(3)."""
    return subtract_scores(mean - 0.01, mean, mean + 0.01)


def judge_alone(leader: LeaderDifferences) -> dict[str, Comparison]:
    """The leader of a single group."""
    return judge_leaders([leader])[0]


def make_interval(point: float, half: float, draws: int = 3) -> Difference:
    return make_difference(point, half / stats.t.isf(0.025, max(1, draws - 1)), draws)


@pytest.mark.parametrize(
    ("point", "half", "draws", "answer", "reason"),
    [
        (0.05, 0.03, 3, "better", "interval above 0"),
        (-0.05, 0.03, 3, "worse", "interval below 0"),
        (0.002, 0.008, 3, "tie", "within the region"),
        (0.005, 0.004, 3, "tie", "within the region"),  # a sure difference too small to matter
        (0.05, 0.06, 3, "cannot tell", "interval holds 0"),
        (0.008, 0.007, 3, "cannot tell", "difference within the region"),  # above 0, yet its point is inside the region
        (0.30, 0.05, 1, "cannot tell", "one draw"),  # one draw never suffices
    ],
)
def test_the_rule_gives(point: float, half: float, draws: int, answer: str, reason: str) -> None:
    found = judge(make_interval(point, half, draws), 1.0)
    assert (found.answer, found.reason) == (answer, reason)
    mirrored = judge(make_interval(-point, half, draws), 1.0)
    turned = {"better": "worse", "worse": "better"}
    assert mirrored.answer == turned.get(answer, answer)


def test_a_comparison_has_its_interval_and_what_each_draw_says() -> None:
    found = judge(subtract_scores(0.02, 0.03, 0.07), 1.0)
    assert found.point == pytest.approx(0.04) and found.by_draw == pytest.approx((0.02, 0.03, 0.07))
    reach = stats.t.isf(0.025, 2) * float(np.std([0.02, 0.03, 0.07], ddof=1)) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.04 - reach, 0.04 + reach))
    assert found.p == pytest.approx(stats.ttest_1samp([0.02, 0.03, 0.07], 0.0).pvalue)
    assert (found.draws, found.wins, found.exact_p) == (3, 1.0, None)


def test_an_interval_ends_where_the_metric_does() -> None:
    wide = subtract_scores(0.9, -0.4)
    assert (judge(wide, 1.0).low, judge(wide, 1.0).high) == (-1.0, 1.0)
    assert (judge(wide, 2.0).low, judge(wide, 2.0).high) == (-2.0, 2.0)


def test_a_tie_asks_two_one_sided_tests_at_their_level() -> None:
    """The 95 % interval of these draws reaches beyond the region and the 90 % one does not."""
    found = subtract_scores(0.004, -0.004, 0.008, -0.002, 0.009, 0.003)
    deviation = float(np.std(found.by_draw, ddof=1)) / math.sqrt(6)
    region = 0.003 + 2.2 * deviation
    assert stats.t.isf(0.05, 5) < 2.2 < stats.t.isf(0.025, 5)
    judged = judge(found, 1.0, region)
    assert judged.answer == "tie" and judged.high is not None and judged.high > region
    assert judge(found, 1.0, 0.003 + 2.0 * deviation).answer == "cannot tell"


def test_rows_that_show_no_difference_tell_a_tie_where_there_are_enough_of_them() -> None:
    def compare(rows: int) -> Comparison:
        answers = {name: make_answers([1.0] * 3, rows) for name in ("a", "b")}
        scored = score_methods(answers, "accuracy", {"in_domain": 1.0})
        return judge(subtract(scored["a"], scored["b"]), 1.0)

    few = compare(10)
    assert few.answer == "cannot tell" and few.high == pytest.approx(-math.log(0.025) / 30)
    assert compare(1000).answer == "tie"


def test_a_lower_level_asks_a_clearer_difference_and_says_why_it_was_not_told() -> None:
    near = make_step(0.03)  # t of 5.2: a p of .0351
    assert judge(near, 1.0).answer == "better"
    strict = judge(near, 1.0, level=0.02)
    assert (strict.answer, strict.reason) == ("cannot tell", "corrected for several comparisons")
    assert (strict.low, strict.high) == (judge(near, 1.0).low, judge(near, 1.0).high), "the interval stays at 95 %"
    assert strict.further_draws is not None and strict.further_draws >= 1
    assert judge(make_step(-0.03), 1.0, level=0.02).reason == "corrected for several comparisons"


def test_a_leaders_comparisons_are_corrected_step_by_step() -> None:
    # t of 52, 10.4 and 5.2 have p of 0.0004, 0.0091 and 0.0351. Levels: 5 % over 6 pairs, then 3, then 1.
    differences = {"nearer": make_step(0.03), "near": make_step(0.06), "clear": make_step(0.3)}
    found = judge_alone(LeaderDifferences(differences, 1.0))
    assert {c.answer for c in found.values()} == {"better"} and list(found) == ["nearer", "near", "clear"]
    alone = {name: each.find_level() for name, each in differences.items()}
    expected = {"clear": 6 * alone["clear"], "near": 3 * alone["near"], "nearer": alone["nearer"]}
    assert {name: c.p for name, c in found.items()} == pytest.approx(expected)
    assert {name: c.level for name, c in found.items()} == pytest.approx(
        {"clear": 0.05 / 6, "near": 0.05 / 3, "nearer": 0.05}
    )
    # Without the clear one to go first, `nearer` has its two equals to share 5 % over 3 pairs with.
    twice = judge_alone(LeaderDifferences({"nearer": make_step(0.03), "other": make_step(0.03)}, 1.0))
    assert {(c.answer, c.reason) for c in twice.values()} == {("cannot tell", "corrected for several comparisons")}
    assert twice["nearer"].p == pytest.approx(3 * alone["nearer"])


def test_clear_leaders_of_many_are_told_from_five_draws_as_pairs_lend_each_other() -> None:
    rng, told, alone, studies = np.random.default_rng(0), 0, 0, 30
    for _ in range(studies):
        values = {"leader": rng.normal(0.9, 0.03, 5), **{str(i): rng.normal(0.8, 0.03, 5) for i in range(9)}}
        scored = make_scores({name: each.tolist() for name, each in values.items()})
        lent = {name: each.negate() for name, each in pair_methods(scored)["leader"].items()}
        own = {name: subtract(scored["leader"], scored[name]) for name in lent}
        told += sum(c.answer == "better" for c in judge_alone(LeaderDifferences(lent, 1.0)).values())
        alone += sum(c.answer == "better" for c in judge_alone(LeaderDifferences(own, 1.0)).values())
    assert told > 0.8 * 9 * studies and alone < 0.6 * 9 * studies


def test_a_look_with_less_error_tells_less() -> None:
    differences = {"nearer": make_step(0.03), "clear": make_step(0.3)}
    found = judge_alone(LeaderDifferences(differences, 1.0, level=0.02))
    assert {name: c.answer for name, c in found.items()} == {"nearer": "cannot tell", "clear": "better"}


def test_one_that_a_single_draw_tells_of_stays_level_and_holds_the_others_to_its_pairs() -> None:
    differences = {"single": make_difference(0.4, 0.01, draws=1), "clear": make_step(0.3), "nearer": make_step(0.03)}
    found = judge_alone(LeaderDifferences(differences, 1.0))
    assert found["single"].answer == "cannot tell" and found["single"].p is None
    assert found["clear"].level == pytest.approx(0.05 / 6) and found["clear"].answer == "better"
    # .0351 over the three pairs of the leader, `single` and `nearer`.
    assert found["nearer"].answer == "cannot tell" and found["nearer"].level == pytest.approx(0.05 / 3)


def test_leaders_of_several_groups_are_corrected_together() -> None:
    """Two groups of two: a p of .0351 is told in one, and not beside another of which it may be false."""
    one, other = LeaderDifferences({"x": make_step(0.03)}, 1.0), LeaderDifferences({"y": make_step(0.03)}, 1.0)
    assert judge_alone(one)["x"].answer == "better"
    found = judge_leaders([one, other])
    assert [group[name].answer for group, name in zip(found, ("x", "y"), strict=True)] == ["cannot tell"] * 2
    assert found[0]["x"].p == pytest.approx(2 * make_step(0.03).find_level())
    # One that is told leaves its pair to the others, whichever group they are of: Holm's steps.
    clear = LeaderDifferences({"z": make_step(0.3)}, 1.0)
    steps = judge_leaders([one, clear])
    assert steps[0]["x"].answer == steps[1]["z"].answer == "better"
    assert (steps[0]["x"].level, steps[1]["z"].level) == pytest.approx((0.05, 0.025))
    assert judge_leaders([]) == [] and judge_leaders([LeaderDifferences({}, 1.0), one])[1]["x"].answer == "better"


def test_a_false_better_in_any_of_several_groups_stays_under_its_level() -> None:
    """Four groups of four equal methods over five draws, of which each has a leader by chance."""
    rng, wrong, plain, studies = np.random.default_rng(0), 0, 0, 100
    for _ in range(studies):
        groups = []
        for _ in range(4):
            values = rng.normal(0.8, 0.03, (4, 5))
            order = values.mean(axis=1).argsort()[::-1]
            scored = make_scores({str(place): values[place].tolist() for place in order})
            leader, *others = scored
            differences = {other: subtract(scored[leader], scored[other]) for other in others}
            groups.append(LeaderDifferences(differences, 1.0))
        wrong += any(c.answer == "better" for group in judge_leaders(groups) for c in group.values())
        plain += any(judge(each, 1.0).answer == "better" for g in groups for each in g.differences.values())
    assert wrong / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    assert plain / studies > 0.3, "without the correction many would be"


def test_a_leader_of_many_has_to_clear_the_majority_class_by_more() -> None:
    near = make_step(0.03)
    alone, many = judge_selected(near, 1, 1.0), judge_selected(near, 10, 1.0)
    assert (alone.answer, many.answer) == ("better", "cannot tell")
    assert many.p == pytest.approx(10 * near.find_level()) and alone.p == pytest.approx(near.find_level())
    assert judge_selected(make_step(0.0), 4, 1.0).p == 1.0


def test_p_values_are_corrected_by_the_pairs_still_level_and_keep_the_order_given() -> None:
    # Four methods make six pairs; with the clearest told apart three make three, and two one.
    assert [count_pairs(methods) for methods in (1, 2, 3, 4)] == [0, 1, 3, 6]
    assert correct_steps([0.01, 0.04, 0.03], [6, 1, 3]) == pytest.approx([0.06, 0.09, 0.09])
    assert correct_steps([0.6, 0.7], [3, 1]) == [1.0, 1.0]
    assert correct_steps([None, 0.01], [1, 6]) == [None, pytest.approx(0.06)] and correct_steps([], []) == []


def test_an_exact_test_is_corrected_in_its_own_order() -> None:
    """By Student's t one draw far off makes `uneven` less clear, by signs `even`, of which one draw is below."""
    uneven = subtract_scores(0.1, 0.9, 0.2, 2.0, 0.3, 0.5, 1.5, 0.05)
    even = subtract_scores(*[1.0] * 7, -0.05)
    assert even.find_level() < uneven.find_level() < 0.05
    found = judge_alone(LeaderDifferences({"uneven": uneven, "even": even}, 9.0))
    assert {c.answer for c in found.values()} == {"better"}
    # 2 and 4 of 256 patterns: the smaller among three pairs, the larger by itself.
    assert found["uneven"].exact_p == pytest.approx(3 * 2 / 256)
    assert found["even"].exact_p == pytest.approx(3 * 2 / 256), "not below the one before it"
    assert correct_steps([0.01, 0.03], [1, 3]) == pytest.approx([0.03, 0.03])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_counts_of_all_claims_and_then_one_less_each_are_holms_rule(count: int) -> None:
    """The smallest p times all claims, the next one times all but one, and so on; none below one before it."""
    p_values = np.random.default_rng(count).uniform(0, 0.1, count).round(3).tolist()
    order = sorted(range(count), key=p_values.__getitem__)
    expected, most = [0.0] * count, 0.0
    for step, place in enumerate(order):
        most = max(most, min(1.0, (count - step) * p_values[place]))
        expected[place] = most
    assert correct_steps(p_values, range(1, count + 1)) == pytest.approx(expected)


def test_claims_without_a_p_count_among_all() -> None:
    assert correct_steps([0.01, None, 0.02], [1, 2, 3]) == [pytest.approx(0.03), None, pytest.approx(0.04)]
    assert correct_steps([None, None], [1, 2]) == [None, None]


def test_sign_flip_is_exact_on_six_draws() -> None:
    assert sign_flip_p([1, 1, 1, 1, 1, 1]) == pytest.approx(2 / 64)
    # Sum 4: reached by no or one flip either way, 2 x (1 + 6) of 64 assignments.
    assert sign_flip_p([1, 1, 1, 1, 1, -1]) == pytest.approx(14 / 64)
    # Sum 19 of 1..6: subsets of total 0, 1 (both signs) -> 2 x 2 of 64.
    assert sign_flip_p([-1, 2, 3, 4, 5, 6]) == pytest.approx(4 / 64)


def test_sign_flip_says_nothing_below_six_draws_and_one_for_no_difference() -> None:
    assert sign_flip_p([1.0] * 5) is None
    assert sign_flip_p([0.0] * 6) == 1.0


def test_sign_flip_agrees_with_trying_every_sign() -> None:
    differences = np.random.default_rng(3).normal(0.3, 1.0, 9)
    signs = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert sign_flip_p(differences) == pytest.approx(expected)
    oracle = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=math.inf)
    assert sign_flip_p(differences) == pytest.approx(oracle.pvalue)


def test_beyond_many_draws_sign_patterns_are_tried_by_chance() -> None:
    differences = np.random.default_rng(5).normal(0.25, 1.0, 60)
    # Of so many draws the sum of flipped signs is as good as normal.
    expected = 2 * stats.norm.sf(abs(differences.sum()) / math.sqrt((differences**2).sum()))
    assert sign_flip_p(differences) == pytest.approx(expected, rel=0.1)
    assert sign_flip_p(differences) == sign_flip_p(differences), "the same ones each time"


@pytest.mark.parametrize("shared", [{"shared_support": 0.02}, {"tested": (SetWeight(0.001, 0.1, shared=True),)}])
def test_an_exact_test_is_not_told_where_draws_share_rows(shared: dict[str, object]) -> None:
    found = subtract_scores(*[0.1] * 7)
    assert judge(found, 1.0).exact_p == pytest.approx(2 / 128)
    assert judge(replace(found, **shared), 1.0).exact_p is None  # type: ignore[arg-type]
    assert judge(replace(found, shared_support=0.005), 1.0).exact_p is not None, "next to nothing"


def test_wins_are_counted_by_draw_and_ties_by_half() -> None:
    assert share_wins([0.1, 0.2, -0.1, 0.0]) == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(
    ("by_draw", "further"),
    [
        # Mean 2, deviation 1: t x 1 / sqrt(n) is 2.484 at 3 draws and 3.182 / 2 = 1.591 at 4.
        ((1.0, 2.0, 3.0), 1),
        # Mean 1, deviation 1: t at 7 draws is 2.447 / sqrt(7) = 0.925, at 6 it is 2.571 / sqrt(6) = 1.049.
        ((0.0, 1.0, 2.0), 4),
    ],
)
def test_further_draws_are_counted_until_students_t_leaves_zero_out(by_draw: Sequence[float], further: int) -> None:
    found = judge(subtract_scores(*by_draw), 9.0)
    assert (found.answer, found.further_draws) == ("cannot tell", further)


def test_at_a_lower_level_more_draws_are_needed() -> None:
    # Mean 3, deviation 1: t at .5 % is 5.841 / 2 = 2.92 at 4 draws, and 14.089 / sqrt(3) before.
    found = judge(subtract_scores(2.0, 3.0, 4.0), 9.0, level=0.01)
    assert (found.answer, found.further_draws) == ("cannot tell", 1)
    assert judge(subtract_scores(2.0, 3.0, 4.0), 9.0).answer == "better"


def test_further_draws_wait_for_what_rows_do() -> None:
    """No spread at all between draws, yet rows alone vary each by .04 squared."""
    rows = Variance(0.0, 0.04**2)
    found = judge(Difference(0.03, (0.03, 0.03), (2, 2), rows, Variance(0.0), rows), 1.0)
    # Rows are known by themselves: 1.960 x .04 / sqrt(n) < .03 from n = 7 on.
    assert found.answer == "cannot tell" and found.further_draws == 5


def test_a_tie_needs_draws_until_the_interval_fits_the_region() -> None:
    found = judge(make_difference(0.0, 0.02, draws=3), 1.0)
    # The standard error falls with the root of n: t at 5 % x .02 x sqrt(3 / n) <= .01.
    expected = next(n for n in range(4, 99) if stats.t.isf(0.05, n - 1) * 0.02 * math.sqrt(3 / n) <= 0.01)
    assert found.further_draws == expected - 3 == 32


def test_what_never_settles_says_so_and_one_draw_is_not_to_be_guessed_from() -> None:
    # The mean stands on the region's edge: no number of draws puts the interval on one side of it.
    assert judge(subtract_scores(0.0, 0.02), 1.0).further_draws is None
    assert judge(make_difference(0.2, 0.05, draws=1), 1.0).further_draws is None
    assert judge(make_step(0.3), 1.0).further_draws is None, "settled"
