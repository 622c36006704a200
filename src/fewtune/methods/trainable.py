"""What trains: all weights, the last blocks, or low-rank adapters; a fresh network and its parameter groups.

Owns the choices that methods compose with what reads the answer (`blocks`). Does not know losses or examples.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from fewtune.engine.four_bit import quantise_linear_layers
from fewtune.engine.layers import find_blocks, find_final_norm
from fewtune.engine.plan import ParameterGroup
from fewtune.models import LanguageModel


@dataclass(frozen=True)
class LoraShape:
    """Low-rank adapters: update = alpha / rank (rank-stabilised: alpha / sqrt(rank)) x B A."""

    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilised: bool = False
    dora: bool = False
    query_value_only: bool = False


def train_all(model: LanguageModel, learning_rate: float, body_only: bool) -> tuple[PreTrainedModel, ParameterGroup]:
    """A network all of whose weights train; `body_only` leaves out the language-model head where it is not read."""
    network = model.trainable_copy()
    module = network.base_model if body_only else network
    return network, ParameterGroup("all weights", tuple(module.parameters()), learning_rate)


def train_last_blocks(
    model: LanguageModel, blocks: int, learning_rate: float, decay: float = 1.0, unfreeze_every: int = 0
) -> tuple[PreTrainedModel, list[ParameterGroup]]:
    """A network whose last blocks and final norm train; rates and starts as adaptive's settings say."""
    network = model.adaptable_copy()
    stack = find_blocks(network)
    groups = []
    norm = find_final_norm(network)
    if norm is not None:
        groups.append(_unfreeze("final norm", norm, learning_rate))
    for distance in range(blocks):
        index = len(stack) - 1 - distance
        rate = learning_rate * decay ** (distance + 1)
        groups.append(_unfreeze(f"block {index}", stack[index], rate, distance * unfreeze_every))
    return network, groups


def train_lora(
    model: LanguageModel, shape: LoraShape, learning_rate: float, rng: np.random.Generator, four_bit: bool = False
) -> tuple[PreTrainedModel, ParameterGroup]:
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
        task_type="CAUSAL_LM",
        # LoRA needs to know which layers hold weights transposed, as GPT-2's do.
        fan_in_fan_out=network.config.model_type == "gpt2",
    )
    # PEFT draws A from torch's global generator: seeded before the adapters are made, given back after.
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks Transformers for something by its old name; the user can do nothing about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(int(rng.integers(2**63)))
        get_peft_model(network, config)
    return network, trainable_group("adapter", network, learning_rate)


def trainable_group(name: str, network: nn.Module, learning_rate: float) -> ParameterGroup:
    """The tensors of a network that require gradients, as one group."""
    return ParameterGroup(name, tuple(p for p in network.parameters() if p.requires_grad), learning_rate)


def _unfreeze(name: str, module: nn.Module, learning_rate: float, starts_at_epoch: int = 0) -> ParameterGroup:
    """Make a frozen part of a network trainable: the trial's own, in float32."""
    parameters = tuple(module.parameters())
    for parameter in parameters:
        parameter.data = parameter.data.to(torch.float32, copy=True)
        parameter.requires_grad_(True)
    return ParameterGroup(name, parameters, learning_rate, starts_at_epoch)
