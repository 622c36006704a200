"""What every method must do, on every architecture."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic.fields import FieldInfo

from fewtune.adapt import task_for_method
from fewtune.engine.fit import fit
from fewtune.engine.plan import Plan
from fewtune.methods import METHODS, get_method
from fewtune.methods.base import Method
from fewtune.models import LanguageModel
from fewtune.tasks.base import Draw, Task

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "in_context": [
        {"demonstrations": 0},
        {"demonstrations": 4, "pattern": "verdict"},
        {"demonstrations": 2, "calibration": "contextual"},
        {"demonstrations": 2, "calibration": "batch"},
    ],
    "context_distillation": [
        {"epochs": 2, "demonstrations": 2, "contexts": 2},
        {
            "epochs": 2,
            "context": ("instruction", "demonstrations"),
            "instruction": "Good?",
            "demonstrations": 1,
            "pattern": "verdict",
        },
        {"epochs": 2, "context": ("demonstrations", "scratchpad"), "demonstrations": 1, "scratchpad_tokens": 4},
    ],
    "probe": [{}, {"prompted": False}, {"layer": 1}],
    "vanilla": [{"epochs": 3}, {"epochs": 2, "prompted": True}],
    "pattern": [{"epochs": 3}, {"epochs": 2, "pattern": "verdict"}, {"epochs": 2, "loss_over": "vocabulary"}],
    "adaptive": [{"epochs": 2, "blocks": 2}, {"epochs": 2, "blocks": 1, "reads": "head", "schedule": "plateau"}],
    "lora": [
        {"epochs": 2, "dora": True},
        {"epochs": 2, "rank_stabilised": True, "targets": "query_value"},
        {"epochs": 3},
        {"epochs": 2, "reads": "head"},
        {"epochs": 2, "pattern": "verdict", "dropout": 0.1},
    ],
    "bitfit": [{"epochs": 3}, {"epochs": 2, "reads": "head"}],
    "ia3": [{"epochs": 3}, {"epochs": 2, "reads": "head"}, {"epochs": 2, "pattern": "verdict"}],
    "soft_prompt": [
        {"epochs": 3},
        {"epochs": 2, "reads": "head", "tokens": 3},
        {"epochs": 2, "kind": "prefix"},
        {"epochs": 2, "kind": "prefix", "pattern": "verdict", "tokens": 3},
    ],
}
TRAINED = ("vanilla", "pattern", "adaptive", "lora", "context_distillation", "bitfit", "ia3", "soft_prompt")
# What cannot be used on which architecture, and the words of the reason; all else must run on all.
SKIPPED = {("bitfit", "llama"): "model type 'llama' has no biases"}
CASES = [(name, settings) for name in METHODS for settings in VARIANTS.get(name, [{}])]


def run(method: Method, settings: Any, model: LanguageModel, task: Task, draw: Draw, seed: int = 0) -> Plan:
    rng = np.random.default_rng(seed)
    blind = replace(draw, test_sets=())
    plan = method.plan(settings, model if method.uses_model else None, task_for_method(task), blind, rng)
    if plan.fitting is not None:
        fit(plan.fitting, rng, lambda step, steps, loss: None)
    return plan


@pytest.mark.parametrize(("name", "values"), CASES, ids=lambda value: str(value))
def test_a_method_scores_every_label_of_unlabelled_rows_the_same_each_time(
    name: str, values: dict[str, Any], model: LanguageModel, task: Task, draw: Draw
) -> None:
    method = get_method(name)
    settings = method.settings(**values)
    reason = method.skip_reason(settings, model.config, task)
    if (name, model.config.model_type) in SKIPPED:
        assert reason is not None and SKIPPED[name, model.config.model_type] in reason
        return
    assert reason is None
    before = {n: p.detach().clone() for n, p in model.frozen.named_parameters()}
    rows = [row.without_label() for test in draw.test_sets for row in test.rows]
    plan = run(method, settings, model, task, draw)
    scores = plan.score(rows)
    assert scores.shape == (len(rows), len(task.labels))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(np.exp(scores).sum(1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(scores, run(method, settings, model, task, draw).score(rows))
    np.testing.assert_allclose(plan.score(rows[:3]), scores[:3], atol=1e-5)
    for parameter_name, parameter in model.frozen.named_parameters():
        torch.testing.assert_close(parameter, before[parameter_name], rtol=0, atol=0, msg=parameter_name)
        assert not parameter.requires_grad
    assert (plan.fitting is not None) == (name in TRAINED)
    if plan.fitting is not None:
        trained = sum(p.numel() for g in plan.fitting.groups for p in g.parameters)
        assert plan.trainable_parameters == trained <= plan.total_parameters


@pytest.mark.parametrize("name", ["vanilla", "lora", "soft_prompt"])
def test_what_starts_at_random_follows_the_trials_own_seed(
    name: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method = get_method(name)
    settings = method.settings(epochs=1)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    torch.manual_seed(1)
    first = run(method, settings, models["llama"], task, draw, seed=1).score(rows)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = run(method, settings, models["llama"], task, draw, seed=1).score(rows)
    other = run(method, settings, models["llama"], task, draw, seed=2).score(rows)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state()), "a trial must leave the global generator alone"


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_says_what_it_means(name: str) -> None:
    method = get_method(name)
    assert method.name == name and method.summary and method.source_url.startswith("https://")
    assert is_dataclass(method.settings) and method.settings() == method.settings()
    for setting in fields(method.settings):
        metadata = method.settings.__annotations__[setting.name]
        assert "Annotated" in str(metadata) or metadata in NAMED_SETTINGS, setting.name


def test_shared_settings_say_what_they_mean() -> None:
    from fewtune.methods import optimisation

    for name in NAMED_SETTINGS:
        described = [m for m in getattr(optimisation, name).__metadata__ if isinstance(m, FieldInfo)]
        assert described and described[0].description, name


NAMED_SETTINGS = (
    "Epochs",
    "BatchSize",
    "LearningRate",
    "WeightDecay",
    "WarmupFraction",
    "RateSchedule",
    "ClipNorm",
    "PatternName",
    "ValidationFraction",
)


@pytest.mark.parametrize("name", ["vanilla", "pattern", "lora"])
def test_a_trained_method_learns_its_support(
    name: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method = get_method(name)
    settings = method.settings(epochs=40, batch_size=4, learning_rate=1e-2)
    scores = run(method, settings, models["llama"], task, draw).score(draw.support)
    assert (scores.argmax(1) == [e.label for e in draw.support]).all()
