"""The one training loop: every method that trains goes through it, so the loop is never what differs.

Owns batches, order, optimiser, schedule, clipping and the check for divergence. Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fewtune.engine.packing import group_by_tokens
from fewtune.engine.plan import Fitting
from fewtune.engine.schedule import Optimisation, rate_factor
from fewtune.errors import TrialFailure

TOKENS_A_PASS = 4096
"""Most tokens in one forward and backward pass; larger batches accumulate gradients, with equal results."""


@dataclass(frozen=True)
class FitReport:
    """What happened: mean loss of each step, and each group's tensors, parameters and peak rate."""

    losses: list[float]
    groups: list[dict[str, object]]


def fit(fitting: Fitting, rng: np.random.Generator, on_step: Callable[[int, int, float], None]) -> FitReport:
    """Train a plan's parameters; `on_step(step, steps, loss)` is told of every step.

    Raises TrialFailure `diverged` at the first loss that is not finite.
    """
    for group in fitting.groups:
        if not group.parameters:
            raise TrialFailure("error", f"parameter group {group.name!r} matched no tensor: nothing would train")
    options = fitting.optimisation
    optimiser = torch.optim.AdamW(
        [{"params": list(g.parameters), "lr": g.learning_rate} for g in fitting.groups],
        weight_decay=options.weight_decay,
        fused=True,
    )
    batches = _draw_batches(len(fitting.examples), options, rng)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, len(batches), options))
    parameters = [p for g in fitting.groups for p in g.parameters]
    losses: list[float] = []
    for module in fitting.modules:
        module.train()
    # Dropout draws from torch's global generator: seeded here from the trial's own, and given back after.
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**63)))
        for step, batch in enumerate(batches):
            loss = _step_gradients(fitting, batch)
            if not math.isfinite(loss):
                raise TrialFailure("diverged", f"the loss became {loss} at step {step + 1} of {len(batches)}")
            torch.nn.utils.clip_grad_norm_(parameters, options.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            scheduler.step()
            losses.append(loss)
            on_step(step + 1, len(batches), loss)
    for module in fitting.modules:
        module.eval()
    groups = [
        {
            "name": g.name,
            "tensors": len(g.parameters),
            "parameters": sum(p.numel() for p in g.parameters),
            "peak_learning_rate": g.learning_rate,
        }
        for g in fitting.groups
    ]
    return FitReport(losses, groups)


def _draw_batches(rows: int, options: Optimisation, rng: np.random.Generator) -> list[np.ndarray]:
    """Row indices of every step: each epoch a fresh order, its last batch perhaps smaller."""
    size = options.batch_size
    return [
        order[start : start + size]
        for order in (rng.permutation(rows) for _ in range(options.epochs))
        for start in range(0, rows, size)
    ]


def _step_gradients(fitting: Fitting, batch: np.ndarray) -> float:
    """Accumulate the gradients of a batch's mean loss, pass by pass; the loss, in nats."""
    examples = [fitting.examples[i] for i in batch]
    total = 0.0
    for group in group_by_tokens([sum(map(len, e.sequences)) for e in examples], TOKENS_A_PASS):
        loss = fitting.loss([examples[i] for i in group]).sum() / len(examples)
        loss.backward()
        total += float(loss.detach())
    return total
