"""Greedy generation: the one loop that continues prompts token by token.

Owns which rows still write, and the cache of keys and values that each row keeps between steps. Knows no method and no
tokenizer: the caller says when a row is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses

from fewtune.engine.forward import Forward
from fewtune.engine.packing import Layers, Prefix, group_by_tokens


@torch.no_grad()
def generate_greedily(
    forward: Forward,
    prompts: Sequence[Sequence[int]],
    max_tokens: Sequence[int],
    stop: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """The likeliest tokens after each prompt, in the order given: at most its `max_tokens`, the last one included.

    `stop(written)` is asked after each token whether a row is finished. Tokens that open every prompt alike run once,
    as does every other token; rows run in groups whose prompts and answers fit one pass.
    """
    prefix, cut = forward.share_opening(prompts)
    written: list[list[int]] = [[] for _ in prompts]
    lengths = [len(p) - cut + most for p, most in zip(prompts, max_tokens, strict=True)]
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    for group in group_by_tokens([lengths[i] for i in order], forward.options.tokens_per_pass):
        rows = [order[i] for i in group]
        answers = _write(forward, prefix, [prompts[i][cut:] for i in rows], [max_tokens[i] for i in rows], stop)
        for i, answer in zip(rows, answers, strict=True):
            written[i] = answer
    return written


def _write(
    forward: Forward,
    prefix: Prefix | None,
    prompts: Sequence[Sequence[int]],
    max_tokens: Sequence[int],
    stop: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in prompts]
    caches: list[Layers] = [{} for _ in prompts]
    unread = list(prompts)
    weight, bias = forward.head_columns()
    writing = [i for i, most in enumerate(max_tokens) if most > 0]
    while writing:
        batch = forward.pack([unread[i] for i in writing], prefix, [caches[i] for i in writing])
        last = forward.hidden_states(batch, batch.ends)
        # Logits themselves: normalising them could round two that differ to a tie.
        for i, token in zip(writing, F.linear(last, weight.float(), bias).argmax(-1).tolist(), strict=True):
            written[i].append(token)
            unread[i] = [token]
        writing = [i for i in writing if len(written[i]) < max_tokens[i] and not stop(written[i])]
    return written
