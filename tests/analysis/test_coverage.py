"""Intervals and answers on made-up methods whose true difference is known: simulated anew, and as committed."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage.finite import File, measure_finite
from benchmarks.coverage.pairs import measure_floors, measure_leaders, measure_pairs
from benchmarks.coverage.studies import KINDS, measure_decisions
from benchmarks.page import RESULTS
from fewtune.analysis.comparison import Comparison, correct_leader, correct_selected
from fewtune.analysis.statistics import Borrowed, Interval, borrow_variance, find_level, reach_of

COMMITTED = json.loads((RESULTS / "coverage.json").read_text(encoding="utf-8"))
STEADY = [cell for cell in COMMITTED["pairs"] if not cell["collapses"] and cell["steady"] is None]
SHARED = [cell for cell in COMMITTED["pairs"] if cell["steady"] is not None]
# Draws that differ by less than their test rows do are covered by more than was asked for.
SPREAD = [cell for cell in STEADY if cell["deviation"] >= 0.05]


@pytest.mark.parametrize("draws", [3, 5, 10])
def test_intervals_hold_the_truth_in_about_95_of_100(draws: int) -> None:
    found = measure_pairs(draws, deviation=0.08, collapses=False, steady=None, repetitions=500, seed=draws)
    # Three standard errors of 500 repetitions about the 93 to 97 % that are promised.
    error = 3 * np.sqrt(0.05 * 0.95 / 500)
    assert 0.93 - error <= found["covered"] <= 0.97 + error
    assert found["better"] <= 0.025 + error and found["worse"] <= 0.025 + error


def test_the_committed_simulation_covers_93_to_97_where_draws_differ_and_more_where_they_do_not() -> None:
    assert all(0.93 <= cell["covered"] <= 0.97 for cell in SPREAD)
    assert all(cell["covered"] >= 0.95 for cell in STEADY if cell not in SPREAD)
    assert {cell["draws"] for cell in SPREAD} == {3, 5, 10}


def test_intervals_hold_the_truth_where_draws_share_their_test_rows() -> None:
    found = measure_pairs(5, deviation=0.02, collapses=False, steady=0.9, repetitions=150)
    assert found["covered"] >= 0.93 - 3 * np.sqrt(0.05 * 0.95 / 150)
    error = 2 * np.sqrt(0.025 * 0.975 / COMMITTED["repetitions"])
    assert all(cell["covered"] >= 0.94 for cell in SHARED)
    assert all(max(cell["better"], cell["worse"]) <= 0.025 + error for cell in SHARED)


def test_a_false_better_stays_under_its_level() -> None:
    # Two standard errors of the repetitions above one side of 5 %, and above 5 % for a whole group.
    assert all(cell["better"] <= 0.025 + 2 * np.sqrt(0.025 / COMMITTED["repetitions"]) for cell in STEADY)
    assert all(cell["corrected"] <= 0.05 + 2 * np.sqrt(0.05 / COMMITTED["groups"]) for cell in COMMITTED["leaders"])
    # Without the correction the leader of many equal methods beats another of them far too often.
    assert max(cell["plain"] for cell in COMMITTED["leaders"]) > 0.2


def test_leaders_of_equal_methods_are_seldom_called_better() -> None:
    found = measure_leaders(methods=6, draws=5, deviations=(0.03, 0.03), groups=60)
    assert found["corrected"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert found["plain"] > found["corrected"], "without the correction some are"
    assert found["told"] >= 0.8


def test_leaders_are_told_from_the_commonest_label_where_they_are_above_it_alone() -> None:
    found = measure_floors(methods=6, draws=5, deviations=(0.03, 0.03), groups=60)
    assert found["corrected"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert found["told"] >= 0.9
    error = 2 * np.sqrt(0.05 / COMMITTED["groups"])
    assert all(cell["corrected"] <= 0.05 + error for cell in COMMITTED["floors"])
    assert all(cell["told"] >= 0.9 for cell in COMMITTED["floors"] if cell["draws"] >= 5)


def test_any_bound_of_a_study_is_wrong_as_seldom_as_it_says() -> None:
    error = 2 * np.sqrt(0.05 * 0.95 / COMMITTED["studies"])
    assert len(COMMITTED["decisions"]) == len(KINDS) * 3
    assert all(cell["wrong"] <= 0.05 + error for cell in COMMITTED["decisions"])
    # docs/statistics.md names where "better" exceeds its level: collapses.
    held = [cell for cell in COMMITTED["decisions"] if "collapses" not in cell["kind"]]
    assert len(held) == 21 and all(cell["better"] <= 0.05 + error for cell in held)
    found = measure_decisions(KINDS[0], draws=10, studies=10)
    assert found["wrong"] <= 0.2 and found["decided"] >= 0.5


def make_comparison(*by_draw: float) -> Comparison:
    mean = float(np.mean(by_draw))
    interval = Interval(mean, 0.01, 2 * mean - 0.01, len(by_draw))
    return Comparison("better", mean, interval.low, interval.high, len(by_draw), None, "", by_draw, interval)


def test_the_level_is_where_students_interval_touches_zero() -> None:
    # Mean 2, standard error 1 / sqrt(3): t is 3.4641, and with two degrees of freedom p = 1 - t / sqrt(2 + t^2).
    interval = Interval(2.0, 1.0, 3.0, 3)
    t = 2 * 3**0.5
    assert find_level([1.0, 2.0, 3.0], interval) == pytest.approx(1 - t / (2 + t**2) ** 0.5)
    # The bootstrap alone: half of its width is 1.96 standard errors, so 2 is 1.96 x 2 of them.
    assert find_level([2.0, 2.0], Interval(2.0, 1.0, 3.0, 2, resampled=1.0)) == pytest.approx(8.86e-5, rel=0.01)
    assert find_level([2.0], interval) is None


def test_variances_of_a_group_borrow_from_one_another() -> None:
    """Smyth's moments by hand: alike to the last digit, five variances of 3 draws are worth the most that is lent."""
    alike = borrow_variance([[m - 0.01, m, m + 0.01] for m in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert alike.freedom == 4.0
    # digamma(1) = -0.57722, digamma(2) = 0.42278: log variance = log 0.0001 + 0.57722 + 0.42278 - log 2.
    assert alike.variance == pytest.approx(1e-4 * np.exp(0.57722 + 0.42278 - np.log(2)), rel=1e-4)
    unlike = borrow_variance([[m - s, m, m + s] for m, s in ((0, 1e-4), (0, 1e-3), (0, 0.01), (0, 0.1), (0, 1.0))])
    assert 0 < unlike.freedom < 0.5
    assert borrow_variance([[0.0, 0.1, 0.2]] * 4).freedom == 0
    assert borrow_variance([[0.1]] * 9).freedom == 0


def test_what_is_borrowed_counts_as_draws_do() -> None:
    # Mean 2, variance 1: with 4 degrees at variance 1 besides, Student's t is the same and has 6 degrees in all.
    interval, points = Interval(2.0, 1.0, 3.0, 3), [1.0, 2.0, 3.0]
    borrowed = Borrowed(1.0, 4.0)
    assert find_level(points, interval, borrowed) == pytest.approx(2 * stats.t.sf(2 * 3**0.5, 6))
    assert reach_of(points, interval, 0.05, borrowed=borrowed) == pytest.approx(stats.t.isf(0.025, 6) / 3**0.5)


def test_few_draws_borrow_no_more_than_twice_what_they_have_themselves() -> None:
    """A method that failed in two of five draws has two degrees of freedom, and four are lent to it, not eight."""
    rng = np.random.default_rng(0)
    interval, points = Interval(2.0, 1.0, 3.0, 3), [1.0, 2.0, 3.0]
    lent = borrow_variance([list(rng.normal(size=5)) for _ in range(5)])
    assert lent.freedom == 8.0
    expected = stats.t.isf(0.025, 6) * ((2 * 1.0 + 4 * lent.variance) / 6 / 3) ** 0.5
    assert reach_of(points, interval, 0.05, borrowed=lent) == pytest.approx(expected)


def test_a_clear_leader_of_many_is_told_from_five_draws() -> None:
    rng = np.random.default_rng(0)
    others = {str(i): make_comparison(*(0.1 + 0.03 * rng.normal(size=5))) for i in range(9)}
    found = correct_leader(others)
    assert {c.answer for c in found.values()} == {"better"}
    alone = [find_level(other.by_draw, Interval(0.1, 0, 0, 5)) or 1.0 for other in others.values()]
    assert max(alone) > 0.05 / 45, "without what is borrowed they were not all told"


def test_comparisons_are_corrected_step_by_step() -> None:
    # Standard errors 0.01 / sqrt(3). t of 52, 10.4 and 5.2 have p of 0.0004, 0.0091 and 0.0351.
    clear, near, nearer = (make_comparison(m - 0.01, m, m + 0.01) for m in (0.3, 0.06, 0.03))
    found = correct_leader({"nearer": nearer, "near": near, "clear": clear})
    # Levels: 5 % over 6 pairs, then 3, then 1.
    assert {name: c.answer for name, c in found.items()} == {"nearer": "better", "near": "better", "clear": "better"}
    assert list(found) == ["nearer", "near", "clear"]
    # Without the clear one to go first, `nearer` has its two equals to share 5 % over 3 pairs with.
    twice = correct_leader({"nearer": nearer, "other": nearer})
    assert {c.answer for c in twice.values()} == {"cannot tell"}
    assert twice["nearer"].reason == "0 is out, but not at the 1.7 % that so many comparisons ask for"


def test_a_leader_of_many_has_to_clear_the_commonest_label_by_more() -> None:
    comparison = make_comparison(0.02, 0.03, 0.04)
    assert correct_selected(comparison, 1).answer == "better"
    assert correct_selected(comparison, 10).answer == "cannot tell"
    # Its t is 5.2: with four degrees of freedom borrowed at the same variance, p falls from .035 to .002.
    alike = [make_comparison(m - 0.01, m, m + 0.01) for m in (0.1, 0.2, 0.3, 0.4)]
    assert correct_selected(comparison, 10, alike).answer == "better"
    assert correct_selected(comparison, 10, alike[:3]).answer == "cannot tell", "too few to borrow from"


def test_bounds_hold_for_rows_like_a_files_where_draws_are_splits_of_it() -> None:
    cells = COMMITTED["finite"]
    assert {(cell["file_rows"], cell["draws"]) for cell in cells} == set(product((40, 64, 100, 400), (5, 20, None)))
    assert {cell["tests"] for cell in cells} == {0, 200}, "rows held out, and rows of another file that all draws share"
    error = 2 * np.sqrt(0.05 * 0.95 / COMMITTED["files"])
    assert all(max(cell["wrong"], cell["better"]) <= 0.05 + error for cell in cells)


def test_no_look_of_a_race_or_by_hand_is_wrong_more_often_than_all_may_be() -> None:
    error = 2 * np.sqrt(0.05 * 0.95 / COMMITTED["looked_at"])
    assert all(cell["wrong"] <= 0.05 + error for cell in COMMITTED["looks"])
    assert all(cell["better"] <= 0.05 + error for cell in COMMITTED["looks"] if "collapses" not in cell["kind"])


def test_few_splits_of_a_small_file_decide_little_and_no_bound_is_wrong() -> None:
    # Ten splits of forty rows decide as little now, and no bound is wrong.
    found = measure_finite(File(40, 16, 0.5), draws=10, files=20)
    assert found["wrong"] <= 0.05 and 0.03 <= found["below"] <= 0.07
    beside = measure_finite(File(64, 32, 0.5, 200), draws=8, files=20)
    assert beside["wrong"] <= 0.05 and beside["decided"] <= 0.1
