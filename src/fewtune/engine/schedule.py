"""The number of steps of a fit and the learning rate at each; imports no torch, so settings can use it.

Owns the optimisation values, the rate's formula and the reaction to a loss that stops falling. Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "plateau"]


@dataclass(frozen=True)
class Optimisation:
    """How the loop steps; the same fields for every method.

    Bias-corrected AdamW; `warmup_fraction` of the steps rise linearly from zero; gradients are clipped to
    `clip_norm`; `epochs` passes over the fit examples in batches of `batch_size` rows, or as many as `steps` take, the
    last one cut short. Under `plateau` the rate is
    multiplied by `plateau_factor` whenever `plateau_patience` epochs bring no lower mean loss.
    """

    epochs: int
    batch_size: int
    weight_decay: float = 0.0
    warmup_fraction: float = 0.1
    schedule: Schedule = "linear"
    clip_norm: float = 1.0
    plateau_patience: int = 2
    plateau_factor: float = 0.5
    steps: int | None = None

    def count_passes(self, rows: int) -> float:
        """Passes over so many rows, of which the last may be part of one."""
        return self.epochs if self.steps is None else self.steps / math.ceil(rows / self.batch_size)


def rate_factor(step: int, steps: int, options: Optimisation) -> float:
    """The learning rate at a 0-based step as a share of its peak, the plateau's reaction apart.

    Transformers' schedules, but for the first step, which they spend at a rate of zero.
    """
    warmup = math.ceil(options.warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if options.schedule in ("constant", "plateau"):
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return max(0.0, 1.0 - done) if options.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


class Plateau:
    """The share of the rate that is left after the epochs whose loss did not fall."""

    def __init__(self, options: Optimisation) -> None:
        self._options = options
        self._best = math.inf
        self._waited = 0
        self.factor = 1.0

    def tell(self) -> list[float]:
        """Where it stands, for `recall`."""
        return [self._best, self._waited, self.factor]

    def recall(self, told: Sequence[float]) -> None:
        """Stand where another stood."""
        self._best, self.factor = told[0], told[2]
        self._waited = int(told[1])

    def observe(self, epoch_loss: float) -> None:
        """Take the mean loss of an epoch; under another schedule than `plateau` nothing changes."""
        if self._options.schedule != "plateau":
            return
        if epoch_loss < self._best:
            self._best, self._waited = epoch_loss, 0
            return
        self._waited += 1
        if self._waited >= self._options.plateau_patience:
            self.factor *= self._options.plateau_factor
            self._waited = 0
