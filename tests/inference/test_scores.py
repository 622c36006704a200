"""Scores of answers and what each row adds to them: by hand, and by resampling rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fewtune.errors import RecordError
from fewtune.inference.answers import DrawAnswers
from fewtune.inference.scores import DrawScore, combine_scores, score_answers, score_methods, score_with_effects
from fewtune.inference.unseen import RowsTested
from fewtune.metrics.counts import SCORES, FloatArray, IntArray, count_answers
from made_up_scores import make_answers

METRICS = ("accuracy", "mcc", "macro_f1")


def make_rows(rng: np.random.Generator, labels: int, rows: int, seeds: int = 2) -> tuple[IntArray, IntArray]:
    """Gold labels and answers of several fit seeds, two in three of them right."""
    gold = rng.integers(labels, size=rows)
    return gold, np.where(rng.random((seeds, rows)) < 2 / 3, gold, rng.integers(labels, size=(seeds, rows)))


def test_of_an_accuracy_a_right_row_adds_what_the_mean_lacks_over_the_rows() -> None:
    gold, predicted = np.array([0, 0, 1, 1]), np.array([[0, 0, 1, 0], [0, 1, 1, 0]])
    score, effects = score_with_effects(gold, predicted, 2, "accuracy")
    # Right in 2, 1, 2 and 0 of two fits: a mean of 5/8.
    assert score == pytest.approx(5 / 8)
    assert effects.tolist() == pytest.approx([3 / 32, -1 / 32, 3 / 32, -5 / 32])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("labels", [2, 4])
def test_a_score_is_the_mean_of_its_fit_seeds_and_effects_add_up_to_nothing(metric: str, labels: int) -> None:
    gold, predicted = make_rows(np.random.default_rng(labels), labels, 90, seeds=3)
    score, effects = score_with_effects(gold, predicted, labels, metric)
    each = [float(SCORES[metric](count_answers(gold, said, labels))) for said in predicted]
    assert score == pytest.approx(np.mean(each))
    assert effects.shape == (90,) and float(effects.sum()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_effects_have_the_variance_that_resampling_has(metric: str) -> None:
    """Of the difference of two methods that answer the same rows, as it is made of their effects."""
    rng, rows, labels = np.random.default_rng(3), 400, 3
    gold, answers = make_rows(rng, labels, rows)
    first, second = (score_with_effects(gold, said[None], labels, metric) for said in answers)
    drawn = rng.integers(rows, size=(4000, rows))

    def score_again(said: IntArray) -> FloatArray:
        # One cell for each gold label and answer of each time that rows are drawn anew.
        cells = np.arange(len(drawn))[:, None] * labels**2 + gold[drawn] * labels + said[drawn]
        counts = np.bincount(cells.ravel(), minlength=len(drawn) * labels**2)
        return np.asarray(SCORES[metric](counts.reshape(len(drawn), labels, labels)), dtype=np.float64)

    resampled = score_again(answers[0]) - score_again(answers[1])
    assert float(((first[1] - second[1]) ** 2).sum()) == pytest.approx(float(resampled.var()), rel=0.08)


def test_a_score_that_cannot_move_has_rows_without_effect() -> None:
    gold = np.array([0, 1, 0, 1])
    score, effects = score_with_effects(gold, np.zeros((1, 4), dtype=np.int64), 2, "mcc")
    assert (score, effects.tolist()) == (0.0, [0.0, 0.0, 0.0, 0.0])


def test_labels_that_never_occur_change_nothing() -> None:
    gold, predicted = make_rows(np.random.default_rng(0), labels=2, rows=60)
    few, many = (score_with_effects(gold, predicted, labels, "macro_f1") for labels in (2, 150))
    assert few[0] == pytest.approx(many[0])
    np.testing.assert_allclose(few[1], many[1], atol=1e-12)


def test_many_labels_are_worked_out_part_by_part_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    gold, predicted = make_rows(np.random.default_rng(5), labels=20, rows=200)
    whole = score_with_effects(gold, predicted, 20, "macro_f1")
    monkeypatch.setattr("fewtune.inference.scores.LARGEST_COUNTS", 6 * 20 * 7)
    parts = score_with_effects(gold, predicted, 20, "macro_f1")
    assert parts[0] == whole[0]
    np.testing.assert_array_equal(parts[1], whole[1])


def test_test_sets_weigh_as_told() -> None:
    """.75 of what rows in domain do and .25 of what those of another set do, each row with its own effect."""
    inside = DrawAnswers(np.zeros(4, dtype=np.int64), np.array([[0, 0, 0, 1]]), 2, np.arange(4), 0.1)
    outside = DrawAnswers(np.zeros(2, dtype=np.int64), np.array([[0, 1]]), 2, np.arange(4, 6), 0.3)
    draws = {"a": {(0, ""): {"in_domain": inside, "yelp": outside}}}
    found = score_methods(draws, "accuracy", {"in_domain": 0.75, "yelp": 0.25})["a"][0, ""]
    assert found.score == pytest.approx(0.75 * 0.75 + 0.25 * 0.5)
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.effects.tolist() == pytest.approx([0.75 / 16] * 3 + [-0.75 * 3 / 16, 0.25 / 4, -0.25 / 4])
    assert found.shared_support == 0.3
    weights = [tested.weights.tolist() for tested in found.tested]
    assert weights == [pytest.approx([0.75 / 4] * 2), pytest.approx([0.25 / 2] * 2)]
    alone = score_methods(draws, "accuracy", {"in_domain": 1.0})["a"][0, ""]
    assert (alone.score, alone.rows.tolist(), len(alone.tested)) == (0.75, [0, 1, 2, 3], 1)


def test_a_score_less_another_has_their_effects_and_weights_of_one_sign() -> None:
    tested = RowsTested(np.arange(2), np.zeros(2), np.zeros((1, 2)), np.array([0.5, 0.5]), "accuracy")
    inside, outside = (
        DrawScore(score, np.array(rows), np.array([0.1, -0.1]), 0.0, (tested,))
        for score, rows in ((0.9, [0, 1]), (0.7, [2, 3]))
    )
    gap = combine_scores([(1.0, inside), (-1.0, outside)])
    assert gap.score == pytest.approx(0.2) and gap.effects.tolist() == pytest.approx([0.1, -0.1, -0.1, 0.1])
    assert [each.weights.tolist() for each in gap.tested] == [[0.5, 0.5], [0.5, 0.5]]


def test_small_codes_of_labels_do_not_overflow() -> None:
    """Answers are kept in as few bytes as their labels need."""
    gold, predicted = make_rows(np.random.default_rng(4), labels=200, rows=300)
    wide = DrawAnswers(gold, predicted, 200, np.arange(300))
    small = replace(wide, gold=gold.astype(np.uint8), predicted=predicted.astype(np.uint8))
    for metric in METRICS:
        np.testing.assert_array_equal(score_answers(small, metric).effects, score_answers(wide, metric).effects)


def test_a_metric_that_answers_do_not_give_is_refused_with_those_that_they_do() -> None:
    with pytest.raises(RecordError, match="unknown primary metric"):
        score_methods({"a": make_answers([0.9, 0.8])}, "ece", {"in_domain": 1.0})
