"""How many steps a fit takes, and the learning rate at each; imports no torch, so settings can use it.

Owns the optimisation values and the rate's formula. Knows no method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Optimisation:
    """How the loop steps; the same fields for every method.

    Bias-corrected AdamW; `warmup_fraction` of the steps rise linearly from zero; gradients are clipped to
    `clip_norm`; `epochs` passes over the fit examples in batches of `batch_size` rows.
    """

    epochs: int
    batch_size: int
    weight_decay: float = 0.0
    warmup_fraction: float = 0.1
    schedule: Schedule = "linear"
    clip_norm: float = 1.0


def rate_factor(step: int, steps: int, options: Optimisation) -> float:
    """The learning rate at a 0-based step as a share of its peak.

    Transformers' schedules, but for the first step, which they spend at a rate of zero.
    """
    warmup = math.ceil(options.warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if options.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return max(0.0, 1.0 - done) if options.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
