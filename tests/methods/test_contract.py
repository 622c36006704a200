"""What every method must do, on every architecture."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from pydantic.fields import FieldInfo

import tiny_models
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import METHODS, get_method
from fewtune.methods.base import find_skip_reason
from fewtune.tasks.base import Draw, Task
from method_cases import CASES, SKIPPED, VARIANTS, fit, run

# Every variant on the decoders that most tests use and on BERT; on all other kinds each method once.
ALL = [(name, values, kind) for name, values in CASES for kind in sorted([*tiny_models.CONFIGS, "bert"])]
ALL += [
    (name, VARIANTS.get(name, [{}])[0], kind)
    for name in METHODS
    for kind in sorted([*tiny_models.MORE_DECODERS, *tiny_models.ENCODERS])
    if kind != "bert" and get_method(name).uses_model
]


@pytest.mark.parametrize(("name", "values", "kind"), ALL, ids=lambda value: str(value))
def test_a_method_scores_every_label_of_unlabelled_rows_the_same_each_time(
    name: str, values: dict[str, Any], kind: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method, model = get_method(name), models[kind]
    settings = method.settings(**values)
    reason = find_skip_reason(method, settings, model.config, task)
    if method.needs(settings) - model.architecture.find_abilities(model.config):
        assert reason is not None and reason.startswith("the model ")
        return
    if reason is not None:
        assert SKIPPED[name, model.config.model_type] in reason
        return
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
    noted = plan.report().model_dump_json()
    assert not [text for text in (*tiny_models.GOOD, *tiny_models.BAD) if text in noted], "records hold no texts"
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
    meanings = get_type_hints(method.settings, include_extras=True)
    for setting in fields(method.settings):
        described = [m for m in meanings[setting.name].__metadata__ if isinstance(m, FieldInfo) and m.description]
        assert described, setting.name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_trains_fits_its_support(
    name: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method = get_method(name)
    known = {setting.name for setting in fields(method.settings)}
    asked = {"epochs": 40, "batch_size": 4, "learning_rate": 1e-2, "blocks": 2}
    settings = method.settings(**{setting: value for setting, value in asked.items() if setting in known})
    plan, report = fit(method, settings, models["gpt2"], task, draw)
    if report is None:
        assert plan.fitting is None and "epochs" not in known
        return
    steps = len(report.losses) // 4
    assert np.mean(report.losses[-steps:]) < 0.7 * np.mean(report.losses[:steps])
    right = plan.score(draw.support).argmax(1) == [e.label for e in draw.support]
    assert right.mean() >= 0.75
