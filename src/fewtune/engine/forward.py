"""One network being run: precision, token count, what stands before every row, and prefixes computed once.

Owns how a network is evaluated under the trial's precision, and that trainable soft tokens come before a shared text
prefix and both before the rows. Does not know losses, methods or records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fewtune.engine.packing import Packed, Prefix, capture_prefix, pack, run_packed
from fewtune.engine.soft import SoftTokens
from fewtune.models import Precision


class Forward:
    """Runs a network over packed rows, behind soft tokens where given, and counts the tokens it ran.

    With `block`, counted from 1, its states are what that block puts out, for readers that need no language-model head.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        precision: Precision,
        soft: SoftTokens | None = None,
        block: int | None = None,
    ) -> None:
        self.network = network
        self.soft = soft
        self.block = block
        self.precision = precision
        self.device = next(network.parameters()).device
        self.tokens_run = 0

    def compute_dtype(self) -> contextlib.AbstractContextManager[object]:
        """The context in which matrix products run in the trial's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def pack(self, sequences: Sequence[Sequence[int]], prefix: Prefix | None = None) -> Packed:
        """Rows end to end, behind the soft tokens or behind a prefix of `compute_prefix`, which begins with them."""
        if prefix is None and self.soft is not None:
            prefix = self.soft.make_prefix()
        return pack(sequences, self.device, prefix)

    def hidden_states(self, batch: Packed) -> Tensor:
        """Hidden states, (total tokens, width), float32: final, after the last norm, or as the block puts them out."""
        self.tokens_run += sum(batch.spans)
        with self.compute_dtype():
            return run_packed(self.network, batch, self.block).float()

    @torch.no_grad()
    def compute_prefix(self, tokens: Sequence[int]) -> Prefix:
        """Keys and values of tokens that open every row, soft tokens before them, for later packed batches to read."""
        batch = self.pack([tokens])
        self.tokens_run += sum(batch.spans)
        with self.compute_dtype():
            return capture_prefix(self.network, batch)

    def head_columns(self, token_ids: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The language-model head's weights (tokens, width) and bias, for these tokens or the vocabulary."""
        head = self.network.get_output_embeddings()
        weight, bias = head.weight, getattr(head, "bias", None)
        if token_ids is None:
            return weight, bias
        return weight[token_ids], None if bias is None else bias[token_ids]
