"""Finds a network's linear layers, of whatever class.

Owns which classes are linear layers, and which hold their weights transposed. Where a network's blocks and head are is
its architecture's to say (`models.architectures`).
"""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from fewtune.models.adapters import BaseTunerLayer

LINEAR = (nn.Linear, Conv1D)


def find_outer_linear(module: nn.Module) -> list[nn.Module]:
    """Linear layers of any kind, an adapter and what it holds as one."""
    if isinstance(module, (*LINEAR, BaseTunerLayer)):
        return [module]
    return [layer for child in module.children() for layer in find_outer_linear(child)]


def holds_transposed(network: nn.Module) -> bool:
    """Whether linear layers hold their weights as (inputs, outputs), which PEFT's adapters must be told (GPT-2)."""
    return any(isinstance(module, Conv1D) for module in network.modules())
