"""Runs one network: in the trial's precision, over packed rows, behind prefixes that are computed once.

Owns how a network is evaluated, the count of tokens it ran, and the order before a row: trainable soft tokens first,
then a shared text prefix. Does not know losses, methods or records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor
from transformers import PreTrainedModel

from fewtune.engine import token_clock
from fewtune.engine.branches import Branches
from fewtune.engine.frozen import FrozenBlocks
from fewtune.engine.fused_llama import FusedLlama
from fewtune.engine.low_rank import find_plain_adapters, run_in_few_products
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.packing import (
    BlockOutput,
    Layers,
    Packed,
    Prefix,
    capture_prefix,
    pack,
    run_packed,
    run_to_block,
    shared_prefix_length,
)
from fewtune.engine.score_cache import NetworkRows, NetworkScores
from fewtune.engine.soft import SoftTokens
from fewtune.engine.splitting import is_split
from fewtune.errors import ModelError
from fewtune.models import Precision
from fewtune.models.architectures import architecture_of
from fewtune.models.architectures.base import Pooling

SHORTEST_PREFIX = 16
"""A shared opening of fewer tokens is not worth a pass of its own."""
MANY_PROMPTS = 24
"""So many are worth a pass over all that they share, though no others begin so."""
MOST_PREFIXES = 16
"""Shared openings whose keys and values are kept, those of a trial's contexts among them."""


class Forward:
    """Runs a network over packed rows, behind soft tokens where given, and counts the tokens it ran.

    With `block`, counted from 1, its states are that block's output, for readouts that need no language-model head.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        precision: Precision,
        soft: SoftTokens | None = None,
        block: int | None = None,
        options: EngineOptions = DEFAULTS,
        cache: NetworkScores | NetworkRows | None = None,
    ) -> None:
        """`cache`: the scores of a network that never changes."""
        self.network = network
        self.soft = soft
        self.block = block
        self.precision = precision
        self.architecture = architecture_of(network)
        self.device = next(network.parameters()).device
        self.tokens_run = 0
        self.options = options
        self.fused = FusedLlama.find(network, options)
        self.frozen = FrozenBlocks(network, options)
        self.cache = cache
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        """By their tokens, the latest used last."""
        self._adapters = find_plain_adapters(network) if options.fused_adapters else []

    @contextlib.contextmanager
    def compute_dtype(self) -> Iterator[None]:
        """The context in which matrix products run in the trial's precision."""
        if self.precision == "float32":
            yield
            return
        with torch.autocast(self.device.type, torch.bfloat16):
            yield

    def pack(
        self,
        sequences: Sequence[Sequence[int]],
        prefix: Prefix | None = None,
        caches: Sequence[Layers] = (),
        branches: Branches | None = None,
    ) -> Packed:
        """Rows end to end, behind the soft tokens, or behind a prefix of `compute_prefix`, which includes them."""
        if prefix is None and self.soft is not None:
            prefix = self.soft.make_prefix()
        first = self.architecture.find_first_position(self.network.config)
        return pack(sequences, self.device, prefix, caches, self.options, branches, first)

    def hidden_states(self, batch: Packed, token_indices: Tensor | None = None) -> Tensor:
        """Hidden states, (total tokens, width), float32: after the final norm, or the output of `block`.

        With `token_indices`, the states of those tokens, (token indices, width): the last block computes no others.
        While gradients are kept, what stands below all that trains is in evaluation mode, and runs once a sequence.
        """
        self._count(batch)
        if self.block is not None:
            states = self._run_to_block(batch, self.block).states
            return (states if token_indices is None else states[token_indices]).float()
        if torch.is_grad_enabled() and self.soft is None:  # soft tokens train below all blocks
            self.frozen.quieten()
        reuses = torch.is_grad_enabled() and self.frozen.count and batch.prefix is None
        resume = self.frozen.run(batch, self._run_to_block) if reuses else None
        return self._run(batch, resume, token_indices)

    def _run(self, batch: Packed, resume: BlockOutput | None = None, token_indices: Tensor | None = None) -> Tensor:
        if self.fused is not None and self.fused.can_run(batch):
            return self.fused.run(batch, self._dtype, resume, token_indices)
        with self.compute_dtype(), run_in_few_products(self._adapters):
            return run_packed(self.network, batch, resume, token_indices).float()

    def _run_to_block(self, batch: Packed, block: int) -> BlockOutput:
        if self.fused is not None and self.fused.can_run(batch):
            return self.fused.run_to_block(batch, block, self._dtype)
        with self.compute_dtype(), run_in_few_products(self._adapters):
            return run_to_block(self.network, batch, block)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if self.precision == "float32" else torch.bfloat16

    @property
    def pooling(self) -> Pooling:
        """Whose state stands for a row."""
        return self.architecture.find_pooling(self.network.config)

    def pooled_indices(self, batch: Packed) -> Tensor:
        """Indices of the tokens, among the batch's, whose states stand for its sequences (`pool`)."""
        if self.pooling == "last_token":
            return batch.ends
        if self.pooling == "first_token":
            return batch.starts
        own = zip(batch.starts.tolist(), batch.own_lengths, strict=True)
        return torch.cat([torch.arange(start, start + length) for start, length in own]).to(self.device)

    def pool(self, states: Tensor, batch: Packed) -> Tensor:
        """One state a sequence, (sequences, width), of those at `pooled_indices`."""
        if self.pooling != "mean":
            return states
        return torch.stack([part.mean(0) for part in states.split(batch.own_lengths)])

    @torch.no_grad()
    def compute_prefix(self, tokens: Sequence[int]) -> Prefix:
        """Keys and values of tokens that open every row, behind the soft tokens, for later batches to read."""
        batch = self.pack([tokens])
        self._count(batch)
        return capture_prefix(batch, self._run)

    def format_states(self, states: Tensor) -> Tensor:
        """States (…, width) as the language-model head reads them, float32."""
        with self.compute_dtype():
            return self.architecture.transform(self.network, states).float()

    def _count(self, batch: Packed) -> None:
        tokens = sum(batch.spans)
        self.tokens_run += tokens
        token_clock.advance(tokens)

    def share_opening(self, prompts: Sequence[Sequence[int]], opening: Sequence[int] = ()) -> tuple[Prefix | None, int]:
        """Run the tokens that open every prompt alike once; the prefix and its own tokens' number.

        Few prompts share no more than `opening`, which others begin with too: what else they have in common is chance.
        None and 0 where the tokens are too few, or prompts are not shared.
        """
        if prompts and self.options.shared_prefix and self.architecture.attention == "causal":
            # Each prompt keeps its last token: a readout may need the state that stands there.
            others = [[*opening, -1]] if len(prompts) == 1 or (opening and len(prompts) < MANY_PROMPTS) else []
            shared = shared_prefix_length([*prompts, *others])
            if shared >= SHORTEST_PREFIX:
                return self._find_prefix(tuple(prompts[0][:shared])), shared
        return None, 0

    def _find_prefix(self, tokens: tuple[int, ...]) -> Prefix:
        """A prefix of `compute_prefix`; the latest are kept where nothing trains, as far as memory has room."""
        trains = self.soft is not None or any(parameter.requires_grad for parameter in self.network.parameters())
        if trains or is_split():  # processes whose memory has unlike room would not run the same
            return self.compute_prefix(tokens)
        prefix = self._prefixes.pop(tokens, None)
        self._prefixes[tokens] = prefix = self.compute_prefix(tokens).copy() if prefix is None else prefix
        while len(self._prefixes) > MOST_PREFIXES or self._prefix_bytes > self.frozen.most_bytes:
            del self._prefixes[next(iter(self._prefixes))]
        return prefix

    @property
    def _prefix_bytes(self) -> int:
        return sum(prefix.size for prefix in self._prefixes.values())

    def head_columns(self, token_ids: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The language-model head's weights (tokens, width) and bias, for these tokens or the vocabulary."""
        head: Any = self.architecture.find_head(self.network)
        if head is None:
            raise ModelError("this model has no language-model head, and says no words. Use a head, or embeddings.")
        weight, bias = head.weight, getattr(head, "bias", None)
        if token_ids is None:
            return weight, bias
        # As rows of an embedding: where its gradients come by row, theirs do too.
        by_row = self.architecture.find_embeddings(self.network).sparse
        return F.embedding(token_ids, weight, sparse=by_row), None if bias is None else bias[token_ids]
