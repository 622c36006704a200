"""Features of a pair of texts, made of their two embeddings.

Owns the features: both embeddings, their absolute difference and their product, number by number, and their cosine.
What reads pairs of texts so is older than networks that read them as one. Source: Conneau et al. 2017,
https://arxiv.org/abs/1705.02364 (both, difference and product).
"""

from __future__ import annotations

import numpy as np

PARTS = 4


def compare_embeddings(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Features (rows, 4 width + 1) of two embeddings of length one (rows, width) each.

    The four parts are about as long as one another, and the cosine counts as much as all of them together: hundreds of
    numbers say in few rows what it says in one.
    """
    product = first * second
    parts = [first, second, np.abs(first - second), product * first.shape[1] ** 0.5]
    return np.concatenate([*(part / PARTS**0.5 for part in parts), product.sum(axis=1, keepdims=True)], axis=1)


def count_features(width: int) -> int:
    """How many features are made of embeddings of a width."""
    return PARTS * width + 1
