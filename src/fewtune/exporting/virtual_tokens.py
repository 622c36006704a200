"""Writes a soft prompt as extra vocabulary entries, so that any tool can use it.

Owns the words' names and rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedModel

from fewtune.models.architectures import architecture_of


def add_virtual_tokens(tokenizer: Tokenizer, count: int) -> list[int]:
    """Add so many words to a tokenizer, and give their ids."""
    names = [f"<|virtual token {number}|>" for number in range(count)]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    ids = [tokenizer.token_to_id(name) for name in names]
    return [token for token in ids if token is not None]


def embed_virtual_tokens(network: PreTrainedModel, ids: Sequence[int], vectors: torch.Tensor) -> None:
    """Give words of these ids these embeddings (words, width), as they come out of the embedding layer."""
    embeddings = architecture_of(network).find_embeddings(network)
    rows = max(embeddings.num_embeddings, max(ids) + 1)
    if rows > embeddings.num_embeddings:
        network.resize_token_embeddings(rows, mean_resizing=False)
        embeddings = architecture_of(network).find_embeddings(network)
    held: Any = embeddings
    scale = float(getattr(held, "embed_scale", 1.0))  # Gemma multiplies what it looks up
    with torch.no_grad():
        embeddings.weight[list(ids)] = vectors.to(embeddings.weight) / scale
