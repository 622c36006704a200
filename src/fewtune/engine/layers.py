"""Where a network keeps its transformer blocks, final norm and linear layers, whatever its architecture calls them.

Owns finding them by structure, not by name. Does not know what trains.
"""

from __future__ import annotations

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fewtune.errors import ModelError


def find_blocks(network: PreTrainedModel) -> nn.ModuleList:
    """The transformer blocks, first to last; raises ModelError naming the parameters where there is no such list."""
    return _find_stack(network)[1]


def find_final_norm(network: PreTrainedModel) -> nn.Module | None:
    """The norm after the last block; None where the architecture has none (OPT-350M norms inside its blocks)."""
    owner, blocks = _find_stack(network)
    norms = [m for m in owner.children() if m is not blocks and "norm" in type(m).__name__.lower()]
    return norms[-1] if norms else None


def find_outer_linear(module: nn.Module) -> list[nn.Module]:
    """Linear layers of any kind, an adapter and what it holds as one."""
    if isinstance(module, nn.Linear | Conv1D | BaseTunerLayer):
        return [module]
    return [layer for child in module.children() for layer in find_outer_linear(child)]


def _find_stack(network: PreTrainedModel) -> tuple[nn.Module, nn.ModuleList]:
    wanted = network.config.num_hidden_layers
    for owner in network.base_model.modules():
        for child in owner.children():
            if isinstance(child, nn.ModuleList) and len(child) == wanted:
                return owner, child
    names = [name for name, _ in network.named_parameters()]
    raise ModelError(
        f"no list of {wanted} blocks in this network. Its parameters: {', '.join(names[:6])} … {', '.join(names[-3:])}"
    )
