"""4-bit base models: frozen linear layers held as NormalFloat with double quantisation, by bitsandbytes.

Owns which layers of a network are replaced, and the reasons why a network cannot be held so. Does not know what trains.
Source: Dettmers et al. 2023 (QLoRA), https://arxiv.org/abs/2305.14314
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fewtune.engine.layers import holds_transposed
from fewtune.models.architectures import architecture_of
from fewtune.system.failure_kinds import find_failure_kind

LARGEST_ERROR = 0.15
"""Relative error of normally distributed weights held in 4 bits above which something else is wrong: they lose 9%."""


def find_obstacle(network: PreTrainedModel, device: torch.device) -> str | None:
    """Why a network, given without weights, cannot be held in 4 bits on a device; None where it can."""
    if holds_transposed(network):
        return f"model type {network.config.model_type!r} keeps its matrices in Conv1D, which is no linear layer"
    try:
        errors = {width: _measure_error(width, device) for width in sorted({m.in_features for m in _linear(network)})}
    except Exception as error:  # a library for so many devices fails in as many ways, none of them the trial's
        if find_failure_kind(error) == "out_of_memory":
            raise
        return f"bitsandbytes does not run on this machine's {device.type} ({type(error).__name__}: {error})"
    wrong = [str(width) for width, error in errors.items() if error > LARGEST_ERROR]
    if wrong:
        return (
            f"bitsandbytes multiplies matrices of {', '.join(wrong)} columns wrongly on this machine's {device.type} "
            f"(error {max(errors.values()):.0%}, where 4 bits cost 9%)"
        )
    return None


def quantise_linear_layers(network: PreTrainedModel, compute_dtype: torch.dtype) -> None:
    """Hold every linear layer but the language-model head in 4 bits, frozen; products are taken in `compute_dtype`."""
    layers = set(_linear(network))
    for name, module in list(network.named_modules()):
        if module in layers:
            network.set_submodule(name, _quantise(module, compute_dtype))
    # PEFT asks this before it looks for 4-bit layers.
    network.is_loaded_in_4bit = True  # type: ignore[assignment]  # Transformers sets the same flag


def _linear(network: PreTrainedModel) -> list[nn.Linear]:
    """The linear layers but the language-model head, which is always read in float32."""
    head = architecture_of(network).find_head(network)
    return [m for m in network.modules() if isinstance(m, nn.Linear) and m is not head]


def _measure_error(width: int, device: torch.device) -> float:
    """Relative error of a quantised layer's products, forward or backward, whichever is larger."""
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(64, width, generator=generator).to(device) for _ in range(2))
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, width, 64, bias=False, device=device)
    linear.weight.detach().copy_(weight)
    outputs = _quantise(linear, torch.float32)(inputs.requires_grad_())
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    pairs = ((outputs.detach(), inputs.detach() @ weight.T), (gradient[0], weight.sum(0)))
    return max(float((held - exact).norm() / exact.norm()) for held, exact in pairs)


def _quantise(linear: nn.Linear, compute_dtype: torch.dtype) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    layer: Any = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute_dtype,
        quant_type="nf4",
        device="meta",  # nothing is drawn from the global generator for weights that are replaced at once
    )
    weight = Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4", module=layer)
    layer.weight = weight.to(linear.weight.device)  # the move is what quantises, on the same device too
    layer.bias = linear.bias
    # On CPUs with AVX-512 BF16 a layer run for inference would repack itself for good: in bfloat16 whatever the
    # precision, only where its outputs are a multiple of 32, and unable to pass gradients in a later epoch.
    layer.support_avx512bf16_for_cpu = False
    made: nn.Module = layer
    return made
