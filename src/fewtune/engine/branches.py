"""Branches: several continuations of each sequence of a batch, each attending to the sequence and to itself.

Owns the tree of them, and which of a word's tokens tell it from others. Label words of several tokens are such: a
prompt is run once, and what the words begin alike too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEM = -1
"""In place of a branch token: the sequence's last token, which all branches go on from."""


@dataclass(frozen=True)
class Branches:
    """A tree of tokens: `tokens[i]` follows token `parents[i]` of the tree, or STEM; parents come before children."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    @property
    def depths(self) -> tuple[int, ...]:
        """How many places behind the sequence's last token each one stands."""
        found: list[int] = []
        for parent in self.parents:
            found.append(1 if parent == STEM else found[parent] + 1)
        return tuple(found)

    @property
    def readable(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of the tree that each one reads: those that lead to it, and itself."""
        found: list[tuple[int, ...]] = []
        for place, parent in enumerate(self.parents):
            found.append((*(() if parent == STEM else found[parent]), place))
        return tuple(found)


def count_tokens(branches: Branches | None) -> int:
    """Tokens of the branches behind one sequence."""
    return 0 if branches is None else len(branches.tokens)


def find_ways_on(words: Sequence[Sequence[int]]) -> dict[tuple[int, ...], list[int]]:
    """By every opening of a word, the empty one first: the tokens with which words go on behind it, each once."""
    ways: dict[tuple[int, ...], list[int]] = {}
    for word in words:
        for end, token in enumerate(word):
            found = ways.setdefault(tuple(word[:end]), [])
            if token not in found:
                found.append(token)
    return ways


def tell_apart(words: Sequence[Sequence[int]]) -> list[list[int]]:
    """The words without what stands behind the last token that tells each from another; none begins another."""
    ways = find_ways_on(words)
    return [
        list(word[: 1 + max(end for end in range(len(word)) if len(ways[tuple(word[:end])]) > 1)]) for word in words
    ]


def branch_words(words: Sequence[Sequence[int]]) -> tuple[Branches | None, list[list[int]]]:
    """The tree of all but each word's last token, and for each token of each word the place that it is predicted at.

    A place is that of a branch token, or STEM. No tree where every word is a single token.
    """
    places: dict[tuple[int, ...], int] = {(): STEM}
    tokens, parents, predicted = list[int](), list[int](), list[list[int]]()
    for word in words:
        for end in range(1, len(word)):
            opening = tuple(word[:end])
            if opening not in places:
                places[opening] = len(tokens)
                tokens.append(opening[-1])
                parents.append(places[opening[:-1]])
        predicted.append([places[tuple(word[:end])] for end in range(len(word))])
    return (Branches(tuple(tokens), tuple(parents)) if tokens else None), predicted
