"""A plan: everything the engine needs to fit and score one trial, made by a method, run by the engine.

Owns the values that methods hand to the engine. Knows neither methods nor tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.engine.schedule import Optimisation

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fewtune.engine.forward import Forward
    from fewtune.tasks.base import Example


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors that train at one peak learning rate; a group without tensors is an error."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float


@dataclass(frozen=True)
class FitExample:
    """One row to fit: the sequences to run and the label's index."""

    sequences: tuple[Sequence[int], ...]
    label: int


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


@dataclass(frozen=True)
class Plan:
    """How one trial is fitted (None: nothing trains) and how rows are scored.

    `score(rows)` gives log-probabilities over the task's labels, (rows, labels), float64; the rows it is handed
    carry no labels. `report()` gives what the record should note, asked for after scoring.
    """

    score: Callable[[Sequence[Example]], np.ndarray]
    fitting: Fitting | None = None
    forward: Forward | None = None
    trainable_parameters: int = 0
    total_parameters: int = 0
    report: Callable[[], dict[str, Any]] = field(default=dict)
