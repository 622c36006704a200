"""Attention that is written into a network's classes (MPNet, DeBERTa v2): it runs as it is, over packed rows.

Owns which classes these are, and what stands in for them. Their arithmetic stays Transformers' own: packed rows are
laid side by side around it (`attention.attend_as_written`). Where no packed batch runs, they do what they did before.
Networks that take their attention by a name need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder, DisentangledSelfAttention
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from fewtune.engine.attention import attend_as_written
from fewtune.engine.packing import RUNNING


class PackedMPNetEncoder(MPNetEncoder):
    """Its layers get what makes their position biases, which would be as large as all packed rows squared."""

    def compute_position_bias(self, x: Tensor, *rest: Any, **named: Any) -> Any:
        plain: Callable[..., Tensor] = super().compute_position_bias
        return plain(x, *rest, **named) if RUNNING.get() is None else plain


class PackedMPNetSelfAttention(MPNetSelfAttention):
    """Biases come by the distance between two tokens of a row."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | Callable[[Tensor], Tensor] | None = None,
        output_attentions: bool = False,
        **named: Any,
    ) -> tuple[Tensor, ...]:
        plain: Callable[..., tuple[Tensor, ...]] = super().forward
        batch = RUNNING.get()
        if batch is None:
            return plain(hidden_states, attention_mask, position_bias, output_attentions, **named)
        assert callable(position_bias)

        def attend(rows: Tensor, readable: Tensor) -> Tensor:
            lowest = torch.finfo(rows.dtype).min
            mask = torch.zeros(readable.shape, dtype=rows.dtype, device=rows.device).masked_fill(~readable, lowest)
            return plain(rows, mask, position_bias(rows[:1]))[0]

        return (attend_as_written(hidden_states, batch, attend),)


class PackedDebertaEncoder(DebertaV2Encoder):
    """What its layers make of places and distances, they make themselves: of all packed rows it would be squared."""

    def get_attention_mask(self, attention_mask: Tensor) -> Tensor:
        plain: Callable[[Tensor], Tensor] = super().get_attention_mask
        return plain(attention_mask) if RUNNING.get() is None else attention_mask

    def get_rel_pos(self, *given: Any, **named: Any) -> Tensor | None:
        plain: Callable[..., Tensor | None] = super().get_rel_pos
        return plain(*given, **named) if RUNNING.get() is None else None


class PackedDisentangledSelfAttention(DisentangledSelfAttention):
    """Scores of content and of distances apart (He et al. 2021, https://arxiv.org/abs/2006.03654)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        plain: Callable[..., tuple[Tensor, Tensor | None]] = super().forward
        batch = RUNNING.get()
        if batch is None:
            return plain(hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings)

        def attend(rows: Tensor, readable: Tensor) -> Tensor:
            return plain(rows, readable, rel_embeddings=rel_embeddings)[0]

        return attend_as_written(hidden_states, batch, attend), None


PACKED: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    MPNetEncoder: PackedMPNetEncoder,
    MPNetSelfAttention: PackedMPNetSelfAttention,
    DebertaV2Encoder: PackedDebertaEncoder,
    DisentangledSelfAttention: PackedDisentangledSelfAttention,
}
"""What stands in for each class, with the same tensors."""


def pack_own_attention(network: PreTrainedModel) -> None:
    """Have a network's attention run packed rows; copies of the network do so too."""
    for module in network.modules():
        if type(module) in PACKED:
            module.__class__ = PACKED[type(module)]
