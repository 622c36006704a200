"""Vanilla fine-tuning's head starts and trains as its settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import StateReadout
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.predictors.language import LanguageScorer, encode_rows
from fewtune.tasks.base import Draw, Task


def make_plan(model: LanguageModel, task: Task, draw: Draw, **settings: Any) -> Plan:
    method = get_method("vanilla")
    return method.plan(method.settings(**settings), model, task, draw, np.random.default_rng(0))


def read_head(plan: Plan) -> torch.Tensor:
    assert plan.fitting is not None
    [head] = [g for g in plan.fitting.groups if g.name == "head"]
    return head.parameters[0].detach()


def test_the_head_may_have_a_rate_of_its_own(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    for given, expected in ((None, 3e-5), (1e-3, 1e-3)):
        plan = make_plan(models["llama"], task, draw, learning_rate=3e-5, head_learning_rate=given)
        assert plan.fitting is not None
        assert {g.name: g.learning_rate for g in plan.fitting.groups} == {"all weights": 3e-5, "head": expected}


def test_a_head_of_zeros_finds_every_label_as_likely(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan = make_plan(models["llama"], task, draw, head_start="zero")
    assert not read_head(plan).any()
    np.testing.assert_allclose(plan.score(draw.pool), np.log(0.5), atol=1e-6)
    assert read_head(make_plan(models["llama"], task, draw)).any()


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_probed_head_answers_as_its_regression_on_the_rows_that_are_fitted(
    models: dict[str, LanguageModel], task: Task, draw: Draw, fraction: float
) -> None:
    """Before a step is made: LP-FT starts from the linear probe. Rows that choose the epoch have no part in it."""
    plan = make_plan(models["llama"], task, draw, head_start="regression", validation_fraction=fraction)
    assert plan.fitting is not None
    scorer = plan.predictor.scorer
    assert isinstance(scorer, LanguageScorer)
    frozen = models["llama"].forward(models["llama"].frozen)
    probing = replace(scorer.prompting, forward=frozen, readout=StateReadout())
    prompts = encode_rows(probing.encoder, probing.template, probing.readout, draw.support)
    fitted = [list(example.prompt) for example in plan.fitting.examples]
    support = [row for row, prompt in zip(draw.support, prompts, strict=True) if prompt in fitted]
    assert len(support) == len(fitted) == (1 - fraction) * len(draw.support)
    states, others = probing.read(support), probing.read(draw.pool)
    spread = states.std(axis=0)
    regression = LogisticRegression(C=0.1, max_iter=1000, fit_intercept=False)
    regression.fit(states / spread, [row.label for row in support])
    expected = regression.predict_log_proba(others / spread)
    np.testing.assert_allclose(plan.score(draw.pool), expected, atol=1e-3)


@pytest.mark.parametrize("start", ["random", "zero", "regression"])
def test_the_draw_of_what_follows_does_not_depend_on_how_the_head_starts(
    models: dict[str, LanguageModel], task: Task, draw: Draw, start: str
) -> None:
    method, rng = get_method("vanilla"), np.random.default_rng(0)
    method.plan(method.settings(head_start=start), models["llama"], task, draw, rng)
    method.plan(method.settings(), models["llama"], task, draw, reference := np.random.default_rng(0))
    assert rng.integers(2**60) == reference.integers(2**60)
