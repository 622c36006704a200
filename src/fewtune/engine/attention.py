"""Causal attention over packed rows: within each sequence, after a shared prefix, and along its branches.

Owns that arithmetic. Does not know how sequences come to stand side by side (`side_by_side`), what else a network does
with a packed batch (`packing`), nor what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import AttentionInterface

from fewtune.engine import heartbeat
from fewtune.engine.branches import Branches
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.packing import KeysValues, Layers, Packed
from fewtune.engine.side_by_side import lay_out
from fewtune.engine.to_device import to_device
from fewtune.engine.written_out import LARGEST_KEPT_MASK, attend_written_out
from fewtune.errors import ModelError

CAUSAL = "fewtune_packed"
"""The name under which Transformers finds it."""
PLACES_BEHIND_PREFIX = 256
"""Most places that read a prefix at once: their scores, (heads, places, prefix tokens), are held in memory."""
MOST_SCORES = 1 << 25
"""Most scores of rows behind a prefix, (rows, heads, width, tokens), that are written out; of more a kernel of PyTorch
holds none, where it drops no weights."""
MOST_BRANCH_SCORES = 1 << 18
"""Most scores of branches, a head, that are held in memory at once; those of one sequence in any case."""


@dataclass(frozen=True)
class Arithmetic:
    """How attention is computed: scores are multiplied by `scale`, a share `dropout` of the weights is dropped."""

    scale: float
    dropout: float = 0.0
    options: EngineOptions = DEFAULTS


def _attend_packed(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packed | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each packed sequence; `query` is (1, heads, total tokens, head).

    Raises ModelError where a model's attention is another: capped, with sinks, or over a window that rows exceed.
    """
    heartbeat.beat()
    if packing is None:
        raise RuntimeError("this network is set up for packed rows: run it through fewtune.engine.packing")
    if softcap is not None or s_aux is not None:
        raise ModelError(
            "this model caps its attention or gives it sinks, which fewtune does not reproduce yet. Use another model."
        )
    if sliding_window is not None and packing.reach > sliding_window:
        raise ModelError(
            f"a row has {packing.reach} tokens with all that stands before it, and this model's attention reads no "
            f"more than {sliding_window} back, which fewtune does not reproduce yet. Use fewer demonstrations, lower "
            "max_tokens, or another model."
        )
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    how = Arithmetic(scale, dropout, packing.options)
    return attend_packed(int(module.layer_idx), query, key, value, packing, how), None  # type: ignore[arg-type]


def attend_packed(layer: int, query: Tensor, key: Tensor, value: Tensor, packing: Packed, how: Arithmetic) -> Tensor:
    """Attention of one layer over a packed batch, (1, total tokens, heads, head), of queries, keys and values.

    These are (1, heads, total tokens, head). What the batch captures or caches is kept.
    """
    before = packing.prefix.layers[layer] if packing.prefix is not None and packing.embeddings is None else None
    if packing.caches and layer in packing.caches[0]:
        return _attend_next(query * how.scale, key, value, before, packing.caches, layer).transpose(1, 2)
    outputs = []
    if packing.embeddings is not None:
        # Virtual tokens run first and read one another; then every sequence reads them.
        virtual = [len(packing.embeddings), query.shape[2] - len(packing.embeddings)]
        first, query = query.split(virtual, 2)
        first_key, key = key.split(virtual, 2)
        first_value, value = value.split(virtual, 2)
        outputs.append(attend_rows(first, first_key, first_value, None, virtual[:1], how))
        before = first_key, first_value
    if packing.capture is not None:
        own = slice(sum(packing.lengths[:-1]), sum(packing.lengths))
        keys, values = key[:, :, own].detach(), value[:, :, own].detach()
        packing.capture.layers[layer] = _put_before(before, keys, values)
    if packing.caches:
        kept = zip(key.split(packing.lengths, 2), value.split(packing.lengths, 2), strict=True)
        for cache, pair in zip(packing.caches, kept, strict=True):
            cache[layer] = pair
    if packing.branches is None:
        outputs.append(attend_rows(query, key, value, before, packing.lengths, how))
    else:
        parts = [sum(packing.lengths), packing.branch_tokens * len(packing.lengths)]
        (query, branch_query), (key, branch_key), (value, branch_value) = (
            x.split(parts, 2) for x in (query, key, value)
        )
        outputs.append(attend_rows(query, key, value, before, packing.lengths, how))
        stem = Stem(key, value, before, packing.lengths, tuple(packing.own_lengths))
        outputs.append(attend_branches(branch_query, branch_key, branch_value, stem, packing.branches, how))
    if packing.after_attention is not None:
        packing.after_attention()
    return (torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]).transpose(1, 2)


def attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before: KeysValues | None,
    lengths: Sequence[int],
    how: Arithmetic,
) -> Tensor:
    """Attention of each sequence over the prefix `before` and its own earlier tokens, (1, heads, total tokens, head).

    `query` has that shape; `key` and `value` are (1, key heads, total tokens, head); `before` is as in `Prefix.layers`.
    """
    most_places = None if before is None else PLACES_BEHIND_PREFIX
    layout = lay_out(tuple(lengths), how.options.most_padding, most_places, query.device)
    # All heads of a token are one row, which moves as a whole, in the compute dtype.
    laid = [layout.lay(x[0].transpose(0, 1).to(value.dtype)) for x in (query, key, value)]
    if before is not None:
        before = before[0].to(value.dtype), before[1].to(value.dtype)
    outputs, start = [], 0
    for rows, width in layout.groups:
        q, k, v = (x[start : start + rows * width].unflatten(0, (rows, width)) for x in laid)
        outputs.append(_attend_group(q, k, v, before, how))
        start += rows * width
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return layout.put_back(joined).transpose(0, 1)[None]


@dataclass(frozen=True)
class Stem:
    """What branches go on from: keys and values of all sequences, (1, key heads, total tokens, head), and the prefix.

    Of a sequence's `lengths` tokens the first `own_lengths` are its own, the rest filling.
    """

    key: Tensor
    value: Tensor
    before: KeysValues | None
    lengths: tuple[int, ...]
    own_lengths: tuple[int, ...]


def attend_branches(
    query: Tensor, key: Tensor, value: Tensor, stem: Stem, branches: Branches, how: Arithmetic
) -> Tensor:
    """Attention of the branches behind each sequence, (1, heads, sequences x branch tokens, head), shaped as `query`.

    Each token reads the prefix, its sequence, and the branch tokens that lead to it.
    """
    count = len(branches.tokens)
    q, own_k, own_v = (x[0].transpose(0, 1).to(value.dtype).unflatten(0, (-1, count)) for x in (query, key, value))
    k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (stem.key, stem.value))
    before = () if stem.before is None else tuple(x[0].transpose(0, 1).to(value.dtype) for x in stem.before)
    first = 0 if stem.before is None else stem.before[0].shape[2]
    layout = lay_out(stem.lengths, how.options.most_padding, None, query.device)
    k, v = (layout.lay(x) for x in (k, v))
    outputs, start = [], 0
    for rows, (size, width) in zip(layout.rows, layout.groups, strict=True):
        keys, values = (x[start : start + size * width].unflatten(0, (size, width)) for x in (k, v))
        start += size * width
        most = max(1, MOST_BRANCH_SCORES // (count * (first + width + count)))
        for at in range(0, size, most):
            chosen = to_device(torch.tensor(rows[at : at + most]), query.device)
            parts = [[x.expand(len(chosen), -1, -1, -1)] for x in before] or [[], []]
            joined = [
                torch.cat([*part, stems[at : at + most], x[chosen]], 1).permute(2, 0, 1, 3)
                for part, stems, x in zip(parts, (keys, values), (own_k, own_v), strict=True)
            ]
            lengths = tuple(stem.own_lengths[row] for row in rows[at : at + most])
            mask = _make_branch_mask(lengths, width, first, branches, q.dtype, q.device)
            mask = mask.repeat(own_k.shape[2], q.shape[2] // own_k.shape[2], 1)
            out = attend_written_out(q[chosen], joined[0], joined[1], mask, how.scale, how.dropout)
            outputs.append(out.flatten(0, 1))
    order = to_device(torch.tensor([row for rows in layout.rows for row in rows]), query.device)
    by_row = torch.cat(outputs).unflatten(0, (-1, count))
    ordered: Tensor = by_row[order.argsort()]
    return ordered.flatten(0, 1).transpose(0, 1)[None]


@lru_cache(maxsize=16)
def _make_branch_mask(
    lengths: tuple[int, ...], width: int, first: int, branches: Branches, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """0 where a branch token may read and -inf elsewhere, (sequences, branch tokens, tokens); cached for all layers.

    Tokens are the `first` of the prefix, `width` of the sequence with its filling, and the branches.
    """
    count = len(branches.tokens)
    filling = torch.arange(width) >= torch.tensor(lengths)[:, None]
    apart = torch.ones(count, count, dtype=torch.bool)
    for place, readable in enumerate(branches.readable):
        apart[place, list(readable)] = False
    barred = torch.cat(
        [
            torch.zeros(len(lengths), count, first, dtype=torch.bool),
            filling[:, None].expand(-1, count, -1),
            apart.expand(len(lengths), -1, -1),
        ],
        2,
    )
    return torch.zeros(barred.shape, dtype=dtype).masked_fill_(barred, float("-inf")).to(device)


def _attend_group(q: Tensor, k: Tensor, v: Tensor, before: KeysValues | None, how: Arithmetic) -> Tensor:
    """Causal attention of padded rows of one width, (rows x width, heads, head).

    `q` is (rows, width, heads, head), `k` and `v` (rows, width, key heads, head).
    """
    rows, width, heads = q.shape[:3]
    tokens = width if before is None else width + before[0].shape[2]
    if width > how.options.longest_written_out and (before is None or rows * heads * width * tokens > MOST_SCORES):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mask = None
        if before is not None:
            k, v = (torch.cat([x.expand(rows, -1, -1, -1), y], 2) for x, y in zip(before, (k, v), strict=True))
            mask = torch.ones(width, tokens, dtype=torch.bool, device=q.device).tril(tokens - width)
            if q.device.type == "cuda":  # whose kernels for a mask know no shared keys
                k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
        out = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, scale=how.scale, dropout_p=how.dropout, enable_gqa=True
        )
        return out.transpose(1, 2).flatten(0, 1)
    k, v = (x.permute(2, 0, 1, 3) for x in (k, v))  # (key heads, rows, width, head)
    if before is not None:
        # A copy of the prefix for every row is simpler than reading it in place, and no slower.
        first_keys, first_values = (x[0][:, None].expand(-1, rows, -1, -1) for x in before)
        k, v = torch.cat([first_keys, k], 2), torch.cat([first_values, v], 2)
    sharing = heads // k.shape[0]
    make = _make_mask if sharing * width * tokens > LARGEST_KEPT_MASK else find_causal_mask
    mask = make(width, tokens, sharing, q.dtype, q.device)
    return attend_written_out(q, k, v, mask, how.scale, how.dropout).flatten(0, 1)


def _make_mask(width: int, tokens: int, heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a query may read and -inf elsewhere, (heads x width, tokens).

    The last `width` tokens are the queries' own, each of which reads those before it and all others.
    """
    later = torch.full((width, width), float("-inf"), dtype=dtype, device=device).triu(1)
    return F.pad(later, (tokens - width, 0)).repeat(heads, 1)


find_causal_mask = lru_cache(maxsize=32)(_make_mask)
"""The same mask for all layers of a pass."""


def _put_before(before: KeysValues | None, keys: Tensor, values: Tensor) -> KeysValues:
    """Keys and values, (1, heads, tokens, head), with those of the prefix in front."""
    if before is None:
        return keys, values
    return torch.cat([before[0].to(keys.dtype), keys], 2), torch.cat([before[1].to(values.dtype), values], 2)


def _attend_next(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before: KeysValues | None,
    caches: Sequence[Layers],
    layer: int,
) -> Tensor:
    """Attention of one new token a row over the prefix, its row's cache and itself, (1, heads, rows, head).

    `query` is scaled already. Written out so that all rows read the prefix in place: joining it with each row's cache
    would copy it rows x steps times.
    """
    heads, rows = key.shape[1:3]
    if before is None:
        before = key[:, :, :0], value[:, :, :0]
    prefix_keys, prefix_values = before[0][0].to(key.dtype), before[1][0].to(value.dtype)
    # (key heads, query heads a key head, rows, head): query heads that share keys stand together.
    queries = query[0].unflatten(0, (heads, -1))
    over_prefix = (queries.flatten(1, 2) @ prefix_keys.transpose(1, 2)).unflatten(1, (-1, rows))
    for_prefix, outputs = [], []
    for row, cache in enumerate(caches):
        k = torch.cat([cache[layer][0], key[:, :, row : row + 1]], 2)
        v = torch.cat([cache[layer][1], value[:, :, row : row + 1]], 2)
        cache[layer] = k, v
        own = queries[:, :, row] @ k[0].transpose(1, 2)
        weights = torch.cat([over_prefix[:, :, row], own], 2).softmax(2, dtype=torch.float32).to(v.dtype)
        of_prefix, of_own = weights.split([prefix_keys.shape[1], k.shape[2]], 2)
        for_prefix.append(of_prefix)
        outputs.append(of_own @ v[0])
    from_prefix = torch.stack(for_prefix, 2).flatten(1, 2) @ prefix_values
    from_own = torch.stack(outputs, 2)
    return (from_own + from_prefix.view_as(from_own)).flatten(0, 1)[None]


AttentionInterface.register(CAUSAL, _attend_packed)
