"""Weights that train in 32 bits and multiply in bfloat16: while they are fitted, a network holds copies of its masters.

Owns the copies and the masters' gradients, whose memory stays from step to step: to ask for hundreds of megabytes anew
at each takes longer than filling them. What comes of a fit is what autocast gives, bit for bit, as it makes the same
copies, at every pass. Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fewtune.engine.layers import find_blocks, find_outer_linear


class MasterWeights:
    """Matrices of networks' blocks that are among the parameters to train; inside, bfloat16 copies stand for them.

    A copy's gradient is moved to its master as soon as it is there, in 32 bits. `follow` after masters have changed.
    """

    def __init__(self, networks: Iterable[nn.Module], trained: Sequence[nn.Parameter]) -> None:
        wanted = set(trained)
        blocks = [find_blocks(network) for network in networks if isinstance(network, PreTrainedModel)]
        layers = [layer for each in blocks for layer in find_outer_linear(each)]
        weights = [(layer, layer.weight) for layer in layers]
        self._places = [
            (layer, weight) for layer, weight in weights if isinstance(weight, nn.Parameter) and weight in wanted
        ]
        self._copies: list[nn.Parameter] = []
        self._gradients: dict[nn.Parameter, Tensor] = {}

    def __enter__(self) -> Self:
        for layer, master in self._places:
            layer.weight = copy = nn.Parameter(master.detach().to(torch.bfloat16))
            copy.register_post_accumulate_grad_hook(partial(self._take_gradient, master))
            self._copies.append(copy)
        return self

    def __exit__(self, *exception: object) -> None:
        for layer, master in self._places:
            layer.weight = master
        self._copies.clear()
        self._gradients.clear()

    @torch.no_grad()
    def follow(self) -> None:
        """Give copies their masters' values, and let those train whose masters do."""
        for copy, (_, master) in zip(self._copies, self._places, strict=True):
            copy.copy_(master)
            copy.requires_grad_(master.requires_grad)

    def _take_gradient(self, master: nn.Parameter, copy: Tensor) -> None:
        gradient, copy.grad = copy.grad, None
        assert gradient is not None
        if master.grad is not None:
            master.grad.add_(gradient)
            return
        if master not in self._gradients:
            self._gradients[master] = torch.empty_like(master)
        master.grad = self._gradients[master].copy_(gradient)
