"""Rows packed end to end instead of padded: one forward pass over several sequences.

Owns the packed batch, the attention that keeps sequences apart, and prefixes whose keys and values are
computed once and read by every sequence. Does not know what the tokens mean.

Linear layers, norms and embeddings see one row of all tokens, with positions restarted in each sequence;
only attention needs to know where a sequence ends, and there a plain causal mask over each is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel


@dataclass
class Prefix:
    """Keys and values of tokens that stand before every sequence, one pair a layer: (1, heads, tokens, head)."""

    length: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Packed:
    """Sequences end to end: `tokens` and `positions` are (1, total tokens); `ends` index each last token."""

    tokens: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    ends: Tensor
    prefix: Prefix | None = None
    capture: Prefix | None = None
    """Where set, this pass stores its keys and values there instead of only using them."""


def pack(
    sequences: Sequence[Sequence[int]],
    device: torch.device,
    prefix: Prefix | None = None,
    capture: Prefix | None = None,
) -> Packed:
    """Lay token sequences end to end; positions go on from the prefix's length where there is one."""
    lengths = tuple(len(s) for s in sequences)
    if not lengths or min(lengths) == 0:
        raise ValueError("a packed batch needs at least one sequence, and every sequence a token")
    start = prefix.length if prefix is not None else 0
    tokens = torch.tensor([t for s in sequences for t in s], device=device)[None]
    positions = torch.cat([torch.arange(start, start + n) for n in lengths])[None].to(device)
    ends = torch.tensor(lengths, device=device).cumsum(0) - 1
    return Packed(tokens, positions, lengths, ends, prefix, capture)


def run_packed(network: PreTrainedModel, batch: Packed) -> Tensor:
    """Final hidden states of every token, (total tokens, width), as the language-model head reads them."""
    states: Tensor = network.base_model(
        input_ids=batch.tokens, position_ids=batch.positions, use_cache=False, packing=batch
    ).last_hidden_state
    return states[0]


def group_by_tokens(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows, in order, into groups of at most `token_budget` tokens; a longer row stands alone."""
    groups: list[list[int]] = []
    used = token_budget
    for index, length in enumerate(lengths):
        if used + length > token_budget:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += length
    return groups


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that open every sequence alike, leaving each at least one of its own."""
    # What the first and the last in order share, all between them share too.
    ordered = sorted(tuple(s) for s in sequences)
    first, last = ordered[0], ordered[-1]
    limit = min(len(s) for s in sequences) - 1
    count = 0
    while count < limit and first[count] == last[count]:
        count += 1
    return count


def _attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packed | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed sequence; `query` is (1, heads, total tokens, head)."""
    if packing is None:
        raise RuntimeError("this network is set up for packed rows: run it through fewtune.engine.packing")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if packing.capture is not None:
        packing.capture.layers[layer] = (key.detach(), value.detach())
    groups = query.shape[1] // key.shape[1]
    lengths = list(packing.lengths)
    before: tuple[Tensor, Tensor] | None = None
    if packing.prefix is not None:
        before = packing.prefix.layers[layer]
    outputs = []
    for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        mask = None
        if before is not None:
            k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
            mask = mask.tril(k.shape[2] - q.shape[2])
        if groups > 1:
            k, v = _repeat_heads(k, groups), _repeat_heads(v, groups)
        outputs.append(
            F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, dropout_p=dropout
            )
        )
    return torch.cat(outputs, 2).transpose(1, 2), None


def _repeat_heads(x: Tensor, times: int) -> Tensor:
    rows, heads, tokens, size = x.shape
    return x[:, :, None].expand(rows, heads, times, tokens, size).reshape(rows, heads * times, tokens, size)


AttentionInterface.register("fewtune_packed", _attend_packed)
