"""Runs PEFT's LoRA layers in fewer matrix products, without the casts and sums between them.

Owns the arithmetic of a frozen linear layer with an adapter, forward and backward, and which layers it is right for.
Parameters stay PEFT's, and outside a pass so do the layers. Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fewtune.engine.layers import LINEAR
from fewtune.models.adapters import LoraLinear


def find_plain_adapters(network: nn.Module) -> list[LoraLinear]:
    """Adapter layers that add one update, scale x B A, to a frozen matrix and do nothing else (no dropout, no DoRA)."""
    return [module for module in network.modules() if isinstance(module, LoraLinear) and is_plain(module)]


def is_plain(layer: LoraLinear) -> bool:
    """Whether an adapter layer adds one update to a frozen matrix and does nothing else (no dropout, no DoRA)."""
    base, adapters = layer.get_base_layer(), layer.active_adapters
    if type(base) not in LINEAR or base.weight.requires_grad or len(adapters) != 1:
        return False
    if layer.disable_adapters or layer.merged or adapters[0] in layer.lora_variant:
        return False
    dropout, up = layer.lora_dropout[adapters[0]], layer.lora_B[adapters[0]]
    return getattr(dropout, "p", 0.0) == 0.0 and up.bias is None


@contextmanager
def run_in_few_products(layers: Sequence[LoraLinear]) -> Iterator[None]:
    """Inside, these layers, from `find_plain_adapters`, run in few products."""
    for layer in layers:
        layer.forward = partial(_run, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


def _run(layer: LoraLinear, x: Tensor) -> Tensor:
    base, name = layer.get_base_layer(), layer.active_adapters[0]
    weight = base.weight.t() if isinstance(base, Conv1D) else base.weight
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    out: Tensor = _AdaptedLinear.apply(x, weight, base.bias, down, up, layer.scaling[name])  # type: ignore[no-untyped-call]
    return out


class _AdaptedLinear(torch.autograd.Function):
    """x W' + bias + scale x A' B', with gradients to x, A and B alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        rows, weight, a, b = x.flatten(0, -2).to(dtype), weight.to(dtype), down.to(dtype), up.to(dtype)
        inner = rows @ a.t()
        out = torch.nn.functional.linear(rows, weight, None if bias is None else bias.to(dtype))
        out.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scale, ctx.x_shape, ctx.x_dtype = scale, x.shape, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        rows, weight, a, b, inner = ctx.saved_tensors
        of_out = gradient.flatten(0, -2).to(rows.dtype)
        of_inner = of_out @ b
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_out @ weight).addmm_(of_inner, a, alpha=ctx.scale).to(ctx.x_dtype).view(ctx.x_shape)
        of_down = (of_inner.t() @ rows).float() * ctx.scale
        # This way round: the products are the same and this shape is twice as fast on a processor.
        of_up = (inner.t() @ of_out).t().float() * ctx.scale
        return of_x, None, None, of_down, of_up, None
