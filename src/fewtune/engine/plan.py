"""A plan: everything the engine needs to fit and score one trial, made by a method, run by the engine.

Owns the values that methods hand to the engine. Knows neither methods nor tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.engine.schedule import Optimisation

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from fewtune.engine.forward import Forward
    from fewtune.tasks.base import Example


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
    """One row to fit: the sequences to run, and its label's index or a teacher's distribution, or both."""

    sequences: tuple[Sequence[int], ...]
    label: int | None
    target: np.ndarray | None = None
    """The teacher's log-probabilities, over whatever the loss compares; None where it gives none."""


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
    validation: tuple[FitExample, ...] = ()
    """Labelled rows kept out of the fit: where there are any, the epoch of their lowest loss is kept."""


@dataclass(frozen=True)
class Plan:
    """How one trial is fitted (None: nothing trains) and how rows are scored.

    `score(rows)` gives log-probabilities over the task's labels, (rows, labels), float64; the rows it is handed
    carry no labels. `report()` gives what the record should note, asked for after scoring.
    """

    score: Callable[[Sequence[Example]], np.ndarray]
    fitting: Fitting | None = None
    forward: Forward | None = None
    taught_by: PreTrainedModel | None = None
    """Another network that the trial needs while it is fitted (a teacher's): its memory counts too."""
    prepared_tokens: int = 0
    """Tokens that other networks ran while the plan was made (a teacher's); `forward` counts its own."""
    trainable_parameters: int = 0
    total_parameters: int = 0
    report: Callable[[], dict[str, Any]] = field(default=dict)
    companions: Mapping[str, Callable[[Sequence[Example]], np.ndarray]] = field(default_factory=dict)
    """Other scorers whose test scores the record should note (a teacher), by name; timed apart from `score`."""
    conclude: Callable[[Mapping[str, Mapping[str, Mapping[str, float]]]], dict[str, Any]] = lambda metrics: {}
    """What the record should say of companions' metrics, by name, test set and metric."""
