"""Statistics against answers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fewtune.analysis import resampling
from fewtune.analysis import statistics as s
from fewtune.metrics import counts as counts_of


def make_pair(rng: np.random.Generator, labels: int, rows: int) -> resampling.PairedRows:
    gold, first, second = (rng.integers(labels, size=shape) for shape in (rows, (2, rows), (3, rows)))
    return resampling.PairedRows(gold, first, second)


def own_rows(draw: int, rows: np.ndarray) -> s.IntArray:
    """Rows that no other draw has."""
    return 10_000 * draw + np.arange(len(rows))


def bound(rows: Sequence[s.FloatArray], resamples: int, rng: np.random.Generator) -> s.Interval:
    return s.bound_difference(
        [resampling.subtract_rows(row, own_rows(index, row), rng) for index, row in enumerate(rows)], resamples, rng
    )


def bound_scores(
    pairs: Sequence[resampling.PairedRows], labels: int, score: s.Score, resamples: int, rng: np.random.Generator
) -> s.Interval:
    return s.bound_difference(
        [resampling.subtract_scores(pair, own_rows(i, pair.gold), labels, score, rng) for i, pair in enumerate(pairs)],
        resamples,
        rng,
    )


def test_interquartile_mean_averages_the_middle_half() -> None:
    assert s.interquartile_mean([100, 1, 2, 3, 4, 5, 6, -50]) == pytest.approx(3.5)
    assert s.interquartile_mean([1, 2, 9]) == pytest.approx(4.0)


def test_sign_flip_is_exact_on_six_draws() -> None:
    assert s.sign_flip_p([1, 1, 1, 1, 1, 1]) == pytest.approx(2 / 64)
    # Sum 4: reached by no or one flip either way, 2 x (1 + 6) of 64 assignments.
    assert s.sign_flip_p([1, 1, 1, 1, 1, -1]) == pytest.approx(14 / 64)
    # Sum 19 of 1..6: subsets of total 0, 1 (both signs) -> 2 x 2 of 64.
    assert s.sign_flip_p([-1, 2, 3, 4, 5, 6]) == pytest.approx(4 / 64)


def test_sign_flip_says_nothing_below_six_draws_and_one_for_no_difference() -> None:
    assert s.sign_flip_p([1.0] * 5) is None
    assert s.sign_flip_p([0.0] * 6) == 1.0


def test_sign_flip_agrees_with_trying_every_sign() -> None:
    differences = np.random.default_rng(3).normal(0.3, 1.0, 9)
    signs = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert s.sign_flip_p(differences) == pytest.approx(expected)


def test_a_leaders_p_values_are_corrected_by_the_pairs_still_level_and_keep_the_order_given() -> None:
    # Four methods make six pairs; with the clearest told apart three make three, and two one.
    assert s.correct_with_leader([0.01, 0.04, 0.03], methods=4).tolist() == pytest.approx([0.06, 0.09, 0.09])
    assert s.correct_with_leader([0.01], methods=4).tolist() == pytest.approx([0.06]), "two others have no p"
    assert s.correct_with_leader([0.6, 0.7], methods=3).tolist() == pytest.approx([1.0, 1.0])
    assert s.correct_with_leader([], methods=1).tolist() == []


def test_bootstrap_brackets_the_known_difference() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=500) for _ in range(5)]
    interval = bound(rows, 2000, rng)
    assert interval.low < interval.point < interval.high
    assert interval.low < 0.2 < interval.high
    assert interval.point == pytest.approx(np.mean([row.mean() for row in rows]))
    assert interval.draws == 5


def test_one_draw_bounds_rows_only_as_a_binomial_does() -> None:
    rows = np.repeat([0.0, 1.0], 200)
    interval = bound([rows], 20_000, np.random.default_rng(0))
    assert interval.draws == 1
    half = 1.96 * np.sqrt(0.25 / 400)
    assert interval.low == pytest.approx(0.5 - half, abs=0.004)
    assert interval.high == pytest.approx(0.5 + half, abs=0.004)


def test_draws_that_disagree_widen_the_interval() -> None:
    steady = [np.full(100, 0.1), np.full(100, 0.1)]
    torn = [np.full(100, -0.1), np.full(100, 0.3)]
    narrow = bound(steady, 500, np.random.default_rng(0))
    wide = bound(torn, 500, np.random.default_rng(0))
    assert (narrow.low, narrow.high) == pytest.approx((0.1, 0.1))
    # Two draws 0.4 apart: standard error 0.2, and Student's t with one degree of freedom is 12.7062.
    assert (wide.low, wide.high) == pytest.approx((0.1 - 12.7062 * 0.2, 0.1 + 12.7062 * 0.2), abs=1e-4)


def test_one_draw_has_no_interval_over_draws() -> None:
    assert bound([np.full(10, 0.3)], 50, np.random.default_rng(0)).tie_reach is None
    # Mean 2, standard deviation 1, standard error 1/sqrt(3), t with two degrees of freedom 4.3027.
    found = bound([np.full(10, mean) for mean in (1.0, 2.0, 3.0)], 50, np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_supports_that_draws_share_widen_by_what_draws_differ_beyond_their_rows() -> None:
    rng, rows = np.random.default_rng(0), [np.full(10, mean) for mean in (1.0, 2.0, 3.0)]
    draws = [resampling.subtract_rows(each, own_rows(draw, each), rng) for draw, each in enumerate(rows)]
    found = s.bound_difference([replace(each, shared_support=0.4) for each in draws], 50, rng)
    # Variance 1 between draws, none by rows: 1 / 3 + 0.4 / 0.6 is 1.
    assert (found.low, found.high) == pytest.approx((2 - 4.3027, 2 + 4.3027), abs=1e-4)
    # No draw takes the second part away: of 27 like these it is 1 / 27 + 2 / 3, and t is 2.0555.
    assert s.reach_of([1.0, 2.0, 3.0], found, 0.05, draws=27) == pytest.approx(
        2.0555 * (1 / 27 + 2 / 3) ** 0.5, abs=1e-4
    )
    # Where rows alone make draws differ as much, nothing is added.
    assert s.vary_by_shared_support(variance=1.0, row_variance=1.2, share=0.4) == 0.0
    assert s.vary_by_shared_support(variance=1.0, row_variance=0.4, share=0.5) == pytest.approx(0.6)


def test_what_test_rows_that_draws_share_do_is_not_taken_for_what_shows_of_their_supports() -> None:
    """A draw's rows vary it by .25, which two draws on the same rows have in common: nothing of it is between them."""
    assert s.show_rows(own=0.25, common=0.125, draws=2) == pytest.approx(0.0)
    assert s.show_rows(own=0.25, common=0.0, draws=2) == 0.25, "rows of each draw's own show whole"
    assert s.show_rows(own=0.25, common=0.0, draws=1) == 0.25
    rng = np.random.default_rng(0)
    ups = [np.array([1.0, 0.0, up]) for up in (0.2, 0.4, 0.6)]  # the third row alone tells the draws apart
    draws = [replace(resampling.subtract_rows(up, np.arange(3), rng), shared_support=0.5) for up in ups]
    shared = s.bound_difference(draws, 50, rng)
    apart = s.bound_difference([replace(d, rows=3 * i + np.arange(3)) for i, d in enumerate(draws)], 50, rng)
    variance = float(np.var([d.point for d in draws], ddof=1))
    assert shared.row_variance < variance < apart.row_variance, "on rows of their own, they might differ by rows alone"
    support = variance - shared.row_variance  # an equal share of it is common to all draws
    reach = 4.3027 * math.sqrt(variance / 3 + support)
    assert shared.high - shared.point >= math.hypot(reach, shared.common) - 1e-4


def test_equal_seeds_give_equal_intervals() -> None:
    rows = [np.random.default_rng(1).normal(size=50) for _ in range(3)]
    first, second = (bound(rows, 200, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_scores_match_hand_computed_counts() -> None:
    counts = np.array([[[6, 2], [1, 3]], [[8, 0], [4, 0]]])
    assert counts_of.score_accuracy(counts).tolist() == pytest.approx([9 / 12, 8 / 12])
    assert counts_of.score_matthews(counts).tolist() == pytest.approx([(6 * 3 - 2 * 1) / np.sqrt(8 * 4 * 7 * 5), 0.0])
    assert counts_of.score_macro_f1(counts).tolist() == pytest.approx([(12 / 15 + 6 / 9) / 2, (16 / 20) / 2])


def test_matthews_agrees_with_scikit_learn_beyond_two_labels() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(3, size=200), rng.integers(3, size=200)
    counts = counts_of.count_answers(gold, predicted, 3)
    assert float(counts_of.score_matthews(counts)) == pytest.approx(metrics.matthews_corrcoef(gold, predicted))
    expected = metrics.f1_score(gold, predicted, average="macro")
    assert float(counts_of.score_macro_f1(counts)) == pytest.approx(expected)


def test_score_bootstrap_with_accuracy_is_the_row_bootstrap() -> None:
    rng = np.random.default_rng(0)
    pairs = [make_pair(rng, labels=2, rows=300) for _ in range(4)]
    rows = [(p.first == p.gold).mean(0) - (p.second == p.gold).mean(0) for p in pairs]
    by_score = bound_scores(pairs, 2, counts_of.score_accuracy, 20_000, np.random.default_rng(1))
    by_rows = bound(rows, 20_000, np.random.default_rng(2))
    assert by_score.point == pytest.approx(by_rows.point)
    assert by_score.low == pytest.approx(by_rows.low, abs=0.004)
    assert by_score.high == pytest.approx(by_rows.high, abs=0.004)


def test_labels_that_never_occur_change_nothing() -> None:
    rng = np.random.default_rng(0)
    gold, first, second = rng.integers(2, size=60), rng.integers(2, size=(2, 60)), rng.integers(2, size=(1, 60))
    pair, rows = resampling.PairedRows(gold, first, second), np.arange(60)
    few, many = (
        resampling.subtract_scores(pair, rows, labels, counts_of.score_macro_f1, np.random.default_rng(1))
        for labels in (2, 150)
    )
    np.testing.assert_allclose(few.resample(300), many.resample(300))
    np.testing.assert_allclose(few.effects, many.effects, atol=1e-12)
    assert len(many.resample(0)) == 0


def test_what_shared_rows_do_to_all_draws_is_worked_out() -> None:
    rng, right = np.random.default_rng(0), np.array([1.0, 0.0])

    def bound_on(*rows: Sequence[int]) -> s.Interval:
        draws = [resampling.subtract_rows(right, np.array(codes), rng) for codes in rows]
        return s.bound_difference(draws, 200, rng)

    # One more of a row moves a draw by a quarter, the mean of two draws by an eighth, up or down. Together both rows
    # have 2 (2/8)^2 = 8/64, apart 4 (1/8)^2 = 4/64: 1/16 is the rows' alone. A single shared row has half.
    assert bound_on([0, 1], [0, 1]).common == pytest.approx(1.959964 * math.sqrt(1 / 16))
    assert bound_on([0, 1], [0, 2]).common == pytest.approx(1.959964 * math.sqrt(1 / 32))
    assert bound_on([0, 1], [2, 3]).common == 0.0
    # Where what one draw gains by a row is what the other loses, rows resampled for both are less than for each.
    assert bound_on([0, 1], [1, 0]).common == 0.0


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "macro_f1"])
def test_rows_effects_have_the_variance_that_resampling_has(metric: str) -> None:
    rng = np.random.default_rng(3)
    pair = make_pair(rng, labels=3, rows=400)
    draw = resampling.subtract_scores(pair, np.arange(400), 3, counts_of.SCORES[metric], rng)
    assert float(draw.effects.sum()) == pytest.approx(0.0, abs=1e-9)
    assert float((draw.effects**2).sum()) == pytest.approx(float(draw.resample(20_000).var()), rel=0.05)


def test_a_score_that_cannot_move_has_rows_without_effect() -> None:
    gold = np.array([0, 1, 0, 1])
    constant = resampling.PairedRows(gold, np.zeros((1, 4), dtype=np.int64), np.ones((1, 4), dtype=np.int64))
    draw = resampling.subtract_scores(constant, np.arange(4), 2, counts_of.score_matthews, np.random.default_rng(0))
    assert draw.effects.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_test_sets_weigh_as_told_and_are_resampled_each_for_itself() -> None:
    rng = np.random.default_rng(0)
    inside, outside = np.full(100, 0.2), np.full(50, -0.1)
    draws = [
        resampling.weigh(
            [
                (0.75, resampling.subtract_rows(inside, own_rows(draw, inside), rng)),
                (0.25, resampling.subtract_rows(outside, own_rows(draw + 2, outside), rng)),
            ]
        )
        for draw in range(2)
    ]
    interval = s.bound_difference(draws, 200, rng)
    # Rows that are all alike leave nothing to chance: 0.75 x 0.2 - 0.25 x 0.1.
    assert (interval.low, interval.point, interval.high) == pytest.approx((0.125, 0.125, 0.125))


def test_further_draws_are_counted_until_students_t_leaves_zero_out() -> None:
    # Mean 2, deviation 1: t x 1 / sqrt(n) is 2.484 at 3 draws and 3.182 / 2 = 1.591 at 4.
    points = [1.0, 2.0, 3.0]
    interval = s.Interval(2.0, -0.48, 4.48, 3)
    assert s.count_further_draws(points, interval, region=0.01, level=0.05) == 1
    # Mean 1, deviation 1: t at 7 draws is 2.447 / sqrt(7) = 0.925, at 6 it is 2.571 / sqrt(6) = 1.049.
    assert s.count_further_draws([0.0, 1.0, 2.0], interval, region=0.01, level=0.05) == 4


def test_further_draws_wait_for_the_bootstrap_where_that_is_wider() -> None:
    # No spread at all between draws, yet rows alone leave 0.06 either way at 2 draws: 0.06 x sqrt(2 / n) < 0.03 at 9.
    interval = s.Interval(0.03, -0.03, 0.09, 2, resampled=0.06)
    assert s.count_further_draws([0.03, 0.03], interval, region=0.01, level=0.05) == 7


def test_a_tie_needs_draws_until_the_interval_fits_the_region() -> None:
    # Two one-sided tests ask for 1.645 / 1.96 of it: 0.0168 x sqrt(2 / n) <= 0.01 from 6 draws.
    interval = s.Interval(0.0, -0.02, 0.02, 2, resampled=0.02)
    assert s.count_further_draws([0.0, 0.0], interval, region=0.01, level=0.05) == 4


def test_what_is_settled_needs_no_draws_and_what_never_settles_says_so() -> None:
    assert (
        s.count_further_draws([0.2, 0.2], s.Interval(0.2, 0.15, 0.25, 2, resampled=0.05), region=0.01, level=0.05) == 0
    )
    # The mean stands on the region's edge: no number of draws puts the interval on one side of it.
    assert (
        s.count_further_draws([0.0, 0.02], s.Interval(0.01, -0.1, 0.12, 2, resampled=0.01), region=0.01, level=0.05)
        is None
    )
    assert s.count_further_draws([0.2], s.Interval(0.2, 0.1, 0.3, 1), region=0.01, level=0.05) is None


def test_wins_are_counted_by_draw_and_ties_by_half() -> None:
    assert s.share_wins([0.1, 0.2, -0.1, 0.0]) == pytest.approx(2.5 / 4)


def test_spread_over_draws_is_freed_of_what_fit_seeds_add() -> None:
    # Cell means 2 and 6: variance 8. Within: (1 + 1 + 1 + 1) / 2 = 2, of which a mean of two seeds keeps 1.
    spread = s.split_spread({(0, ""): [1.0, 3.0], (1, ""): [5.0, 7.0]})
    assert spread == s.Spread(pytest.approx(7**0.5), pytest.approx(2**0.5), None)


def test_spread_over_patterns_is_freed_of_what_is_particular_to_a_draw() -> None:
    # Rows are draws, columns patterns: [[0, 4], [2, 10]]. Grand mean 4; draw means 2, 6; pattern means 1, 7.
    # Residuals +-1, so the unexplained variance is 4 with one degree of freedom; draws: 8 - 4/2, patterns: 18 - 4/2.
    spread = s.split_spread({(0, "a"): [0.0], (0, "b"): [4.0], (1, "a"): [2.0], (1, "b"): [10.0]})
    assert spread == s.Spread(pytest.approx(6**0.5), None, pytest.approx(4.0))


def test_spread_of_one_value_is_unknown_and_never_negative() -> None:
    assert s.split_spread({(0, ""): [0.5]}) == s.Spread(None, None, None)
    # The two draws' means are equal while seeds differ: the component is cut at 0.
    assert s.split_spread({(0, ""): [1.0, 3.0], (1, ""): [3.0, 1.0]}).draws == 0.0


def test_the_mean_of_many_draws_is_bounded_as_resampling_bounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows = [(rng.random(50) < rng.normal(0.6, 0.1)).astype(np.float64) for _ in range(s.MOST_RESAMPLED + 1)]
    worked_out = bound(rows, 2000, np.random.default_rng(0))
    monkeypatch.setattr(s, "MOST_RESAMPLED", len(rows))
    resampled = bound(rows, 2000, np.random.default_rng(0))
    assert worked_out.resampled == pytest.approx(resampled.resampled, rel=0.06)
    assert [worked_out.low, worked_out.high] == pytest.approx([resampled.low, resampled.high], abs=0.002)
