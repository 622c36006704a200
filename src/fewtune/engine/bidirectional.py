"""Bidirectional attention over packed rows: every token reads all of its own sequence, or those near it.

Owns that arithmetic, and how attention that knows padded rows alone runs over packed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import AttentionInterface

from fewtune.engine import heartbeat
from fewtune.engine.packing import Packed
from fewtune.engine.side_by_side import lay_out
from fewtune.engine.written_out import LARGEST_KEPT_MASK, attend_written_out

BIDIRECTIONAL = "fewtune_packed_bidirectional"
"""The name under which Transformers finds it."""
PLACES_AS_WRITTEN = 1024
"""Most places, filling included, in a call of a class's own attention: DeBERTa's copies its distances for each row."""
PLACES_WITH_BIAS = 4096
"""Most places in a group whose scores have a bias: they are written out, however long rows are."""
ByWidth = Callable[[Tensor], Tensor]
"""What layers of one pass share of rows (rows, tokens, …) with so many tokens, made once."""


def _attend_bidirectionally(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packed | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of every token to all of its sequence, or to those under `sliding_window` away.

    `query` is (1, heads, total tokens, head); what it gives is (1, total tokens, heads, head).
    """
    heartbeat.beat()
    if packing is None:
        raise RuntimeError("this network is set up for packed rows: run it through fewtune.engine.packing")
    scale = query.shape[3] ** -0.5 if scaling is None else scaling

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if q.shape[1] <= packing.options.longest_written_out:
            added = None if mask is None else _bar(mask, q.shape[2], k.shape[2], q.dtype)
            k, v = (x.permute(2, 0, 1, 3) for x in (k, v))
            return attend_written_out(q, k, v, added, scale, dropout)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, dropout_p=dropout, enable_gqa=True
        ).transpose(1, 2)

    by_token = [x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value)]
    return _attend_in_groups(by_token, packing, attend, sliding_window)[None], None


def attend_with_bias(by_token: Sequence[Tensor], packing: Packed, find_bias: ByWidth, dropout: float) -> Tensor:
    """Attention with a bias on its scores, (1, total tokens, heads x head), of queries, keys and values.

    These are (total tokens, heads, head); `find_bias` gives the biases (1, heads, width, width) of rows (1, width, …).
    """
    heartbeat.beat()
    scale = by_token[0].shape[2] ** -0.5

    def attend(q: Tensor, k: Tensor, v: Tensor, readable: Tensor | None) -> Tensor:
        added = find_bias(q[:1]).to(q.dtype).transpose(0, 1)  # (heads, 1, width, width)
        if readable is not None:
            barred = torch.zeros(readable.shape, dtype=q.dtype, device=q.device).masked_fill_(~readable, float("-inf"))
            added = added + barred[:, 0]
        added = added.expand(-1, len(q), -1, -1).flatten(0, 1)
        k, v = (x.permute(2, 0, 1, 3) for x in (k, v))
        return attend_written_out(q, k, v, added, scale, dropout)

    return _attend_in_groups(by_token, packing, attend, most_places=PLACES_WITH_BIAS).flatten(1)[None]


def attend_as_written(states: Tensor, packing: Packed, attend: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What an attention layer makes of packed states, both (1, total tokens, width), that knows padded rows alone.

    `attend` takes rows (rows, tokens, width), and which tokens each row's tokens read, (rows, 1, 1, tokens), or
    (1, 1, 1, 1) where they read all; it gives what it took.
    """
    heartbeat.beat()

    def attend_padded(rows: Tensor, mask: Tensor | None) -> Tensor:
        whole = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=rows.device)
        return attend(rows, whole if mask is None else mask)

    return _attend_in_groups([states[0]], packing, attend_padded, most_places=PLACES_AS_WRITTEN)[None]


def _attend_in_groups(
    tensors: Sequence[Tensor],
    packing: Packed,
    attend: Callable[..., Tensor],
    window: int | None = None,
    most_places: int | None = None,
) -> Tensor:
    """Bidirectional attention of tensors (total tokens, …), laid side by side in groups of rows of one width.

    `attend` takes each tensor's rows, (rows, width, …), and the mask of `_make_whole_mask`; it gives (rows, width, …).
    """
    device = tensors[0].device
    layout = lay_out(packing.lengths, packing.options.most_padding, most_places, device)
    laid = [layout.lay(x) for x in tensors]
    outputs, start = [], 0
    for rows, (count, width) in zip(layout.rows, layout.groups, strict=True):
        own = tuple(packing.own_lengths[row] for row in rows)
        group = (x[start : start + count * width].unflatten(0, (count, width)) for x in laid)
        make = _make_whole_mask if count * width * width > LARGEST_KEPT_MASK else _find_whole_mask
        outputs.append(attend(*group, make(own, width, window, device)).flatten(0, 1))
        start += count * width
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    if packing.after_attention is not None:
        packing.after_attention()
    return layout.put_back(joined)


def _make_whole_mask(lengths: tuple[int, ...], width: int, window: int | None, device: torch.device) -> Tensor | None:
    """True where a token may read, (rows, 1, 1 or width, width); None where every token reads every other."""
    places = torch.arange(width)
    near = None if window is None or window >= width else (places[:, None] - places).abs() < window
    if min(lengths) == width and near is None:
        return None
    mask = (places < torch.tensor(lengths)[:, None])[:, None, None]
    if near is not None:
        # Filling has tokens of its own row in no window, and a row of nothing to read would be no number.
        mask = (mask & near) | torch.eye(width, dtype=torch.bool)
    return mask.to(device)


_find_whole_mask = lru_cache(maxsize=32)(_make_whole_mask)
"""The same mask for all layers of a pass."""


def _bar(readable: Tensor, heads: int, key_heads: int, dtype: torch.dtype) -> Tensor:
    """0 where a token may read and -inf elsewhere, as `attend_written_out` takes it, of a mask (rows, 1, width, width).

    A mask's third dimension is 1 where a row's tokens all read the same.
    """
    barred = torch.zeros(readable.shape, dtype=dtype, device=readable.device).masked_fill_(~readable, float("-inf"))
    return barred[:, 0].repeat(key_heads, heads // key_heads if readable.shape[2] > 1 else 1, 1)


AttentionInterface.register(BIDIRECTIONAL, _attend_bidirectionally)
