"""Balanced weights: rows of a rare label count more, alike in every method that fits labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from fewtune.engine.language_model import LanguageModel
from fewtune.methods import OWN, get_method
from fewtune.methods.class_weights import weigh_labels
from fewtune.methods.plan import Plan
from fewtune.predictors.regression import Regression
from fewtune.tasks.base import Draw, Task

FINE_TUNED = ("vanilla", "pattern", "adaptive", "lora", "bitfit", "ia3", "soft_prompt")
REGRESSIONS = ("tfidf", "embeddings", "contrastive", "probe")


@pytest.fixture
def skewed(draw: Draw) -> Draw:
    """The draw with two rows of the second label."""
    rare = [row for row in draw.support if row.label == 1][:2]
    return replace(draw, support=(*(row for row in draw.support if row.label == 0), *rare))


def make_plan(name: str, model: LanguageModel, task: Task, draw: Draw, **settings: Any) -> Plan:
    method = get_method(name)
    typed = method.resolve(method.settings(**settings), task, len(draw.support), 0)
    return method.plan(typed, model, task, draw, np.random.default_rng(0))


def test_weights_are_those_of_scikit_learn() -> None:
    labels = [0, 0, 0, 2, 2, 2, 2, 3]
    found = weigh_labels("balanced", labels, 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=np.array(labels))
    np.testing.assert_allclose(found[[0, 2, 3]], expected)
    assert found[labels].mean() == pytest.approx(1.0), "a rate suits weighted rows as well"
    assert (weigh_labels(None, labels, 5) == 1).all()


def test_every_method_that_fits_labels_has_the_setting() -> None:
    there = {name for name in OWN if "class_weight" in get_method(name).settings.__dataclass_fields__}
    assert there == {*FINE_TUNED, *REGRESSIONS}


@pytest.mark.parametrize("name", FINE_TUNED)
def test_a_row_of_the_rare_label_counts_more_in_the_loss(
    name: str, models: dict[str, LanguageModel], task: Task, skewed: Draw
) -> None:
    plain, weighted = (
        make_plan(name, models["llama"], task, skewed, class_weight=given).fitting for given in (None, "balanced")
    )
    assert plain is not None and weighted is not None
    labels = [row.label or 0 for row in skewed.support]
    with torch.no_grad():
        ratio = (weighted.loss(weighted.examples) / plain.loss(plain.examples)).numpy()
    np.testing.assert_allclose(ratio, weigh_labels("balanced", labels, 2)[labels], rtol=1e-5)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_gives_the_rare_label_more_often(
    name: str, models: dict[str, LanguageModel], task: Task, skewed: Draw
) -> None:
    rows = [row.without_label() for row in task.train[:20]]
    shares = []
    for given in (None, "balanced"):
        plan = make_plan(name, models["llama"], task, skewed, inverse_penalty=1.0, class_weight=given)
        shares.append(np.exp(plan.score(rows))[:, 1].mean())
    assert shares[1] > shares[0]


def test_a_weighted_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 4)), [0] * 20 + [1] * 7 + [2] * 3
    found = Regression.fit(features, labels, 3, 1.0, class_weight="balanced").log_probabilities(features)
    oracle = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(features, labels)
    np.testing.assert_allclose(found, oracle.predict_log_proba(features), atol=1e-6)
