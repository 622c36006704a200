"""Demonstrations: labelled rows shown before a query, and the text that they make.

Owns their choice and how they are written. In-context learning answers behind them; context distillation teaches with
them. Source: Brown et al. 2020, https://arxiv.org/abs/2005.14165
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewtune.errors import DataError
from fewtune.prompts.tokens import Encoder
from fewtune.tasks.base import Example, Pattern


def choose_demonstrations(support: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """Draw `count` rows, as even over the labels as the support allows, in random order."""
    order = [support[i] for i in rng.permutation(len(support))]
    taken: dict[int, int] = {}
    ranks = []
    for example in order:
        taken[known_label(example)] = taken.get(known_label(example), 0) + 1
        ranks.append(taken[known_label(example)])
    even = sorted(range(len(order)), key=lambda i: ranks[i])[:count]
    return [order[i] for i in rng.permutation(even)]


def write_context(
    encoder: Encoder,
    pattern: Pattern,
    demonstrations: Sequence[Example],
    separator: str,
    instruction: str = "",
) -> str:
    """The text before a query: an instruction where there is one, each demonstration with its label word."""
    parts = [part for part in (instruction, *write_demonstrations(encoder, pattern, demonstrations)) if part]
    return "".join(part + separator for part in parts)


def write_demonstrations(encoder: Encoder, pattern: Pattern, demonstrations: Sequence[Example]) -> list[str]:
    """Each demonstration with its label word."""
    return [
        encoder.shorten(pattern.template, e, encoder.max_tokens) + pattern.label_words[known_label(e)]
        for e in demonstrations
    ]


def count_fitting(
    encoder: Encoder, pattern: Pattern, demonstrations: Sequence[Example], separator: str, instruction: str = ""
) -> int:
    """How many of the first demonstrations the model reads with a row behind them that is as long as the longest.

    `instruction` is what stands before them.
    """
    written = write_demonstrations(encoder, pattern, demonstrations)
    first, *lengths = [
        len(tokens) for tokens in encoder.tokenise([text + separator for text in (instruction, *written)])
    ]
    return count_of_lengths(encoder, lengths, first if instruction else 0)


def count_of_lengths(encoder: Encoder, lengths: Sequence[int], taken: int = 0) -> int:
    """The same of demonstrations of so many tokens each, where so many are `taken` by what stands before them."""
    room = encoder.max_positions - len(encoder.opening) - len(encoder.closing) - max(lengths, default=0) - taken
    return int(np.searchsorted(np.cumsum(lengths), room, side="right"))


def known_label(example: Example) -> int:
    """The label of a row that has one."""
    if example.label is None:
        raise DataError(f"row {example.row_id!r} has no label and cannot be a demonstration")
    return example.label
