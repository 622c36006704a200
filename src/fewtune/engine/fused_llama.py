"""A Llama network's pass over packed rows in few large operations, in place of Transformers' own.

Owns which networks and batches it is for, and what blocks of a pass share: rotations, masks, layout. A block's own
arithmetic is `llama_block`'s and `row_attention`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaModel, LlamaRMSNorm

from fewtune.engine import heartbeat
from fewtune.engine.attention import Arithmetic, attend_packed
from fewtune.engine.llama_block import LlamaBlock, can_fuse
from fewtune.engine.options import EngineOptions
from fewtune.engine.packing import BlockOutput, Packed
from fewtune.engine.row_attention import Heads, Rotation, RowAttention, RowPass
from fewtune.engine.side_by_side import lay_out
from fewtune.models.architectures import architecture_of

Attend = Callable[[Tensor], Tensor]


class FusedLlama:
    """A network that runs so; `find` says which do."""

    @staticmethod
    def find(network: PreTrainedModel, options: EngineOptions) -> FusedLlama | None:
        """The same network in few operations; None where it is another's, split, or holds what these do not know."""
        body = architecture_of(network).find_body(network)
        if not options.fused_blocks or type(body) is not LlamaModel or type(body.norm) is not LlamaRMSNorm:
            return None
        if any(type(parameter.data) is not Tensor for parameter in body.parameters()):
            return None  # split among processes
        return FusedLlama(body) if all(can_fuse(block, options.fused_adapters) for block in body.layers) else None

    def __init__(self, body: LlamaModel) -> None:
        self._body: Any = body
        self._blocks = [LlamaBlock(block) for block in body.layers]  # type: ignore[arg-type]

    def can_run(self, batch: Packed) -> bool:
        """Whether a batch runs so: one of a single pass, without soft tokens before its rows."""
        return batch.embeddings is None and not batch.caches

    def run(
        self,
        batch: Packed,
        dtype: torch.dtype,
        resume: BlockOutput | None = None,
        token_indices: Tensor | None = None,
    ) -> Tensor:
        """As `packing.run_packed`, with products in `dtype`; states come out in float32."""
        rows = places = None
        if token_indices is not None and batch.options.last_block_rows_only:
            rows, places = token_indices.unique(return_inverse=True)
        states = self._run_blocks(batch, dtype, resume, len(self._blocks), rows)
        with torch.autocast(states.device.type, enabled=False):
            normed: Tensor = self._body.norm(states)
        return normed if token_indices is None else normed[token_indices if places is None else places]

    def run_to_block(self, batch: Packed, block: int, dtype: torch.dtype) -> BlockOutput:
        """As `packing.run_to_block`."""
        return BlockOutput(block, self._run_blocks(batch, dtype, None, block, None), None)

    def _run_blocks(
        self, batch: Packed, dtype: torch.dtype, resume: BlockOutput | None, end: int, rows: Tensor | None
    ) -> Tensor:
        """Output of the block before `end`, counted from 0; of the tokens `rows` alone where given."""
        with torch.autocast(batch.tokens.device.type, enabled=False):
            states = self._body.embed_tokens(batch.tokens)[0].float() if resume is None else resume.states
            find_attention = self._prepare_attention(states, batch)
            for number in range(0 if resume is None else resume.block, end):
                heartbeat.beat()
                block = self._blocks[number]
                states = block.run(states, find_attention(block), dtype, rows if number == end - 1 else None)
        return states

    def _prepare_attention(self, states: Tensor, batch: Packed) -> Callable[[LlamaBlock], Attend]:
        """What finds each block's attention over a batch."""
        cos, sin = (each[0].float() for each in self._body.rotary_emb(states[None], position_ids=batch.positions))
        rotation = Rotation.of(cos, sin)
        if batch.prefix is None and batch.capture is None and batch.branches is None:
            layout = lay_out(batch.lengths, batch.options.most_padding, None, states.device)
            if max(batch.lengths) <= batch.options.longest_written_out:
                rows = RowPass.of(layout, rotation, self._blocks[0].scale)
                return lambda block: partial(_attend_rows, rows, block.heads)
        return lambda block: partial(_attend, batch, rotation, block)


def _attend_rows(rows: RowPass, heads: Heads, joined: Tensor) -> Tensor:
    out: Tensor = RowAttention.apply(joined, rows, heads)  # type: ignore[no-untyped-call]
    return out


def _attend(batch: Packed, rotation: Rotation, block: LlamaBlock, joined: Tensor) -> Tensor:
    """Attention of any batch, from joined queries, keys and values."""
    heads = block.heads
    by_head = joined[:, : heads.rotated].unflatten(1, (-1, heads.size))
    query, key = rotation.turn(by_head.float()).split([heads.all, heads.key], 1)
    value = joined[:, heads.rotated :].unflatten(1, (-1, heads.size))
    query, key, value = (each.transpose(0, 1)[None] for each in (query, key, value))
    out = attend_packed(block.layer, query, key, value, batch, Arithmetic(block.scale, 0.0, batch.options))
    return out[0].flatten(1).to(joined.dtype)
