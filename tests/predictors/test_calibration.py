"""A temperature makes probabilities mean what they say; a threshold holds the risk it was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

import fewtune
from fewtune.errors import DataError
from fewtune.fitting.model import calibrate
from fewtune.metrics.reliability import bin_answers, describe_calibration
from fewtune.predictors.abstention import choose_abstention, count_rows_needed
from fewtune.predictors.temperature import fit_temperature


def make_scores(rows: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (rows, 3) of which the gold labels were drawn, times a temperature."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (rows, 3))
    gold = np.array([rng.choice(3, p=p) for p in softmax(true, axis=1)])
    return log_softmax(true * temperature, axis=1), gold


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_scores_were_made_with_is_found(temperature: float) -> None:
    scores, gold = make_scores(3000, temperature)
    assert fit_temperature(scores, gold) == pytest.approx(temperature, rel=0.12)


def test_the_temperature_is_the_one_that_another_optimiser_finds() -> None:
    scores, gold = make_scores(60, 2.5, seed=3)
    given, labels = torch.tensor(scores), torch.tensor(gold)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = torch.nn.functional.cross_entropy(given / log_temperature.exp(), labels, reduction="sum")
        total = total + log_temperature**2 / 2  # a standard normal prior of its logarithm
        total.backward()
        return total

    optimiser.step(loss)
    assert fit_temperature(scores, gold) == pytest.approx(float(log_temperature.detach().exp()), rel=1e-4)


def test_few_rows_all_answered_right_do_not_make_a_model_certain() -> None:
    gold = np.zeros(6, dtype=np.int64)
    scores = np.log(np.tile([0.7, 0.3], (6, 1)))
    assert 0.2 < fit_temperature(scores, gold) < 1.0


def test_calibration_lowers_the_loss_and_changes_no_answer() -> None:
    scores, gold = make_scores(600, 4.0)
    predictor = fewtune.fit(["a", "b", "c"], ["x", "y", "z"], "majority")
    calibrated, probabilities = calibrate(predictor, scores, gold)
    assert (probabilities.argmax(1) == scores.argmax(1)).all()
    told = calibrated.origin["out_of_fold"]
    assert told["after"]["log_loss"] < told["before"]["log_loss"] and told["after"]["ece"] < told["before"]["ece"]
    assert told["metrics"]["accuracy"][0] == pytest.approx((scores.argmax(1) == gold).mean())


def test_a_saved_models_temperature_and_threshold_come_back(tmp_path: Path) -> None:
    texts, labels = ["good one", "bad one", "good two", "bad two"], ["praise", "complaint"] * 2
    plain = fewtune.fit(texts, labels, "tfidf")
    gold = np.zeros(100, dtype=np.int64)
    abstention = choose_abstention(np.tile([0.9, 0.1], (100, 1)), gold, 0.05)
    replace(plain, temperature=0.5, abstention=abstention).save(tmp_path / "model")
    loaded = fewtune.load(tmp_path / "model")
    assert loaded.abstention == abstention
    before, after = plain.predict_probabilities(["good three"]), loaded.predict_probabilities(["good three"])
    np.testing.assert_allclose(after, before**2 / (before**2).sum(), atol=1e-12)
    assert loaded.answer(np.array([[0.95, 0.05], [0.2, 0.8]])) == ["complaint", None]
    assert plain.answer(np.array([[0.95, 0.05], [0.2, 0.8]])) == ["complaint", "praise"]


def test_a_threshold_by_hand() -> None:
    # Fifty-nine right answers bound a risk of .05 at 95 %: .95^59 = .0485. The sixtieth is wrong, and ends it.
    assert count_rows_needed(0.05) == 59
    sure = np.linspace(0.99, 0.6, 100)
    gold = np.zeros(100, dtype=np.int64)
    gold[59:] = 1
    found = choose_abstention(np.column_stack([sure, 1 - sure]), gold, 0.05)
    assert found.threshold == pytest.approx(sure[58]) and found.coverage == 0.59 and found.errors == 0
    assert (found.coverage_low, found.coverage_high) == pytest.approx((0.4871, 0.6874), abs=1e-4)  # Clopper-Pearson


def test_equal_probabilities_are_answered_together() -> None:
    sure = np.full(100, 0.9)
    gold = np.zeros(100, dtype=np.int64)
    gold[70:] = 1
    with pytest.raises(DataError, match="no threshold is known to hold a risk"):
        choose_abstention(np.column_stack([sure, 1 - sure]), gold, 0.05)


@pytest.mark.parametrize(("rows", "reason"), [(40, "40 rows were answered and 59 at least are needed"), (90, "wrong")])
def test_what_cannot_be_held_is_refused_with_its_reason(rows: int, reason: str) -> None:
    sure = np.linspace(0.99, 0.6, rows)
    gold = np.zeros(rows, dtype=np.int64)
    gold[:10] = 1
    with pytest.raises(DataError, match=reason):
        choose_abstention(np.column_stack([sure, 1 - sure]), gold, 0.05)


def test_of_answers_equally_sure_all_are_counted_where_no_threshold_holds() -> None:
    gold = np.array([0] * 100 + [1] * 20)
    with pytest.raises(DataError, match="of the 120 answers that it was surest of, 20 were wrong: too many"):
        choose_abstention(np.tile([1.0, 0.0], (120, 1)), gold, 0.05)


def test_the_risk_is_held_in_new_rows_as_often_as_is_said() -> None:
    held, tried = 0, 0
    # The risk itself, not what a sample of it shows: rows' own chances of being wrong are known here.
    sure = np.exp(make_scores(4000, 1.0, 1000)[0]).max(axis=1)
    for seed in range(200):
        scores, gold = make_scores(400, 1.0, seed)
        probabilities = np.exp(scores)
        try:
            found = choose_abstention(probabilities[:200], gold[:200], 0.2)
        except DataError:
            continue
        tried += 1
        held += bool((1 - sure[sure >= found.threshold]).mean() <= 0.2)
    assert tried > 100 and held >= 0.92 * tried


def test_bins_hold_each_answer_once() -> None:
    probabilities = np.array([[0.95, 0.05], [1.0, 0.0], [0.55, 0.45], [0.45, 0.55]])
    gold = np.array([0, 1, 0, 1])
    low, high = bin_answers(probabilities, gold)
    assert (low.rows, low.confidence, low.accuracy) == (2, pytest.approx(0.55), 1.0)
    assert (high.rows, high.confidence, high.accuracy) == (2, pytest.approx(0.975), 0.5)
    assert (high.low, high.high) == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson's interval of one in two
    assert describe_calibration(probabilities, gold)["ece"] == pytest.approx((2 * 0.45 + 2 * 0.475) / 4)
