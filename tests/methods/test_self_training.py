"""Self-training learns the labeller's answers on the pool, and the support's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewtune.engine.fit import fit
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.methods.self_training import choose_surest
from fewtune.tasks.base import Draw, Task
from reference_loop import fit_losses, make_plan

QUICK: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 8}


def label_pool(model: LanguageModel, task: Task, draw: Draw, **length: int) -> np.ndarray:
    """What pattern tuning on the support makes of the pool, from the labeller's own stream."""
    (rng,) = np.random.default_rng(3).spawn(1)
    method = get_method("pattern")
    plan = method.plan(method.settings(**length, **QUICK), model, task, draw, rng)
    assert plan.fitting is not None
    fit(plan.fitting, rng, lambda step, steps, loss: None)
    return plan.score(draw.pool)


def list_targets(plan: Plan) -> list[np.ndarray]:
    assert plan.fitting is not None
    return [example.target for example in plan.fitting.examples if example.target is not None]


def test_the_pool_is_learnt_as_pattern_tuning_answers_it(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("self_training", models["llama"], task, draw, labeller_epochs=6, epochs=3, **QUICK)
    scores = label_pool(models["llama"], task, draw, epochs=6)
    np.testing.assert_allclose(list_targets(plan), scores, atol=1e-6)
    assert plan.fitting is not None
    labels = [example.label for example in plan.fitting.examples]
    assert labels == [row.label for row in draw.support] + [None] * len(draw.pool), "the pool's labels are not seen"
    notes = plan.report()
    assert notes.unlabelled == "pool" and notes.other["rows_taught"] == len(draw.pool)
    before = plan.score(draw.pool)
    losses = fit_losses(plan)
    assert losses[-1] < losses[0]
    divergence = [float((np.exp(scores) * (scores - s)).sum(1).mean()) for s in (before, plan.score(draw.pool))]
    assert divergence[1] < divergence[0], "it came nearer to the labeller"


def test_steps_are_the_labellers_too(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan = make_plan("self_training", models["llama"], task, draw, steps=5, **QUICK)
    np.testing.assert_allclose(list_targets(plan), label_pool(models["llama"], task, draw, steps=5), atol=1e-6)
    assert plan.fitting is not None and plan.fitting.optimisation.steps == 5


def test_hard_labels_are_the_labellers_likeliest_and_weigh_what_is_asked(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    asked = {"labeller_epochs": 6, "labels": "hard", "epochs": 1, **QUICK}
    plan = make_plan("self_training", models["llama"], task, draw, **asked)
    light = make_plan("self_training", models["llama"], task, draw, pool_weight=0.25, **asked)
    assert plan.fitting is not None and light.fitting is not None
    pool = plan.fitting.examples[len(draw.support) :]
    assert [e.label for e in pool] == [int(t.argmax()) for t in list_targets(plan)]
    whole = plan.fitting.loss(plan.fitting.examples).detach().numpy()
    part = light.fitting.loss(light.fitting.examples).detach().numpy()
    support = len(draw.support)
    np.testing.assert_allclose(part[:support], whole[:support], atol=1e-5)
    np.testing.assert_allclose(part[support:], 0.25 * whole[support:], atol=1e-5)


@pytest.mark.parametrize(("share", "kept"), [(1.0, [0, 1, 2, 3, 4]), (0.5, [0, 2, 4]), (0.01, [0, 4])])
def test_the_surest_of_each_label_are_kept(share: float, kept: list[int]) -> None:
    scores = np.log([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3], [0.45, 0.55]])
    assert choose_surest(scores, share) == kept
