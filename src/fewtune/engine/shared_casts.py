"""One cast for all linear layers that read the same states: autocast alone would cast them anew for each.

Owns when a cast may be shared. The numbers do not change, except that gradients of layers that share a cast are added
up in the compute dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def share_casts(layers: Sequence[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Inside, what layers run one after another on the same float32 states read is cast to `dtype` once."""
    last: tuple[Tensor, Tensor] | None = None

    def cast(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        nonlocal last
        states = inputs[0]
        if states.dtype != torch.float32:
            return None
        if last is None or last[0] is not states:
            last = states, states.to(dtype)
        return (last[1], *inputs[1:])

    hooks = [layer.register_forward_pre_hook(cast) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
