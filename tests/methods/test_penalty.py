"""A regression's penalty is chosen by rows that are held out, inside the rows that it is fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import fewtune
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import penalty as penalties
from fewtune.methods.penalty import ENOUGH_ANSWERED, MOST_ROWS, Penalty, choose_penalty, compress, deal_folds
from fewtune.predictors.regression import LOWEST, Regression
from fewtune.predictors.temperature import normalise
from fewtune.tasks.base import Draw, Task
from reference_loop import make_plan


def choose(features: np.ndarray, labels: Sequence[int], usual: float = 1.0) -> Penalty:
    return choose_penalty("auto", usual, labels, lambda fitted, others: (features[fitted], features[others]))


def draw_rows(rng: np.random.Generator, labels: np.ndarray, width: int, apart: float) -> np.ndarray:
    """Rows of length one around a centre of each label's own, the further `apart` the easier."""
    centres = np.random.default_rng(7).normal(size=(labels.max() + 1, width))
    rows = apart * centres[labels] + rng.normal(size=(len(labels), width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_many_labels_that_features_tell_apart_get_a_weak_penalty() -> None:
    topics = np.arange(120) % 12
    assert choose(draw_rows(np.random.default_rng(0), topics, 40, 1.0), topics.tolist()).inverse > 1.0


def test_where_penalties_are_as_good_the_usual_one_stands_and_probabilities_are_softened() -> None:
    rng = np.random.default_rng(1)
    found = choose(rng.normal(size=(60, 40)), rng.integers(2, size=60).tolist())
    assert found.inverse == 1.0 and found.temperature > 2.0, "labels by chance"
    assert found.notes is not None
    losses = [tried.log_loss for tried in found.notes.tried]
    assert losses[penalties.POWERS.index(0)] > min(losses), "another one had the lowest loss, within its error"


def test_a_penalty_goes_by_the_scale_of_the_features() -> None:
    labels = np.arange(24) % 2
    features = draw_rows(np.random.default_rng(2), labels, 30, 0.5)
    small, large = choose(features, labels.tolist()).notes, choose(10 * features, labels.tolist(), usual=0.01).notes
    assert small is not None and large is not None
    for one, other in zip(small.tried[:4], large.tried[:4], strict=True):  # weaker ones end short of their optimum
        assert other.inverse_penalty == pytest.approx(one.inverse_penalty / 100)
        assert other.log_loss == pytest.approx(one.log_loss, rel=0.02)


def test_what_is_chosen_says_more_of_other_rows_than_the_usual_penalty() -> None:
    labels = np.arange(140) % 14
    features = draw_rows(np.random.default_rng(2), labels, 60, 0.5)
    others = draw_rows(np.random.default_rng(3), labels, 60, 0.5)
    found = choose(features, labels.tolist())
    chosen = Regression.fit(features, labels.tolist(), 14, found.inverse).soften(found.temperature)
    usual = Regression.fit(features, labels.tolist(), 14, 1.0)
    losses = [log_loss(labels, np.exp(each.log_probabilities(others))) for each in (chosen, usual)]
    assert losses[0] < 0.8 * losses[1]


def test_notes_hold_the_losses_of_a_plain_loop_over_the_same_folds() -> None:
    labels = np.arange(30) % 3
    features = draw_rows(np.random.default_rng(4), labels, 8, 0.4)
    notes = choose(features, labels.tolist()).notes
    assert notes is not None and (notes.rows, notes.folds) == (30, 5)
    rows, folds = deal_folds(labels)
    for tried in notes.tried:
        plain, gold = [], []
        for fold in range(5):
            kept, left = rows[folds != fold], rows[folds == fold]
            fitted = LogisticRegression(C=tried.inverse_penalty, max_iter=1000).fit(features[kept], labels[kept])
            scores = np.maximum(fitted.predict_log_proba(features[left]), LOWEST)
            plain.append(normalise(scores / tried.temperature))
            gold.append(labels[left])
        expected = log_loss(np.concatenate(gold), np.exp(np.concatenate(plain)))
        assert tried.log_loss == pytest.approx(expected, rel=1e-6)


def test_a_softer_regression_answers_alike_with_scores_over_the_temperature() -> None:
    labels = np.arange(30) % 3
    features = draw_rows(np.random.default_rng(5), labels, 8, 0.4)
    fitted = Regression.fit(features, labels.tolist(), 3, 1.0)
    softer = fitted.soften(2.0).log_probabilities(features)
    np.testing.assert_allclose(softer, normalise(fitted.log_probabilities(features) / 2.0), atol=1e-12)


@pytest.mark.parametrize(
    "counts",
    [[2, 2], [3, 1], [5, 1, 1], [4, 4, 2, 1], [40, 1], [2] * 77, [30, 2], [MOST_ROWS + 500, 1, 1], [5000, 3000, 2, 1]],
)
def test_folds_share_labels_out_and_each_fit_knows_all_that_it_is_asked(counts: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    rows, folds = deal_folds(labels)
    assert len(set(rows)) == len(rows) <= min(len(labels), MOST_ROWS + 2 * len(counts))
    assert set(labels[rows]) == set(labels), "no label is lost, however rare"
    sizes = np.bincount(folds[folds >= 0], minlength=1)
    assert sizes.max() - sizes.min() <= 1
    for fold in range(folds.max() + 1):
        asked, known = labels[rows[folds == fold]], labels[rows[folds != fold]]
        assert set(known) == set(labels)
        shares = np.bincount(asked, minlength=len(counts)) - np.bincount(labels[rows], minlength=len(counts)) / len(
            sizes
        )
        assert (np.abs(shares[np.array(counts) > 1]) < 1).all(), "each fold has each label's share, but for one row"
    only = [label for label, count in enumerate(counts) if count == 1]
    assert not np.isin(labels[rows[folds >= 0]], only).any(), "a label's only row is in every fit"


@pytest.mark.parametrize(
    "labels", [[0, 1], [0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 3, 3, 3], [0] * 9 + [1], list(range(40)) * 2]
)
def test_few_rows_and_labels_of_one_row_are_no_mistake(labels: list[int]) -> None:
    features = np.random.default_rng(0).normal(size=(len(labels), 5))
    found = choose(features, labels, usual=10.0)
    held_out = sum(labels.count(label) for label in set(labels) if labels.count(label) > 1)
    assert found.notes is not None and found.notes.rows == held_out
    if not held_out:
        assert (found.inverse, found.temperature, found.notes.tried) == (10.0, 1.0, [])
    scores = Regression.fit(features, labels, max(labels) + 1, found.inverse).soften(found.temperature)
    assert np.isfinite(scores.log_probabilities(features)).all()


def test_of_many_rows_some_are_fitted_once_and_enough_are_answered() -> None:
    asked: list[tuple[int, int]] = []
    labels = np.arange(20_000) % 4
    features = draw_rows(np.random.default_rng(6), labels, 4, 1.0)

    def make_features(fitted: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append((len(fitted), len(others)))
        return features[fitted], features[others]

    found = choose_penalty("auto", 1.0, labels.tolist(), make_features)
    [(fitted, answered)] = asked
    assert answered == pytest.approx(ENOUGH_ANSWERED, abs=2) and fitted + answered == pytest.approx(MOST_ROWS, abs=8)
    assert found.notes is not None and (found.notes.folds, found.notes.rows) == (1, answered)


def test_a_number_that_is_given_stands_as_it_is() -> None:
    def make_features(fitted: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError("nothing is to be chosen")

    assert choose_penalty(0.25, 1.0, [0, 1, 0, 1], make_features) == Penalty(0.25)


@pytest.mark.parametrize("sparse", [False, True])
def test_compressed_features_give_the_same_regression(sparse: bool) -> None:
    rng = np.random.default_rng(8)
    features, others = (rng.normal(size=(rows, 50)) * (rng.random((rows, 50)) < 0.3) for rows in (12, 7))
    labels = (np.arange(12) % 3).tolist()
    given = (csr_matrix(features), csr_matrix(others)) if sparse else (features, others)
    narrow, narrow_others = compress(*given)
    assert narrow.shape == (12, 12)
    ours = Regression.fit(narrow, labels, 3, 10.0).log_probabilities(narrow_others)
    np.testing.assert_allclose(ours, Regression.fit(features, labels, 3, 10.0).log_probabilities(others), atol=1e-3)
    assert compress(np.zeros((3, 5)), np.ones((2, 5)))[0].shape == (3, 5), "rows that say nothing stay as they are"


def test_a_fitted_predictor_keeps_what_was_chosen_and_one_with_a_number_does_not_choose() -> None:
    texts = [
        f"{thing} {word}" for thing in ("shoes", "service", "book", "film", "bread", "car") for word in ("good", "bad")
    ]
    labels = ["yes", "no"] * 6
    rows = ["good film", "bad car", "lamp"]
    auto, given = (fewtune.fit(texts, labels, "tfidf", **each) for each in ({}, {"inverse_penalty": 10.0}))
    assert auto.predict(rows)[:2] == given.predict(rows)[:2] == ["yes", "no"]
    assert auto.origin["settings"]["inverse_penalty"] == "auto"
    again = fewtune.fit(texts, labels, "tfidf", seed=3)
    np.testing.assert_array_equal(auto.predict_probabilities(rows), again.predict_probabilities(rows))
    assert np.abs(auto.predict_probabilities(rows) - given.predict_probabilities(rows)).max() > 0.01


@pytest.mark.parametrize("name", ["tfidf", "probe", "embeddings", "contrastive"])
def test_a_trial_notes_what_was_chosen_and_fits_that(
    name: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model, steps = models["sentence-encoder"], {"steps": 1} if name == "contrastive" else {}
    given = make_plan(name, model, task, draw, **steps, inverse_penalty=1.0)
    assert given.report().penalty is None
    plan = make_plan(name, model, task, draw, **steps, inverse_penalty="auto")
    chosen = plan.report().penalty
    assert chosen is not None and chosen.rows == len(draw.support)
    same = make_plan(name, model, task, draw, **steps, inverse_penalty=chosen.inverse_penalty)
    rows = draw.test_sets[0].rows
    ours, theirs = normalise(same.score(rows) / chosen.temperature), plan.score(rows)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
