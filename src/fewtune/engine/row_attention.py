"""Causal attention of packed rows from joined queries, keys and values, with rotary positions.

Owns that arithmetic forward and backward, for rows that read themselves alone and whose attention is written out; other
attention is `attention`'s. Source of rotations: Su et al. 2021, https://arxiv.org/abs/2104.09864
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fewtune.engine.attention import find_causal_mask
from fewtune.engine.side_by_side import Layout
from fewtune.engine.written_out import softmax


@dataclass(frozen=True)
class Heads:
    """Heads of one block's attention: `key` of them have keys and values, which as many of all share each."""

    all: int
    key: int
    size: int

    @property
    def rotated(self) -> int:
        """Features of a token's queries and keys."""
        return (self.all + self.key) * self.size

    @property
    def width(self) -> int:
        """Features of a token's queries, keys and values."""
        return (self.all + 2 * self.key) * self.size


@dataclass(frozen=True)
class Rotation:
    """What turns queries and keys by their positions: `cos` (tokens, 1, size), `sin` (tokens, 1, 2, size / 2).

    The first half of `sin` is negative: a state's halves change places before they are multiplied.
    """

    cos: Tensor
    sin: Tensor

    @staticmethod
    def of(cos: Tensor, sin: Tensor) -> Rotation:
        """From a network's own tables (tokens, size), whose halves are alike."""
        halves = sin.unflatten(-1, (2, -1))
        return Rotation(cos[:, None], torch.stack([-halves[:, 0], halves[:, 1]], 1)[:, None])

    def times(self, factor: float) -> Rotation:
        """The same, and all states multiplied."""
        return Rotation(self.cos * factor, self.sin * factor)

    def back(self) -> Rotation:
        """The other way."""
        return Rotation(self.cos, -self.sin)

    def lay(self, layout: Layout) -> Rotation:
        """For tokens at the places of a layout."""
        return Rotation(layout.lay(self.cos), layout.lay(self.sin))

    def turn(self, states: Tensor) -> Tensor:
        """Turned states, float32, of (tokens, heads, size), float32."""
        halves = states.unflatten(-1, (2, -1))
        turned: Tensor = (halves.flip(2) * self.sin).flatten(2).addcmul(states, self.cos)
        return turned


@dataclass(frozen=True)
class RowPass:
    """What all blocks of a pass have in common: the layout, and rotations of its places, there and back with scale."""

    layout: Layout
    rotation: Rotation
    back: Rotation
    scale: float

    @staticmethod
    def of(layout: Layout, rotation: Rotation, scale: float) -> RowPass:
        laid = rotation.lay(layout)
        return RowPass(layout, laid, laid.back().times(scale), scale)


class RowAttention(torch.autograd.Function):
    """Outputs (tokens, heads x size) of joined queries, keys and values (tokens, `Heads.width`), in their type."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, rows: RowPass, heads: Heads) -> Tensor:
        layout = rows.layout
        laid = layout.lay(joined)
        turned = rows.rotation.turn(laid[:, : heads.rotated].unflatten(1, (-1, heads.size)).float())
        values = laid[:, heads.rotated :].unflatten(1, (heads.key, -1))
        sharing = heads.all // heads.key
        out = laid.new_empty(len(laid), heads.key, sharing, heads.size)
        kept, start = [], 0
        for count, width in layout.groups:
            places, group = slice(start, start + count * width), (count, width)
            start += count * width
            q, k = turned[places].unflatten(0, group).split([heads.all, heads.key], 2)
            # Query heads that share keys are joined in one product.
            q = _gather(q.unflatten(2, (heads.key, sharing)).permute(2, 0, 3, 1, 4), joined.dtype).flatten(2, 3)
            q, k, v = (
                x.flatten(0, 1)
                for x in (
                    q,
                    _gather(k.permute(2, 0, 1, 3), joined.dtype),
                    _gather(values[places].unflatten(0, group).permute(2, 0, 1, 3), joined.dtype),
                )
            )
            mask = find_causal_mask(width, width, sharing, q.dtype, q.device)
            weights = softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=rows.scale))
            found = torch.bmm(weights, v).view(heads.key, count, sharing, width, heads.size)
            out[places].unflatten(0, group).copy_(found.permute(1, 3, 0, 2, 4))
            kept += [q, k, v, weights]
        ctx.save_for_backward(*kept)
        ctx.rows, ctx.heads = rows, heads
        return layout.put_back(out.flatten(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        heads, layout = ctx.heads, ctx.rows.layout
        laid, sharing = layout.lay_gradient(gradient), heads.all // heads.key
        of_turned = torch.empty(len(laid), heads.all + heads.key, heads.size, device=laid.device)
        of_joined = laid.new_empty(len(laid), heads.width)
        of_values = of_joined[:, heads.rotated :].unflatten(1, (heads.key, -1))
        start, kept = 0, iter(ctx.saved_tensors)
        for count, width in layout.groups:
            places, group = slice(start, start + count * width), (count, width)
            start += count * width
            q, k, v, weights = (next(kept) for _ in range(4))
            of_out = laid[places].view(count, width, heads.key, sharing, heads.size).permute(2, 0, 3, 1, 4)
            of_out = of_out.reshape(heads.key * count, sharing * width, heads.size)
            of_v = torch.bmm(weights.transpose(1, 2), of_out)
            of_weights = torch.bmm(of_out, v.transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_q = torch.bmm(of_scores, k).view(heads.key, count, sharing, width, heads.size)
            of_k = torch.bmm(of_scores.transpose(1, 2), q)
            by_query, by_key = of_turned[places].unflatten(0, group).split([heads.all, heads.key], 2)
            by_query.unflatten(2, (heads.key, sharing)).copy_(of_q.permute(1, 3, 0, 2, 4))
            by_key.copy_(of_k.view(heads.key, count, width, heads.size).permute(1, 2, 0, 3))
            by_value = of_values[places].unflatten(0, group)
            by_value.copy_(of_v.view(heads.key, count, width, heads.size).permute(1, 2, 0, 3))
        of_joined[:, : heads.rotated].copy_(ctx.rows.back.turn(of_turned).flatten(1))
        return layout.put_back(of_joined), None, None


def _gather(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The same in that type, in memory of its own and in order: in one pass."""
    return torch.empty(x.shape, dtype=dtype, device=x.device).copy_(x)
