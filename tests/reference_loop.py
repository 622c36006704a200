"""A training loop as its users write it, and plans fitted the same way, for tests that set one against the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fewtune.engine import fit as fit_module
from fewtune.engine.fit import fit
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.schedule import Optimisation
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.tasks.base import Draw, Task

PLAN_SEED, FIT_SEED = 3, 5


def make_plan(name: str, model: LanguageModel, task: Task, draw: Draw, **settings: Any) -> Plan:
    """A method's plan, its randomness from PLAN_SEED."""
    method = get_method(name)
    chosen = method.resolve(method.settings(**settings), task, len(draw.support), len(draw.pool))
    return method.plan(chosen, model, task, draw, np.random.default_rng(PLAN_SEED))


def fit_losses(plan: Plan) -> list[float]:
    """The losses of fitting a plan, its randomness from FIT_SEED."""
    assert plan.fitting is not None
    return fit(plan.fitting, np.random.default_rng(FIT_SEED), lambda step, steps, loss: None).losses


def draw_batches(rows: int, settings: Mapping[str, Any]) -> list[list[int]]:
    """The rows of each step, drawn as `fit_losses` draws them."""
    options = Optimisation(settings["epochs"], settings["batch_size"])
    epochs = fit_module._draw_batches(rows, options, np.random.default_rng(FIT_SEED))
    return [[int(i) for i in batch] for epoch in epochs for batch in epoch]


def train_plainly(
    parameters: Sequence[torch.nn.Parameter],
    learning_rate: float,
    batches: Sequence[list[int]],
    loss_of: Callable[[list[int]], torch.Tensor],
) -> list[float]:
    """The loss of each step: AdamW at a constant rate, gradients clipped to 1."""
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses
