"""Statistics against answers worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fewtune.analysis import statistics as s


def make_pair(rng: np.random.Generator, labels: int, rows: int) -> s.PairedRows:
    gold, first, second = (rng.integers(labels, size=shape) for shape in (rows, (2, rows), (3, rows)))
    return s.PairedRows(gold, first, second)


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


def test_holm_steps_down_and_keeps_the_order_given() -> None:
    assert s.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert s.holm([0.6, 0.7]).tolist() == pytest.approx([1.0, 1.0])
    assert s.holm([]).tolist() == []


def test_bootstrap_brackets_the_known_difference() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=500) for _ in range(5)]
    interval = s.bootstrap_difference(rows, 2000, rng)
    assert interval.low < interval.point < interval.high
    assert interval.low < 0.2 < interval.high
    assert interval.point == pytest.approx(np.mean([row.mean() for row in rows]))
    assert interval.draws == 5


def test_one_draw_bounds_rows_only_as_a_binomial_does() -> None:
    rows = np.repeat([0.0, 1.0], 200)
    interval = s.bootstrap_difference([rows], 20_000, np.random.default_rng(0))
    assert interval.draws == 1
    half = 1.96 * np.sqrt(0.25 / 400)
    assert interval.low == pytest.approx(0.5 - half, abs=0.004)
    assert interval.high == pytest.approx(0.5 + half, abs=0.004)


def test_draws_that_disagree_widen_the_interval() -> None:
    steady = [np.full(100, 0.1), np.full(100, 0.1)]
    torn = [np.full(100, -0.1), np.full(100, 0.3)]
    narrow = s.bootstrap_difference(steady, 500, np.random.default_rng(0))
    wide = s.bootstrap_difference(torn, 500, np.random.default_rng(0))
    assert (narrow.low, narrow.high) == pytest.approx((0.1, 0.1))
    # Two draws 0.4 apart: standard error 0.2, and Student's t with one degree of freedom is 12.7062.
    assert (wide.low, wide.high) == pytest.approx((0.1 - 12.7062 * 0.2, 0.1 + 12.7062 * 0.2), abs=1e-4)


def test_one_draw_has_no_interval_over_draws() -> None:
    assert s.bound_by_draws([0.3]) is None
    # Mean 2, standard deviation 1, standard error 1/sqrt(3), t with two degrees of freedom 4.3027.
    assert s.bound_by_draws([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_equal_seeds_give_equal_intervals() -> None:
    rows = [np.random.default_rng(1).normal(size=50) for _ in range(3)]
    first, second = (s.bootstrap_difference(rows, 200, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_scores_match_hand_computed_counts() -> None:
    counts = np.array([[[6, 2], [1, 3]], [[8, 0], [4, 0]]])
    assert s.score_accuracy(counts).tolist() == pytest.approx([9 / 12, 8 / 12])
    assert s.score_matthews(counts).tolist() == pytest.approx([(6 * 3 - 2 * 1) / np.sqrt(8 * 4 * 7 * 5), 0.0])
    assert s.score_macro_f1(counts).tolist() == pytest.approx([(12 / 15 + 6 / 9) / 2, (16 / 20) / 2])


def test_matthews_agrees_with_scikit_learn_beyond_two_labels() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(3, size=200), rng.integers(3, size=200)
    counts = s.count_answers(gold, predicted, 3)
    assert float(s.score_matthews(counts)) == pytest.approx(metrics.matthews_corrcoef(gold, predicted))
    expected = metrics.f1_score(gold, predicted, average="macro")
    assert float(s.score_macro_f1(counts)) == pytest.approx(expected)


def test_score_bootstrap_with_accuracy_is_the_row_bootstrap() -> None:
    rng = np.random.default_rng(0)
    pairs = [make_pair(rng, labels=2, rows=300) for _ in range(4)]
    rows = [(p.first == p.gold).mean(0) - (p.second == p.gold).mean(0) for p in pairs]
    by_score = s.bootstrap_score_difference(pairs, 2, s.score_accuracy, 20_000, np.random.default_rng(1))
    by_rows = s.bootstrap_difference(rows, 20_000, np.random.default_rng(2))
    assert by_score.point == pytest.approx(by_rows.point)
    assert by_score.low == pytest.approx(by_rows.low, abs=0.004)
    assert by_score.high == pytest.approx(by_rows.high, abs=0.004)


def test_two_thousand_resamples_of_five_draws_take_under_a_second() -> None:
    rng = np.random.default_rng(0)
    pairs = [make_pair(rng, labels=3, rows=500) for _ in range(5)]
    started = time.process_time()
    s.bootstrap_score_difference(pairs, 3, s.score_matthews, 2000, rng)
    assert time.process_time() - started < 1.0
