"""The plain path: Transformers' own network in float32, right-padded rows, the whole vocabulary, an ordinary loop.

Owns a reference that shares no arithmetic with the engine. Does not know what it is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import AutoModelForCausalLM

from fewtune.engine.schedule import Optimisation, rate_factor
from fewtune.models import ModelSnapshot

FILLER = 0
"""The token that fills up a row; it is masked."""


def load_network(place: ModelSnapshot) -> Any:
    """The model with its language-model head and PyTorch's scaled-dot-product attention."""
    return AutoModelForCausalLM.from_pretrained(place.path, dtype=torch.float32, attn_implementation="sdpa")


def read_words(network: Any, prompts: Sequence[Sequence[int]], words: Sequence[int]) -> Tensor:
    """Log-probabilities of label words (rows, labels) under the whole vocabulary, after prompts padded on the right."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[*p, *[FILLER] * (width - len(p))] for p in prompts])
    lengths = torch.tensor([len(p) for p in prompts])
    mask = (torch.arange(width) < lengths[:, None]).long()
    logits = network(input_ids=tokens, attention_mask=mask).logits
    last = logits[torch.arange(len(prompts)), lengths - 1]
    found: Tensor = last.log_softmax(-1)[:, list(words)]
    return found


@torch.no_grad()
def score_rows(
    network: Any, prompts: Sequence[Sequence[int]], words: Sequence[int], rows_a_pass: int = 1
) -> np.ndarray:
    """Log-probabilities over the labels (rows, labels), float64."""
    network.eval()
    starts = range(0, len(prompts), rows_a_pass)
    read = torch.cat([read_words(network, prompts[start : start + rows_a_pass], words) for start in starts])
    normalised: np.ndarray = read.double().log_softmax(-1).numpy()
    return normalised


def fit_words(
    network: Any,
    batches: Sequence[tuple[Sequence[Sequence[int]], Sequence[int]]],
    words: Sequence[int],
    options: Optimisation,
    learning_rate: float,
) -> list[float]:
    """Train all weights on batches (prompts, labels) of label words; the loss of each step."""
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=options.weight_decay)
    losses = []
    for step, (prompts, labels) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rate_factor(step, len(batches), options)
        loss = F.cross_entropy(read_words(network, prompts, words), torch.tensor(labels))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses
