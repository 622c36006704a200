"""Metrics against answers worked out by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewtune.errors import TrialFailure
from fewtune.metrics.probabilities import FIGURES
from fewtune.metrics.table import METRICS
from fewtune.tasks import base
from fewtune.tasks.base import Example
from fewtune.tasks.scores import baselines, breakdowns, score_test_set


def make_set(gold: list[int], labels: int = 2, facets: list[str] | None = None) -> base.TestSet:
    rows = tuple(
        Example(str(index), {"text": "t"}, label, {"group": facets[index]} if facets else {})
        for index, label in enumerate(gold)
    )
    return base.TestSet("in_domain", rows, tuple("abc"[:labels]), tuple(range(labels)))


def logs(rows: list[list[float]]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows))


def test_metrics_equal_hand_computed_answers() -> None:
    # gold 1 1 1 0 0, predicted 1 1 0 0 1: TP 2, FN 1, TN 1, FP 1
    scores = logs([[0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1], [0.45, 0.55]])
    predicted, metrics = score_test_set(make_set([1, 1, 1, 0, 0]), scores)
    assert predicted == [1, 1, 0, 0, 1]
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["mcc"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    assert metrics["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # bins by confidence: .8 right, .7 right, .6 wrong, .9 right, .55 wrong, each alone in its bin
    assert metrics["ece"] == pytest.approx((0.2 + 0.3 + 0.6 + 0.1 + 0.55) / 5)
    # pairs of a gold 1 above a gold 0: .8 and .7 both times, .4 once
    assert metrics["auroc"] == pytest.approx(5 / 6)
    given = [0.8, 0.7, 0.4, 0.9, 0.45]
    assert metrics["log_loss"] == pytest.approx(-sum(map(math.log, given)) / 5)
    assert metrics["brier"] == pytest.approx(sum(2 * (1 - p) ** 2 for p in given) / 5)
    # the means are .49 and .51: .55 over .51 is still above .45 over .49, and .4 over .51 below .6 over .49
    assert metrics["recentred_accuracy"] == pytest.approx(3 / 5)
    assert set(metrics) == {*METRICS, *FIGURES}


def test_rows_in_one_bin_are_averaged_before_they_are_compared() -> None:
    _, metrics = score_test_set(make_set([1, 0]), logs([[0.25, 0.75], [0.25, 0.75]]))
    assert metrics["ece"] == pytest.approx(0.25)


def test_a_constant_prediction_has_no_correlation_and_nothing_is_nan() -> None:
    _, metrics = score_test_set(make_set([1, 0, 1]), logs([[0.0, 1.0]] * 3))
    assert metrics["mcc"] == 0.0
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["macro_f1"] == pytest.approx((0 + 0.8) / 2)
    assert all(math.isfinite(value) for value in metrics.values())
    _, metrics = score_test_set(make_set([1, 1]), logs([[0.0, 1.0]] * 2))
    certain = {"log_loss": 0.0, "brier": 0.0, "recentred_accuracy": 1.0, "calibrated_ece": 0.0}
    assert metrics == {"accuracy": 1.0, "mcc": 0.0, "macro_f1": 1.0, "ece": 0.0, **certain}, "nothing to rank"


def test_log_probabilities_need_not_be_normalised() -> None:
    scores = logs([[0.2, 0.8], [0.6, 0.4]])
    predicted, metrics = score_test_set(make_set([1, 0]), scores)
    shifted_predicted, shifted = score_test_set(make_set([1, 0]), scores - 300.0)
    assert shifted_predicted == predicted
    assert shifted == pytest.approx(metrics)


def test_three_way_predictions_count_as_hans_labels() -> None:
    rows = tuple(Example(str(index), {"text": "t"}, label) for index, label in enumerate([0, 1, 1]))
    hans = base.TestSet("hans", rows, ("entailment", "non-entailment"), (0, 1, 1))
    predicted, metrics = score_test_set(hans, logs([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.35, 0.25]]))
    assert predicted == [0, 1, 0]  # the likeliest of three, even where neutral and contradiction together are more
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    # confidences of the predicted label, merged: .5 right, .8 right, .4 wrong
    assert metrics["ece"] == pytest.approx((0.5 + 0.2 + 0.4) / 3)


def test_a_row_without_finite_scores_is_a_diverged_trial() -> None:
    with pytest.raises(TrialFailure, match="row 2 has no finite score") as caught:
        score_test_set(make_set([1, 0]), [[-1.0, -2.0], [math.nan, -1.0]])
    assert caught.value.kind == "diverged"


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted"):
        score_test_set(make_set([1, 0]), [[-1.0, -2.0, -3.0]] * 2)


def test_breakdowns_are_by_facet_value_and_gold_label() -> None:
    test_set = make_set([0, 0, 1, 1], facets=["x", "y", "x", "x"])
    found = {(b.value, b.gold): (b.rows, b.accuracy) for b in breakdowns(test_set, [0, 1, 1, 0])}
    assert found == {("x", "a"): (1, 1.0), ("x", "b"): (2, 0.5), ("y", "a"): (1, 0.0)}


def test_facets_of_very_many_values_are_left_out() -> None:
    assert breakdowns(make_set([0] * 41, facets=[str(i) for i in range(41)]), [0] * 41) == []


def test_baselines_are_chance_majority_rows_and_labels_that_occur() -> None:
    found = baselines(make_set([0, 1, 1, 1], labels=3))
    assert found == {"chance": 1 / 3, "majority": 0.75, "rows": 4.0, "labels": 2.0}


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_metrics_of_answers_equal_scikit_learns(labels: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    rng = np.random.default_rng(labels)
    for rows in (1, 5, 60):
        gold, predicted = rng.integers(labels, size=(2, rows))
        even = np.full((rows, labels), 1 / labels)
        found = {name: METRICS[name].compute(gold, predicted, even) for name in ("accuracy", "mcc", "macro_f1")}
        assert found["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
        assert found["mcc"] == pytest.approx(matthews_corrcoef(gold, predicted))
        assert found["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0.0))
