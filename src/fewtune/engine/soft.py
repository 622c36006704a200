"""Soft tokens: trainable vectors before every row, as embeddings or as each layer's keys and values.

Owns turning an encoder's output into the prefix that packed rows read. Does not know how an encoder is made or trained.
Sources: Lester et al. 2021, https://arxiv.org/abs/2104.08691; Li and Liang 2021, https://arxiv.org/abs/2101.00190
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fewtune.engine.packing import Prefix, capture_prefix, pack, run_packed
from fewtune.models.architectures import architecture_of


class SoftTokens(Protocol):
    """Trainable vectors that stand before every row."""

    def make_prefix(self) -> Prefix:
        """The prefix that the rows of one pass read, with gradients to what trains."""


class SoftPrompt:
    """Virtual embeddings (prompt tuning); `encoder(indices)` gives (tokens, embedding width)."""

    def __init__(self, encoder: nn.Module, tokens: int) -> None:
        self.encoder = encoder
        self.tokens = tokens

    def make_prefix(self) -> Prefix:
        return Prefix(self.tokens, embeddings=_encode(self.encoder, self.tokens))


class SoftPrefix:
    """Keys and values of every layer (prefix tuning), past any rotation.

    `encoder(indices)` gives (tokens, layers x 2 x heads x head), a layer's keys before its values, as PEFT orders them.
    """

    def __init__(self, encoder: nn.Module, tokens: int, layers: Sequence[int], heads: int) -> None:
        self.encoder = encoder
        self.tokens = tokens
        self.layers = tuple(layers)
        self.heads = heads

    def make_prefix(self) -> Prefix:
        flat = _encode(self.encoder, self.tokens).view(self.tokens, 2 * len(self.layers), 1, self.heads, -1)
        parts = flat.permute(1, 2, 3, 0, 4).unbind()
        return Prefix(self.tokens, dict(zip(self.layers, zip(parts[::2], parts[1::2], strict=True), strict=True)))


def flatten_prefix(prefix: Prefix) -> Tensor:
    """Known keys and values as `SoftPrefix` has them from its encoder: (tokens, layers x 2 x heads x head), float32."""
    parts = torch.stack([part[0] for layer in sorted(prefix.layers) for part in prefix.layers[layer]])
    return parts.permute(2, 0, 1, 3).reshape(prefix.length, -1).float()


def find_layer_shapes(network: PreTrainedModel) -> dict[int, tuple[int, int]]:
    """(heads, head size) of each layer's keys and values, by layer; of a network without weights, which runs one token.

    The token is an embedding: some architectures look into token numbers, which are nowhere then.
    """
    width = architecture_of(network).find_embeddings(network).weight.shape[1]
    word = Prefix(1, embeddings=torch.zeros(1, width, device="meta"))
    seen = capture_prefix(pack([[0]], torch.device("meta"), word), partial(run_packed, network))
    return {layer: (keys.shape[1], keys.shape[3]) for layer, (keys, _) in sorted(seen.layers.items())}


def _encode(encoder: nn.Module, tokens: int) -> Tensor:
    device = next(encoder.parameters()).device
    vectors: Tensor = encoder(torch.arange(tokens, device=device))
    return vectors
