"""Rows packed end to end instead of padded: one forward pass over several sequences.

Owns the packed batch, the attention that keeps sequences apart, and prefixes that every sequence reads: their keys
and values are known, or come of embeddings that run once, ahead of all sequences; and caches, which let a sequence go
on in a later pass. Does not know what the tokens mean.

Linear layers, norms and embeddings see one row of all tokens, with positions restarted in each sequence;
only attention needs to know where a sequence ends, and there a plain causal mask over each is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from fewtune.engine.layers import find_blocks

Layers = dict[int, tuple[Tensor, Tensor]]
"""Keys and values by layer, one pair a layer: (1, heads, tokens, head)."""


@dataclass
class Prefix:
    """What stands before every sequence: `length` tokens, real or virtual; its tensors may carry gradients.

    `layers` holds their keys and values. Where these are not known, `embeddings` (tokens, embedding width) stands for
    them, and each pass runs it once, ahead of its sequences.
    """

    length: int
    layers: Layers = field(default_factory=dict)
    embeddings: Tensor | None = None


@dataclass(frozen=True)
class Packed:
    """Sequences end to end: `tokens` is (1, total tokens); `ends` index each last token among them.

    `positions` is (1, tokens run): those of the prefix's embeddings, where it has any, come first.
    """

    tokens: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    ends: Tensor
    prefix: Prefix | None = None
    capture: Prefix | None = None
    """Where set, this pass stores there the keys and values of all that its last sequence reads, itself included."""
    caches: tuple[Layers, ...] = ()
    """One a sequence, where there are any: its own tokens of earlier passes, which it reads after the prefix; this pass
    adds its keys and values there."""

    @property
    def embeddings(self) -> Tensor | None:
        """The prefix's embeddings, which this pass runs first; None where there are none."""
        return self.prefix.embeddings if self.prefix is not None else None

    @property
    def spans(self) -> list[int]:
        """Tokens of each span that this pass runs: the prefix's embeddings, where it has any, then each sequence."""
        return [*([] if self.embeddings is None else [len(self.embeddings)]), *self.lengths]


def pack(
    sequences: Sequence[Sequence[int]],
    device: torch.device,
    prefix: Prefix | None = None,
    caches: Sequence[Layers] = (),
) -> Packed:
    """Lay token sequences end to end; their positions go on from the prefix's length, and from their own caches'.

    Caches are all empty (what these sequences open is kept for later) or none is, and then each sequence is one token.
    """
    lengths = tuple(len(s) for s in sequences)
    if not lengths or min(lengths) == 0:
        raise ValueError("a packed batch needs at least one sequence, and every sequence a token")
    if caches and prefix is not None and prefix.embeddings is not None:
        raise ValueError("sequences that go on in later passes need a prefix whose keys and values are known")
    if any(caches) and (not all(caches) or max(lengths) > 1):
        raise ValueError("sequences that go on from their caches run one token each, and all of them go on")
    start = prefix.length if prefix is not None else 0
    starts = [start + _count_cached(cache) for cache in caches] or [start] * len(lengths)
    tokens = torch.tensor([t for s in sequences for t in s], device=device)[None]
    virtual = start if prefix is not None and prefix.embeddings is not None else 0
    places = [torch.arange(virtual), *(torch.arange(at, at + n) for at, n in zip(starts, lengths, strict=True))]
    positions = torch.cat(places)[None].to(device)
    ends = torch.tensor(lengths, device=device).cumsum(0) - 1
    return Packed(tokens, positions, lengths, ends, prefix, caches=tuple(caches))


def run_packed(network: PreTrainedModel, batch: Packed, block: int | None = None) -> Tensor:
    """Hidden states of every token, (total tokens, width): the final ones, as the language-model head reads them.

    With `block`, counted from 1, what that block puts out instead, (total tokens, width between blocks).
    """
    inputs = {"input_ids": batch.tokens}
    if batch.embeddings is not None:
        words = network.get_input_embeddings()(batch.tokens)
        inputs = {"inputs_embeds": torch.cat([batch.embeddings[None].to(words.dtype), words], 1)}
    with _keep_output(network, block) as kept:
        final: Tensor = network.base_model(
            **inputs, position_ids=batch.positions, use_cache=False, packing=batch
        ).last_hidden_state
    states = final if block is None else kept[0]
    # Readers count from the first sequence: the states of virtual tokens are nobody's.
    return states[0, -batch.tokens.shape[1] :]


@contextmanager
def _keep_output(network: PreTrainedModel, block: int | None) -> Iterator[list[Tensor]]:
    """A list to which that block adds its output, (1, tokens run, width), whenever it runs; none where None."""
    kept: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        # Blocks of some architectures hand on attention weights or a cache besides the states.
        kept.append(output if isinstance(output, Tensor) else output[0])

    if block is None:
        yield kept
        return
    hook = find_blocks(network)[block - 1].register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def capture_prefix(network: PreTrainedModel, batch: Packed) -> Prefix:
    """The keys and values of all that a batch's one sequence reads, itself included."""
    before = batch.prefix.length if batch.prefix is not None else 0
    prefix = Prefix(before + batch.lengths[-1])
    run_packed(network, replace(batch, capture=prefix))
    return prefix


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
    groups = query.shape[1] // key.shape[1]
    spans = packing.spans
    before: tuple[Tensor, Tensor] | None = None
    if packing.prefix is not None and packing.embeddings is None:
        before = packing.prefix.layers[layer]
    if packing.caches and layer in packing.caches[0]:
        return _attend_next(query, key, value, before, packing.caches, layer, scaling).transpose(1, 2), None
    outputs = []
    for index, (q, k, v) in enumerate(
        zip(query.split(spans, 2), key.split(spans, 2), value.split(spans, 2), strict=True)
    ):
        mask = None
        if packing.caches:
            packing.caches[index][layer] = k, v
        if before is not None:
            k, v = torch.cat([before[0].to(k.dtype), k], 2), torch.cat([before[1].to(v.dtype), v], 2)
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
            mask = mask.tril(k.shape[2] - q.shape[2])
        elif packing.embeddings is not None:
            before = k, v  # the first span is the embeddings': every later one reads it
        if packing.capture is not None:
            packing.capture.layers[layer] = (k.detach(), v.detach())
        if groups > 1:
            k, v = _repeat_heads(k, groups), _repeat_heads(v, groups)
        outputs.append(
            F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, dropout_p=dropout
            )
        )
    return torch.cat(outputs, 2).transpose(1, 2), None


def _attend_next(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before: tuple[Tensor, Tensor] | None,
    caches: Sequence[Layers],
    layer: int,
    scaling: float | None,
) -> Tensor:
    """Attention of one token a row over the prefix, its row's cache and itself, (1, heads, rows, head).

    Written out, so that the prefix is read once for all rows where it stands: to lay it before each row's cache at each
    step would copy it rows x steps times.
    """
    heads, rows, size = key.shape[1:]
    if before is None:
        before = key[:, :, :0], value[:, :, :0]
    prefix_keys, prefix_values = before[0][0].to(key.dtype), before[1][0].to(value.dtype)
    # (key heads, query heads a key head, rows, head): query heads that share keys stand together.
    queries = query[0].unflatten(0, (heads, -1)) * (size**-0.5 if scaling is None else scaling)
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


def _count_cached(cache: Layers) -> int:
    return next((keys.shape[2] for keys, _ in cache.values()), 0)


def _repeat_heads(x: Tensor, times: int) -> Tensor:
    rows, heads, tokens, size = x.shape
    return x[:, :, None].expand(rows, heads, times, tokens, size).reshape(rows, heads * times, tokens, size)


AttentionInterface.register("fewtune_packed", _attend_packed)
