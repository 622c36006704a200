"""fewtune's side: a plan made, fitted and scored as a trial does it, without a record.

Owns what is timed of fewtune. Does not know the peers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.race.material import (
    MAX_TOKENS,
    Material,
    Timing,
    draw_head,
    fingerprint,
    measure_accuracy,
    measure_loss,
)
from benchmarks.race.works import METHODS, settings_of
from fewtune.engine.fit import FitReport
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.layers import find_outer_linear
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.models import Precision
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.tasks.base import Example


def run_work(work: str, material: Material, precision: Precision) -> Timing:
    """Do a work with the model in memory, timed."""
    model = load(material, precision)
    if work in ("score", "score-encoder"):
        return score_rows(work, material, model)
    if work == "in-context":
        return answer_in_context(material, model)
    return fit(work, material, model)


def load(material: Material, precision: Precision) -> LanguageModel:
    """The model in memory, its shared network made before any clock starts, as for a trial."""
    model = replace(load_model(material.place, precision), max_tokens=MAX_TOKENS)
    _ = model.frozen
    return model


def fit(work: str, material: Material, model: LanguageModel) -> Timing:
    """From the model in memory to the trained one."""
    started = time.perf_counter()
    plan, report = adapt(work, material, model)
    seconds = time.perf_counter() - started
    assert plan.fitting is not None and report is not None
    fitted = [example.prompt for example in plan.fitting.examples]
    tokens = material.size.epochs * sum(map(len, fitted))
    teacher = plan.report().teacher
    shown = teacher.contexts[0] if teacher is not None else []
    return Timing(
        seconds=seconds,
        rows_sha256=fingerprint(fitted, material.test_rows, shown),
        steps=len(report.losses),
        accuracy=measure_accuracy(score(plan, material.test_rows), material.test_rows),
        support_loss=measure_loss(score(plan, material.draw.support), material.draw.support),
        tokens=tokens,
        model_flops=3.0 * count_flops(model, tokens, material.size.epochs * len(fitted))
        if work == "all-weights"
        else None,
    )


def score_rows(work: str, material: Material, model: LanguageModel) -> Timing:
    """The test rows scored by a head that was not fitted: what it costs does not depend on its weights.

    An encoder's head reads its embedding, the peer's what a fresh layer makes of it: their scores are not alike.

    The support is scored first, untimed: scoring comes after a fit, in a process that is warm.
    """
    method = get_method(METHODS[work][0])
    plan = method.plan(method.settings(), model, material.task, material.draw, material.rng())
    assert plan.fitting is not None and plan.forward is not None
    head = next(module for module in plan.fitting.modules if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        head.weight.copy_(draw_head(*head.weight.shape))
    score(plan, material.draw.support)
    before = plan.forward.tokens_run
    started = time.perf_counter()
    scores = score(plan, material.test_rows)
    seconds = time.perf_counter() - started
    tokens = plan.forward.tokens_run - before
    return Timing(
        seconds=seconds,
        rows_sha256=fingerprint([], material.test_rows),
        accuracy=measure_accuracy(scores, material.test_rows),
        tokens=tokens,
        model_flops=count_flops(model, tokens, len(material.test_rows)) if work == "score" else None,
    )


def answer_in_context(material: Material, model: LanguageModel) -> Timing:
    """The first test rows answered behind demonstrations, planning included."""
    rows = material.test_rows[: material.size.queries]
    started = time.perf_counter()
    plan, _ = adapt("in-context", material, model)
    scores = score(plan, rows)
    seconds = time.perf_counter() - started
    demonstrations = plan.report().demonstrations
    assert demonstrations is not None
    return Timing(seconds, fingerprint([], rows, demonstrations.rows), accuracy=measure_accuracy(scores, rows))


def score(plan: Plan, rows: Sequence[Example]) -> np.ndarray:
    """Log-probabilities (rows, labels) of rows whose labels the plan does not see."""
    return plan.score([row.without_label() for row in rows])


def count_flops(model: LanguageModel, tokens: int, rows: int) -> float:
    """Of a forward pass through the body's linear layers: 2 a parameter and token, no embedding, no head.

    Layers that run the last token of a row alone, which is all that is read, count it alone.
    """
    run = dict.fromkeys(find_outer_linear(model.architecture.find_blocks(model.frozen)), 0)

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        run[layer] = inputs[0].shape[-2]

    hooks = [layer.register_forward_hook(count) for layer in run]
    batch = (forward := model.forward(model.frozen)).pack([[0, 0]])
    with torch.no_grad():
        forward.hidden_states(batch, batch.ends)
    for hook in hooks:
        hook.remove()
    counted = {layer: rows if seen == 1 else tokens for layer, seen in run.items()}
    return float(sum(2 * layer.get_parameter("weight").numel() * count for layer, count in counted.items()))


def adapt(work: str, material: Material, model: LanguageModel) -> tuple[Plan, FitReport | None]:
    """The work's method planned and fitted on the support."""
    method, rng = get_method(METHODS[work][0]), material.rng()
    settings = method.settings(**settings_of(work, material.size))
    plan = make_plan(method, settings, model, material.task, material.draw, rng)
    return fit_plan(plan, rng)
