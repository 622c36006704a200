"""Engine options: they change speed and memory, and results only by rounding.

Owns each option's meaning and default. They are no part of a trial's id. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOptions:
    """How networks are run; the defaults are the fastest known.

    A switch that is off runs the plain way that the fast one replaces: `benchmarks/ablation` times both.
    """

    tokens_per_pass: int = 4096
    """Most tokens in one forward pass, or forward and backward pass; larger batches accumulate gradients."""
    padded: bool = False
    """Every sequence of a pass is filled up to its longest, as most trainers do."""
    shared_prefix: bool = True
    """Tokens that open every prompt alike run once and not for every prompt."""
    last_block_rows_only: bool = True
    """After the last block's attention, only the tokens whose states are read go on."""
    separate_frozen_blocks: bool = True
    """Blocks below all that trains run apart, without gradients, and their output is kept."""
    kept_states_share: float = 0.1
    """Share of the device's memory that the output of frozen blocks may take, and apart from it the keys and values of
    shared openings; 0 keeps nothing."""
    score_cache: bool = True
    """Trials of a worker that ask a network that never changes for the same scores share them, on a processor."""
    frozen_in_compute_dtype: bool = True
    """Frozen matrices are held in the compute dtype; else in float32, and cast at every pass."""
    fused_adapters: bool = True
    """LoRA layers run in few matrix products; else as PEFT runs them."""
    fused_blocks: bool = True
    """Llama's blocks run in few large operations; else as Transformers runs them. In bfloat16, matrices that train have
    a copy of half their size beside them."""
    sparse_embedding_gradients: bool = True
    """On a processor, embeddings have gradients for the rows that were read alone; else for the whole vocabulary."""
    label_columns_only: bool = True
    """Single-token label words are scored by their columns of the language-model head, where these are enough."""
    losses_at_once: int = 16
    """Steps whose losses are read from a GPU together; a processor's, and those of split networks, are read each."""
    fused_optimiser: bool = True
    """AdamW updates all parameters in one call of PyTorch's."""
    longest_written_out: int = 128
    """Longest sequences, in tokens, whose attention is written out as matrix products: on a processor the backward pass
    of PyTorch's scaled-dot-product attention is far slower. Longer ones use it, for it needs less memory."""
    most_padding: float = 2.0
    """In attention, sequences share a padded group while it has at most this many times as many places as tokens."""


DEFAULTS = EngineOptions()
"""What the engine does where nothing else is asked."""
