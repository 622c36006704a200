"""What trains: all weights, the last blocks, or low-rank adapters; makes the network and its parameter groups.

Owns the choices that methods compose with what reads the answer (`answer`). Does not know losses or examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from fewtune.engine.fitting import ParameterGroup
from fewtune.engine.forward import Forward
from fewtune.engine.four_bit import quantise_linear_layers
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.layers import holds_transposed
from fewtune.models.adapters import LoraConfig, get_peft_model
from fewtune.predictors.network import Adapter, Change, ChangedWeights


@dataclass(frozen=True)
class Trained:
    """A fresh network that runs, its parameter groups, and how it will differ from its base model."""

    forward: Forward
    groups: tuple[ParameterGroup, ...]
    change: Change

    @property
    def network(self) -> PreTrainedModel:
        return self.forward.network

    def join(self, groups: Sequence[ParameterGroup], first: bool = False) -> Trained:
        """The same with further groups, before or after its own."""
        return replace(self, groups=(*groups, *self.groups) if first else (*self.groups, *groups))


@dataclass(frozen=True)
class LoraShape:
    """Low-rank adapters: update = alpha / rank (rank-stabilised: alpha / sqrt(rank)) x B A."""

    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilised: bool = False
    dora: bool = False
    query_value_only: bool = False
    b_rate_ratio: float = 1.0
    """The rate of B over that of A (LoRA+)."""


def train_all(model: LanguageModel, learning_rate: float, body_only: bool) -> Trained:
    """A network all of whose weights train; `body_only` leaves out the language-model head where it is not read."""
    network = model.trainable_copy()
    module = model.architecture.find_body(network) if body_only else network
    group = ParameterGroup("all weights", tuple(module.parameters()), learning_rate)
    return Trained(model.forward(network), (group,), ChangedWeights())


def train_last_blocks(
    model: LanguageModel, blocks: int, learning_rate: float, decay: float = 1.0, unfreeze_every: int = 0
) -> Trained:
    """A network whose last blocks and final norm train; rates and starts as adaptive's settings say."""
    network = model.adaptable_copy()
    stack = model.architecture.find_blocks(network)
    groups = []
    norm = model.architecture.find_final_norm(network)
    if norm is not None:
        groups.append(ParameterGroup("final norm", tuple(norm.parameters()), learning_rate))
    for distance in range(blocks):
        index = len(stack) - 1 - distance
        rate = learning_rate * decay ** (distance + 1)
        block = tuple(stack[index].parameters())
        groups.append(ParameterGroup(f"block {index}", block, rate, distance * unfreeze_every))
    _make_own(model, network, [parameter for group in groups for parameter in group.parameters])
    return Trained(model.forward(network), tuple(groups), ChangedWeights())


def train_chosen(
    model: LanguageModel, name: str, choose: Callable[[str], bool], learning_rate: float, body_only: bool = False
) -> Trained:
    """A network of which the tensors whose names are chosen train, as one group; all others stay frozen.

    `body_only` leaves out the language-model head where it is not read.
    """
    network = model.adaptable_copy()
    module = model.architecture.find_body(network) if body_only else network
    chosen = tuple(parameter for tensor, parameter in module.named_parameters() if choose(tensor))
    _make_own(model, network, chosen)
    group = ParameterGroup(name, chosen, learning_rate)
    return Trained(model.forward(network), (group,), ChangedWeights())


def train_lora(
    model: LanguageModel, shape: LoraShape, learning_rate: float, rng: np.random.Generator, four_bit: bool = False
) -> Trained:
    """A frozen network with PEFT's LoRA adapters on its linear layers, drawn from the trial's own generator.

    `four_bit` holds the frozen linear layers as 4-bit NormalFloat.
    """
    network = model.adaptable_copy()
    if four_bit:
        quantise_linear_layers(network, torch.bfloat16 if model.precision == "bfloat16" else torch.float32)
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # type: ignore[arg-type]  # PEFT only divides by it
        lora_dropout=shape.dropout,
        use_rslora=shape.rank_stabilised,
        use_dora=shape.dora,
        # PEFT's own choice for the architecture is its query and value projections.
        target_modules=None if shape.query_value_only else "all-linear",
        task_type=model.architecture.peft_task,
        fan_in_fan_out=holds_transposed(network),
    )
    # PEFT draws A from torch's global generator: seeded before the adapters are made, given back after.
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks Transformers for something by its old name; the user can do nothing about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(int(rng.integers(2**63)))
        wrapped = get_peft_model(network, config)
    return Trained(model.forward(network), _group_adapters(network, shape, learning_rate), Adapter(wrapped, four_bit))


def _group_adapters(network: nn.Module, shape: LoraShape, learning_rate: float) -> tuple[ParameterGroup, ...]:
    """One group, or two where B has a rate of its own; DoRA's magnitudes go with B, as PEFT has them."""
    if shape.b_rate_ratio == 1.0:
        return (trainable_group("adapter", network, learning_rate),)
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    of_b = [p for name, p in named if "lora_B" in name or p.ndim == 1]
    others = [p for _, p in named if not any(p is each for each in of_b)]
    return (
        ParameterGroup("adapter A", tuple(others), learning_rate),
        ParameterGroup("adapter B", tuple(of_b), learning_rate * shape.b_rate_ratio),
    )


def trainable_group(name: str, network: nn.Module, learning_rate: float) -> ParameterGroup:
    """The tensors of a network that require gradients, as one group."""
    return ParameterGroup(name, tuple(p for p in network.parameters() if p.requires_grad), learning_rate)


def _make_own(model: LanguageModel, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """Give parameters that share the frozen network's tensors data of their own to train: the file's, in float32.

    The frozen network's may be rounded to bfloat16. From there a step of less than half a unit in the last place would
    show in no pass, where from the file's values it shows in its share of them.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    as_read = model.read_weights()
    for parameter in parameters:
        held = as_read[names[id(parameter)]].detach()
        parameter.data = held.to(parameter.device, torch.float32, copy=True)
        parameter.requires_grad_(True)
