"""The one scoring loop: prompts in, scores out, whatever the method.

Owns batching for inference and the reuse of tokens that open every prompt. Knows no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from fewtune.engine.branches import count_tokens
from fewtune.engine.forward import Forward
from fewtune.engine.packing import Prefix, group_by_tokens
from fewtune.engine.readouts import Readout


def score_prompts(
    forward: Forward, prompts: Sequence[Sequence[int]], readout: Readout, opening: Sequence[int] = ()
) -> np.ndarray:
    """Scores (rows, labels), float64, of tokenised prompts in the order given.

    Tokens that open every prompt alike (demonstrations) run once, and so does the `opening` of prompts that come few by
    few. A network that never changes is not asked twice, where its scores are kept.
    """
    if not prompts:
        return np.zeros((0, 0))
    prefix, cut = forward.share_opening(prompts, opening)
    work = partial(_score, forward, readout, prefix, cut)
    if forward.cache is None or readout.identity is None:
        return work(prompts)
    return forward.cache.score((readout.identity, cut), prompts, work)


@torch.no_grad()
def _score(
    forward: Forward, readout: Readout, prefix: Prefix | None, cut: int, prompts: Sequence[Sequence[int]]
) -> np.ndarray:
    lengths = [len(prompt) - cut + count_tokens(readout.branches) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    parts: list[np.ndarray] = []
    for group in group_by_tokens([lengths[i] for i in order], forward.options.tokens_per_pass):
        batch = forward.pack([prompts[order[i]][cut:] for i in group], prefix, branches=readout.branches)
        scores = readout.read(forward, forward.hidden_states(batch, readout.token_indices(forward, batch)), batch)
        parts.append(scores.double().cpu().numpy())
    stacked = np.concatenate(parts)
    result = np.empty_like(stacked)
    result[order] = stacked
    return result
