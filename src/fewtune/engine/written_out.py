"""Attention of rows of one width, computed as plain matrix products.

Owns that arithmetic. What a token may read is its caller's: `attention`, `bidirectional`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor

FLOAT32_FROM = 16
"""Tokens read from which a softmax without gradients is computed in float32: narrower ones are slower that way."""
LARGEST_KEPT_MASK = 1 << 20
"""Elements of the largest mask that callers keep for the layers that follow: of long rows they make it anew."""


def attend_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, dropout: float) -> Tensor:
    """Attention of `q` (rows, width, heads, head), as (rows, width, heads, head).

    `k` and `v` are (key heads, rows, tokens, head). Query heads that share keys are joined in one product: `mask`,
    added to the scaled scores, is (key heads x rows, query heads a key head x width, tokens), each of the first two 1
    where all are alike, or without the first; None where every token reads every other.
    """
    (rows, width, _, size), key_heads = q.shape, k.shape[0]
    queries = q.unflatten(2, (key_heads, -1)).permute(2, 0, 3, 1, 4).reshape(key_heads * rows, -1, size)
    keys = k.flatten(0, 1).transpose(1, 2)
    scores = torch.bmm(queries * scale, keys) if mask is None else torch.baddbmm(mask, queries, keys, alpha=scale)
    weights = F.dropout(softmax(scores), dropout) if dropout else softmax(scores)
    out = torch.bmm(weights, v.flatten(0, 1))
    return out.view(key_heads, rows, -1, width, size).permute(1, 3, 0, 2, 4).reshape(rows, width, -1, size)


def softmax(scores: Tensor) -> Tensor:
    """The softmax over the last dimension, in the type of `scores`.

    On a processor PyTorch's softmax of bfloat16 takes what a row has beyond a multiple of 32 one by one, and that of
    float32 does not (docs/log.md). With gradients both would be kept.
    """
    if scores.requires_grad or scores.device.type != "cpu" or scores.shape[-1] < FLOAT32_FROM:
        return scores.softmax(-1)
    return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
