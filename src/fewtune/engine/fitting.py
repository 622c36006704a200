"""Input of the training loop: parameter groups, examples, a loss.

Owns these values. Knows neither methods nor tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.schedule import Optimisation

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors that train at one peak learning rate; a group without tensors is an error."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    starts_at_epoch: int = 0
    """Epochs during which the group is still frozen (gradual unfreezing)."""


@dataclass(frozen=True)
class FitExample:
    """One row to fit, or a pair: a prompt's tokens, and its label's index or a teacher's distribution, or both."""

    prompt: Sequence[int]
    label: int | None
    target: np.ndarray | None = None
    """The teacher's log-probabilities, over whatever the loss compares; None where it gives none."""
    other: Sequence[int] = ()
    """A second prompt that the loss compares the first with."""


@dataclass(frozen=True)
class Fitting:
    """What trains, on which examples, under which loss.

    `loss(batch)` gives one loss an example, (examples,), with gradients.
    """

    groups: tuple[ParameterGroup, ...]
    examples: tuple[FitExample, ...]
    loss: Callable[[Sequence[FitExample]], torch.Tensor]
    optimisation: Optimisation
    modules: tuple[nn.Module, ...]
    """What is set to training mode while fitting and to evaluation mode after."""
    options: EngineOptions = DEFAULTS
    branch_tokens: int = 0
    """Tokens that the loss runs behind each prompt (`Branches`)."""
    validation: tuple[FitExample, ...] = ()
    """Labelled rows kept out of the fit: where there are any, the epoch of their lowest loss is kept."""
