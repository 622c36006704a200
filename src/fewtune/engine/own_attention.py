"""Runs a network's own attention class (MPNet, DeBERTa) over packed rows.

Owns which classes these are, and what stands in for them. DeBERTa's arithmetic stays Transformers' own: packed rows are
laid side by side around it (`bidirectional.attend_as_written`). MPNet's linear layers run on packed tokens, and its
scores are those of all encoders with a bias (`bidirectional.attend_with_bias`). Without a packed batch both do what
they did.
Networks that take their attention by a name need none of this.

What stands in is a subclass, which a layer becomes: a layer that held the old one would rename its tensors, and a
function put into one layer would stay bound to it in copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder, DisentangledSelfAttention
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from fewtune.engine.bidirectional import ByWidth, attend_as_written, attend_with_bias
from fewtune.engine.packing import RUNNING_BATCH


class PackedMPNetEncoder(MPNetEncoder):
    """Its layers ask for the biases of distances by width: for all packed tokens at once they would be huge."""

    def compute_position_bias(self, x: Tensor, *rest: Any, **named: Any) -> Tensor | ByWidth:
        plain: Callable[..., Tensor] = super().compute_position_bias
        return plain(x, *rest, **named) if RUNNING_BATCH.get() is None else _make_once_a_width(plain)


class PackedMPNetSelfAttention(MPNetSelfAttention):
    """Attention whose scores have a bias by the distance between two tokens of a row."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | ByWidth | None = None,
        output_attentions: bool = False,
        **named: Any,
    ) -> tuple[Tensor, ...]:
        batch = RUNNING_BATCH.get()
        if batch is None:
            plain: Callable[..., tuple[Tensor, ...]] = super().forward
            return plain(hidden_states, attention_mask, position_bias, output_attentions, **named)
        assert callable(position_bias)
        by_head = [
            each(hidden_states[0]).unflatten(-1, (self.num_attention_heads, -1)) for each in (self.q, self.k, self.v)
        ]
        return (self.o(attend_with_bias(by_head, batch, position_bias, self.dropout.p if self.training else 0.0)),)


class PackedDebertaEncoder(DebertaV2Encoder):
    """Its layers ask for distances by width, and are told by row what may be read."""

    def get_attention_mask(self, attention_mask: Tensor) -> Tensor:
        plain: Callable[[Tensor], Tensor] = super().get_attention_mask
        return plain(attention_mask) if RUNNING_BATCH.get() is None else attention_mask

    def get_rel_pos(self, *given: Any, **named: Any) -> Tensor | ByWidth | None:
        plain: Callable[..., Tensor] = super().get_rel_pos
        return plain(*given, **named) if RUNNING_BATCH.get() is None else _make_once_a_width(plain)


class PackedDisentangledSelfAttention(DisentangledSelfAttention):
    """Scores of content and of distances apart (He et al. 2021, https://arxiv.org/abs/2006.03654)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | ByWidth | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        plain: Callable[..., tuple[Tensor, Tensor | None]] = super().forward
        batch = RUNNING_BATCH.get()
        if batch is None:
            return plain(hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings)
        assert callable(relative_pos)

        def attend(rows: Tensor, readable: Tensor) -> Tensor:
            return plain(rows, readable, relative_pos=relative_pos(rows), rel_embeddings=rel_embeddings)[0]

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


def _make_once_a_width(make: ByWidth) -> ByWidth:
    made: dict[int, Tensor] = {}

    def make_once(rows: Tensor) -> Tensor:
        width = rows.shape[1]
        if width not in made:
            made[width] = make(rows)
        return made[width]

    return make_once
