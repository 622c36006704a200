"""A stack's weights are the likeliest, held towards equal ones, and judged on rows that they were not fitted on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from fewtune.fitting.stack_weights import fit_weights, judge_stack
from fewtune.predictors.stack import pool


def make_members(rows: int, labels: int, signals: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (members, rows, labels), of noise and as much more for the gold label as each is said to
    know, and gold labels (rows,).
    """
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, labels, rows)
    scores = rng.normal(size=(len(signals), rows, labels))
    scores[:, np.arange(rows), gold] += np.array(signals)[:, None]
    return log_softmax(scores, axis=2), gold


def measure_loss(scores: np.ndarray, gold: np.ndarray) -> float:
    return float(-scores[np.arange(len(gold)), gold].mean())


def test_weights_are_those_of_a_logistic_regression_of_the_members_log_odds() -> None:
    scores, gold = make_members(400, 2, [0.8, 1.5, 1.0])
    odds = (scores[:, :, 1] - scores[:, :, 0]).T
    theirs = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(odds, gold).coef_[0]
    assert theirs.min() > 0
    np.testing.assert_allclose(fit_weights(scores, gold, 1e-9), theirs, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.01, 3.0, 100.0])
def test_weights_are_the_best_of_a_fine_grid(penalty: float) -> None:
    scores, gold = make_members(40, 3, [1.5, -0.5], seed=4)  # the second one knows less than nothing
    grid = np.linspace(0, 3, 121)

    def cost(weights: tuple[float, float]) -> float:
        loss = len(gold) * measure_loss(pool(list(scores), weights), gold)
        return loss + penalty / 2 * sum((weight - 0.5) ** 2 for weight in weights)

    best = min(itertools.product(grid, grid), key=cost)
    np.testing.assert_allclose(fit_weights(scores, gold, penalty), best, atol=grid[1])


def test_a_member_that_knows_nothing_hardly_counts_and_one_that_is_sure_and_wrong_counts_nothing() -> None:
    scores, gold = make_members(600, 5, [2.0, 0.0, -2.0])
    good, random, wrong = fit_weights(scores, gold)
    assert good == pytest.approx(2.0, abs=0.3)  # what noise of variance 1 makes of a signal of 2
    assert random < 0.1 and wrong == 0.0
    folds = np.arange(600) % 5
    judged, alone = judge_stack(scores, gold, folds), judge_stack(scores[:1], gold, folds)
    assert measure_loss(judged, gold) == pytest.approx(measure_loss(alone, gold), abs=0.01)


def test_members_that_know_different_things_are_better_together() -> None:
    scores, gold = make_members(600, 5, [1.0, 1.2, 0.9])
    judged = judge_stack(scores, gold, np.arange(600) % 3)
    assert measure_loss(judged, gold) < min(measure_loss(each, gold) for each in scores) - 0.1
    np.testing.assert_allclose(np.exp(judged).sum(axis=1), 1.0)


def test_few_rows_leave_weights_near_equal_and_none_leave_them_equal() -> None:
    scores, gold = make_members(600, 3, [3.0, 0.0])
    none, few, many = (fit_weights(scores[:, :rows], gold[:rows]) for rows in (0, 3, 600))
    assert none.tolist() == [0.5, 0.5]
    assert np.ptp(few) < np.ptp(many) / 2


def test_no_rows_gold_label_has_a_part_in_its_own_weights() -> None:
    scores, gold = make_members(60, 3, [1.0, 0.5])
    folds = np.arange(60) % 3
    turned = np.where(folds == 1, (gold + 1) % 3, gold)
    before, after = judge_stack(scores, gold, folds), judge_stack(scores, turned, folds)
    np.testing.assert_array_equal(before[folds == 1], after[folds == 1])
    assert (before[folds != 1] != after[folds != 1]).any(axis=1).all()
    apart = pool(list(scores[:, folds == 1]), fit_weights(scores[:, folds != 1], gold[folds != 1]).tolist())
    np.testing.assert_array_equal(before[folds == 1], apart)


def test_labels_said_to_be_impossible_and_labels_without_rows_leave_all_finite() -> None:
    scores, gold = make_members(30, 4, [1.0, 1.0])
    gold = gold % 3  # none of the last label
    scores[0, :, 3] = -np.inf
    scores[1, 0, gold[0]] = -np.inf  # and one row's own label, by one member
    weights = fit_weights(scores, gold)
    judged = judge_stack(scores, gold, np.arange(30) % 2)
    assert np.isfinite(weights).all() and np.isfinite(judged).all()


def test_the_same_rows_give_the_same_weights_whatever_their_order() -> None:
    scores, gold = make_members(50, 3, [1.0, 0.2, 0.6])
    order = np.random.default_rng(1).permutation(50)
    first = fit_weights(scores, gold)
    assert first.tolist() == fit_weights(scores, gold).tolist()
    np.testing.assert_allclose(fit_weights(scores[:, order], gold[order]), first, atol=1e-6)
