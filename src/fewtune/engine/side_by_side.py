"""Pads packed rows into groups of one width for attention, and packs them again.

Owns the layout and the moving. Does not know what is done with the groups (`attention`, `bidirectional`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

ROWS_OF_A_LENGTH = 16
"""Where there are so many sequences for each length among them, groups are of one length, and nothing is padded."""


@dataclass(frozen=True)
class Layout:
    """Sequences padded into groups of (rows, width); a place is one cell, counted through all groups.

    `rows` are each group's sequences, `sources` gives the token at each place, `places` the place of each token.
    `moves` is false where the tokens stand so already.
    """

    groups: tuple[tuple[int, int], ...]
    rows: tuple[tuple[int, ...], ...]
    sources: Tensor
    places: Tensor
    moves: bool

    def lay(self, x: Tensor) -> Tensor:
        """Each place's row of `x` (tokens, …), as (places, …)."""
        return _move(x, self.sources, self.places) if self.moves else x

    def put_back(self, x: Tensor) -> Tensor:
        """Each token's row of `x` (places, …), as (tokens, …)."""
        return _move(x, self.places, self.sources) if self.moves else x

    def lay_gradient(self, gradient: Tensor) -> Tensor:
        """Of what `put_back` gave, (tokens, width), the gradient of what it was given, (places, width)."""
        return _spread(gradient, self.places, len(self.sources)) if self.moves else gradient


@lru_cache(maxsize=8)
def lay_out(lengths: tuple[int, ...], most_padding: float, most_places: int | None, device: torch.device) -> Layout:
    """The layout of sequences of these lengths; cached, as every layer of a pass asks for the same one."""
    starts = [0, *accumulate(lengths)]
    places = torch.empty(starts[-1], dtype=torch.long)
    groups, sources, offset = [], [], 0
    if len(set(lengths)) * ROWS_OF_A_LENGTH <= len(lengths):
        most_padding = 1.0
    grouped = _group_alike(lengths, most_padding, most_places)
    for rows in grouped:
        width = max(lengths[row] for row in rows)
        step = torch.arange(width)
        # Padding repeats the sequence's last token; causal attention never lets a token read it.
        sources += [starts[row] + step.clamp(max=lengths[row] - 1) for row in rows]
        groups.append((len(rows), width))
        for row in rows:
            places[starts[row] : starts[row + 1]] = offset + step[: lengths[row]]
            offset += width
    source = torch.cat(sources)
    moves = not torch.equal(source, torch.arange(starts[-1]))
    return Layout(tuple(groups), tuple(map(tuple, grouped)), source.to(device), places.to(device), moves)


def _group_alike(lengths: Sequence[int], most_padding: float, most_places: int | None) -> list[list[int]]:
    """Group rows of similar lengths, longest first, so that little of a group is padding."""
    groups: list[list[int]] = []
    width = tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        places, tokens = (len(groups[-1]) + 1) * width if groups else 0, tokens + lengths[row]
        if not groups or places > most_padding * tokens or (most_places is not None and places > most_places):
            groups.append([])
            width = tokens = lengths[row]
        groups[-1].append(row)
    return groups


def _move(x: Tensor, take: Tensor, back: Tensor) -> Tensor:
    """Rows of `x` (rows, …) at the indices `take`; `back` holds the inverse, for the backward pass."""
    moved: Tensor = _Move.apply(x.flatten(1), take, back)  # type: ignore[no-untyped-call]
    return moved.view(-1, *x.shape[1:])


class _Move(torch.autograd.Function):
    """Selects rows by index, from tokens to places or back, with a backward pass that selects instead of adding up.

    A token's gradient is that of its own place: padding has none, although it repeats a token.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, take: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(take, back)
        return x.index_select(0, take)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        take, back = ctx.saved_tensors
        if len(take) >= len(back):
            return gradient.index_select(0, back), None, None
        return _spread(gradient, take, len(back)), None, None


def _spread(x: Tensor, places: Tensor, count: int) -> Tensor:
    """Rows of `x` (rows, width) at these of so many places; zeros at the others."""
    return x.new_zeros(count, x.shape[1]).index_copy_(0, places, x)
